"""What a sampler's spool holds, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.pci import PciAddress
from harness.model.telemetry import Change
from harness.telemetry.gpu.samples import Samples

Plain = float | str | bool | None
"""What a property or setting can be; None: not offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HungCall:
    """A call that was over its deadline."""

    at: float
    call: str
    seconds: float
    gpu: int | None
    returned: float | None = None
    """When it came back after all; ``seconds`` is then how long it took in all."""

    @property
    def began(self) -> float:
        """When it was made."""
        return (self.at if self.returned is None else self.returned) - self.seconds


@dataclass(slots=True, kw_only=True)
class GpuSpool:
    """One GPU in the spool."""

    index: int
    uuid: str = ""
    name: str = ""
    address: PciAddress | None = None
    pci_id: str = ""
    subsystem: str = ""
    serial: str = ""
    vbios: str = ""
    memory_bytes: int | None = None
    properties: dict[str, Plain] = field(default_factory=dict)
    not_offered: tuple[str, ...] = ()
    settings: dict[str, Plain] = field(default_factory=dict)
    """Properties and identity as they were last read; empty when they are not asked again."""
    changes: list[Change] = field(default_factory=list)
    """Of them, in order."""
    settings_asked: int = 0
    fast: Samples = field(default_factory=Samples)
    slow: Samples = field(default_factory=Samples)
    errors: dict[str, str] = field(default_factory=dict)
    """Sensor, or call, to the last error that it gave."""
    lost: list[tuple[float, str]] = field(default_factory=list)
    """When and how the driver said that it is gone."""
    died: list[tuple[float, str]] = field(default_factory=list)
    """When and how the sampler's own process that asked it ended: whoever is to blame for that, it was not
    asked any more."""
    foreign: set[str] = field(default_factory=set)
    """Processes on it that are not ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLine:
    """One record of the kernel's log; a line that was no record has a text only."""

    at: float | None
    """Seconds since boot."""
    facility: int | None
    """0: the kernel's own; 1: written by a program."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spool:
    """All that a sampler wrote. What could not be read is told in ``problems`` and never raises."""

    boot_id: str
    started: float
    wall: float
    fast_hz: float
    slow_hz: float
    deadline: float
    source: str = ""
    standin: str = ""
    driver: str = ""
    library: str = ""
    detail: str = ""
    gpus: tuple[GpuSpool, ...] = ()
    hung: tuple[HungCall, ...] = ()
    kernel: tuple[KernelLine, ...] = ()
    kernel_from: float | None = None
    """When the log was first read; None when it was not followed."""
    kernel_until: float | None = None
    """When it could be read no more; None while it could."""
    kernel_error: str = ""
    kernel_dropped: int = 0
    last: float
    """The last moment that any line tells of."""
    ended: float | None = None
    """When it said that it ends; None when it fell silent."""
    end_reason: str = ""
    cpu_seconds: float | None = None
    problems: tuple[str, ...] = ()
