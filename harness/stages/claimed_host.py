"""A candidate host that is claimed, known and ready: what every attach mode works on."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice
from harness.stages.context import RunContext
from harness.stages.host.access import HostAccess
from harness.stages.host.leases import Lease
from harness.telemetry.host.grounds import GuestWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedHost:
    """The run, the host, what it is, and the GPUs that are this run's."""

    context: RunContext
    access: HostAccess
    facts: HostFacts
    gpus: tuple[PciDevice, ...]
    lease: Lease
    """Without it the run must not act on the host: another one may be clearing its guests."""
    unreleased: set[str] = field(default_factory=set)
    """Guests that may still have their devices; while there are any, the claims are kept."""
    dedicated: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Domain to the CPUs of the host that it was given; grows as guests come and go."""
    windows: dict[str, GuestWindow] = field(default_factory=dict)
    """Guest to the time in which nothing of it may change; grows as guests are looked at."""
    planted: set[PciAddress] = field(default_factory=set)
    """Devices in which earlier guests of this run left their pattern."""
