"""What inventory files say, as values: hosts, profiles, labs and waivers. Loaded by ``harness.config.files``.

Every class forbids unknown keys (``__pydantic_config__`` is read by pydantic; nothing is imported here).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.model.access import fault_of
from harness.model.bounds import LONGEST, MOST_GPUS, MOST_MIB, bounded
from harness.model.guest import DEFAULT_ATTACH, PlacementPolicy
from harness.model.outcome import Severity, SubjectKind

_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SshAccess:
    """How a host is reached. ``known_hosts`` pins its key; host keys are never accepted blindly."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    address: str
    port: int = 22
    user: str = "root"
    identity_file: str | None = None
    known_hosts: str | None = None
    proxy_jump: str | None = None
    """``[USER@]HOST[:PORT]``, several with commas between them: machines to go through, in this order."""
    config: str | None = None
    """Path of an ssh configuration to heed; without it neither the user's nor the system's is heeded."""
    connect_timeout_seconds: float = 10.0

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        # pydantic's own hook, as in ``PciAddress``.
        from pydantic_core import core_schema  # noqa: PLC0415

        def usable(value: SshAccess) -> SshAccess:
            fault = fault_of(value)
            if fault is not None:
                raise ValueError(": ".join(fault))
            return value

        return core_schema.no_info_after_validator_function(usable, handler(source))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostControlRef:
    """Which HostControl backend starts the host: ``none`` (it is simply there) or ``lab``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    kind: str = "none"
    lab: str | None = None
    """Name of the description in ``inventory/labs`` when ``kind`` is ``lab``."""


@bounded(speed_gts=(0, 1000), width=(0, 64))
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedLink:
    """The link a healthy card of this host has (compared with what the host says)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    speed_gts: float | None = None
    width: int | None = None


@bounded(expected_gpus=(0, MOST_GPUS))
@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """``inventory/hosts/NAME.yaml``: one candidate host."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    description: str = ""
    subject: SubjectKind = SubjectKind.HARDWARE
    ssh: SshAccess | None = None
    """None when ``control`` supplies the access (the lab does)."""
    control: HostControlRef = HostControlRef()
    placement: PlacementPolicy = PlacementPolicy()
    expected_gpus: int | None = None
    expected_link: ExpectedLink | None = None
    """Of each GPU's root port."""
    guest_image: str = "cpu"
    """``cpu``, a vendor's (``image`` in its names), or the path of a qcow2 that meets the contract in
    CONTRIBUTING.md."""
    image_dirs: tuple[str, ...] = ()
    """Directories on the host where guest images may already lie, by hash."""
    work_dir: str = "/var/lib/shakedown"
    allow_sharing: bool = False
    """True lets a run go ahead beside domains it did not create."""
    waivers: tuple[str, ...] = ()
    """Names of files in ``inventory/waivers``."""
    nvml_standin: str = ""
    """Name of a scenario in ``inventory/standins``: loads of this host see our stand-in of the driver's
    library, not a driver. Only for hosts whose subject is ``standin`` or ``lab``."""

    @property
    def scenario(self) -> str:
        """The same, for whoever need not know whose library it is."""
        return self.nvml_standin


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSpec:
    """Acceptance limits of one measurement, with the reason for the number."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    lower: float | None = None
    upper: float | None = None
    reason: str = ""


@bounded(gpus=(0, MOST_GPUS))
@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """A guest that a profile demands: ``gpus`` devices and the workloads to run in it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    gpus: int
    workloads: tuple[str, ...] = ()


@bounded(gpus=(0, MOST_GPUS))
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """An entry of a profile's ``guests``: one guest, or some that live at the same time."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    gpus: int | None = None
    workloads: tuple[str, ...] = ()
    together: tuple[GuestSpec, ...] = ()
    """Guests that are placed beside each other, and loaded at the same time; instead of ``gpus``."""

    @property
    def members(self) -> tuple[GuestSpec, ...]:
        """The guests of this entry."""
        return self.together or (GuestSpec(gpus=self.gpus or 0, workloads=self.workloads),)


@bounded(
    fast_hz=(0.001, 1000),
    slow_hz=(0.001, 1000),
    max_gap_seconds=(0, LONGEST),
    host_period_seconds=(0.01, LONGEST),
    host_max_gap_seconds=(0, LONGEST),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySpec:
    """How closely loads are watched."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    fast_hz: float = 10.0
    """Power, temperature, clocks, reasons, utilisation."""
    slow_hz: float = 1.0
    """ECC, remapped rows, links, processes."""
    max_gap_seconds: float = 2.0
    """A longer time without a sample is a gap."""
    host_period_seconds: float = 5.0
    """Time from one sample of the host to the next."""
    host_max_gap_seconds: float | None = None
    """A longer time without a sample of the host is a gap; None: two periods and a second, which one slow
    sample may take."""

    @property
    def host_gap_seconds(self) -> float:
        """The longest time without a sample of the host that is no gap."""
        if self.host_max_gap_seconds is not None:
            return self.host_max_gap_seconds
        return 2.0 * self.host_period_seconds + 1.0


@bounded(floor=(0, 1), least_runs=(1, 1000))
@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualizationSpec:
    """What a guest may lose against the bare machine (``--compare``)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    floor: float = 0.97
    """Least share of the bare machine's rate that a guest must reach; for latencies, the bare machine's
    share of the guest's."""
    floors: dict[str, float] = field(default_factory=dict)
    """The same for single measurements, by name."""
    least_runs: int = 3
    """Rounds that either side must have measured: one sample decides nothing."""


