"""A candidate host that is claimed, known and ready: what every attach mode works on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.topology import HostFacts, PciDevice
from harness.stages.access import HostAccess
from harness.stages.given import Session
from harness.stages.leases import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """The run, the host, what it is, and the GPUs that are this run's."""

    session: Session
    access: HostAccess
    facts: HostFacts
    gpus: tuple[PciDevice, ...]
    lease: Lease
    """Without it the run must not act on the host: another one may be clearing its guests."""
