"""What a run is given: values that every stage may read."""

from __future__ import annotations

from dataclasses import dataclass

from harness.attach import attachment
from harness.model.attachment import Attachment
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile, Profile
from harness.model.kernel_codes import KernelCodes
from harness.model.sku import Sku
from harness.ports import Clock
from harness.progress import Progress
from harness.record.recorder import Recorder
from harness.stages.host.access import Labs
from harness.vendors.standin import StandinScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything a run is given."""

    run: str
    recorder: Recorder
    host: HostFile
    profile: Profile
    demands: tuple[GuestDemand, ...]
    clock: Clock
    progress: Progress
    skus: tuple[Sku, ...] = ()
    """The GPU models that the inventory describes."""
    codes: KernelCodes = KernelCodes()
    """What the drivers' codes in a kernel log mean."""
    standin: StandinScenario | None = None
    """What the stand-in plays, on hosts that name a scenario."""
    labs: Labs | None = None
    """Finds lab descriptions, for hosts that a lab starts."""
    wait_seconds: float = 0.0
    """How long to wait for devices that another run holds."""
    resumed: bool = False
    """True for the second life of a killed run: its leftovers are cleared before its guests start anew."""

    @property
    def mode(self) -> Attachment:
        """How the loads get at the GPUs."""
        return attachment(self.profile.attach)