@bounded(floor=(0, 1), least_runs=(1, 1000))
@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbanceSpec:
    """What a guest may lose to neighbours that are loaded at the same time, against guests like it alone.

    The numbers are our own choice: nobody publishes any that hold for whole GPUs with cores and memory of
    their own. What such tenants still share (PCIe switches, a node's memory and caches, power and cooling)
    may cost more than virtualisation does, hence a lower floor than that of ``VirtualizationSpec``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    floor: float = 0.9
    """Least share of its rate alone that a guest must keep beside neighbours; for latencies, the share that
    the one alone is of the one beside neighbours."""
    floors: dict[str, float] = field(default_factory=dict)
    """The same for single measurements, by name."""
    least_runs: int = 3
    """Values that either side must have, 2 at least: one sample decides nothing."""


@bounded(
    burn_seconds=(0, LONGEST),
    workload_deadline_seconds=(0, LONGEST),
    memory_on_node_share=(0, 1),
    valid_days=(0, 3660),
    vcpus_per_gpu=(1, 1 << 16),
    memory_mib_per_gpu=(1, MOST_MIB),
    boot_deadline_seconds=(0, LONGEST),
    boot_deadline_per_gpu_seconds=(0, LONGEST),
    boot_deadline_per_gib_seconds=(0, LONGEST),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """``inventory/profiles/NAME.yaml``: what we demand of a host."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    description: str = ""
    checks: dict[str, Severity]
    """Check id to severity: the set that must be accounted for, whatever happened to run."""
    guests: tuple[GroupSpec, ...]
    """One after the other."""
    attach: str = DEFAULT_ATTACH
    """Name of an attach mode (``harness.attach``). Where the loads run on the machine itself, ``guests`` has
    one entry, of 0 GPUs: the machine with all it has."""
    telemetry: TelemetrySpec = TelemetrySpec()
    virtualization: VirtualizationSpec = VirtualizationSpec()
    disturbance: DisturbanceSpec = DisturbanceSpec()
    burn_seconds: float = 0.0
    """Workloads of each guest repeat in rounds for at least this long; 0: one round."""
    default_workloads: tuple[str, ...] = ()
    """For guests asked for with ``--gpus`` that the profile does not list."""
    vcpus_per_gpu: int | None = None
    memory_mib_per_gpu: int | None = None
    workload_deadline_seconds: float = 1800.0
    """How long one workload may take before it is stopped."""
    workload_parameters: dict[str, dict[str, int | float | str | bool]] = field(default_factory=dict)
    limits: dict[str, LimitSpec] = field(default_factory=dict)
    """Measurement name to limits."""
    memory_on_node_share: float = 0.99
    """Least share of a guest cell's resident pages that must lie on its planned node."""
    valid_days: int = 30
    """How long a verdict stands."""
    boot_deadline_seconds: float = 600.0
    boot_deadline_per_gpu_seconds: float = 60.0
    boot_deadline_per_gib_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """One accepted deviation: a FAIL of ``check`` on matching subjects does not decide the verdict."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    id: str
    check: str
    subject: str = "*"
    """A glob over check subjects."""
    owner: str
    reason: str
    expires: str
    """ISO date, inclusive; an expired waiver carries nothing."""
    subject_kinds: tuple[SubjectKind, ...] = ()
    """Kinds of subject it may be used on; empty for any."""


SCENARIO_KEY = "nvml_standin"
"""Of ``HostFile.scenario`` in a host's file."""
LAB_DEVICES = ("edu", "nvme", "virtio-rng")
"""Kinds of a lab's devices: the emulated accelerator, and two for link, AER and reset."""


@bounded(node=(-1, 1 << 16), link_speed_gts=(0, 1000), link_width=(0, 64))
@dataclass(frozen=True, slots=True, kw_only=True)
class LabDevice:
    """One device of a lab and the root port it sits on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    kind: str = LAB_DEVICES[0]
    """One of ``LAB_DEVICES``."""
    node: int | None = None
    """NUMA node of its expander bus; null puts it on a bus of no known node."""
    companion: bool = False
    """Give it a second function, as a GPU brings its audio function."""
    link_speed_gts: float = 16.0
    link_width: int = 16
    label: str = ""


@bounded(cores=(0, 4096), memory_mib=(0, MOST_MIB), hugepages_2m=(0, MOST_MIB))
@dataclass(frozen=True, slots=True, kw_only=True)
class LabNode:
    """One NUMA node of a lab."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    cores: int
    memory_mib: int
    hugepages_2m: int = 0


@bounded(threads_per_core=(1, 64), distance=(0, 255), disk_gib=(0, 1 << 20))
@dataclass(frozen=True, slots=True, kw_only=True)
class LabFile:
    """``inventory/labs/NAME.yaml``: an emulated candidate host."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    description: str = ""
    nodes: tuple[LabNode, ...]
    threads_per_core: int = 1
    distance: int = 21
    iommu: str = "intel"
    """``intel``, ``amd`` or ``none``."""
    interrupt_remapping: bool = False
    nested_virtualization: bool = True
    devices: tuple[LabDevice, ...]
    disk_gib: int = 6
    kernel_arguments: tuple[str, ...] = ()
