"""What was seen of GPUs, kernels and the host while load ran: summaries of recorded samples, as values.

The samples themselves lie in the run directory (``telemetry/*.spool.jsonl`` as they came, and as Parquet).
All times are seconds since the boot of the machine they were taken on (CLOCK_BOOTTIME), which is also the
clock of keyed jobs, so that a load and its samples can be laid on each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from harness.model.gpu import Cards, GpuRef
from harness.model.host_change import HostChange
from harness.model.outcome import Action
from harness.model.pci import PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time without samples longer than the profile allows. A gap stays a gap: nothing is interpolated."""

    start: float
    end: float
    reason: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow:
    """When one workload ran."""

    workload: str
    key: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A time for which a reading held: seconds since boot."""

    value: float
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a sensor's readings cannot be believed: found when they were summed up, recorded with its
    reason."""

    rule: str
    """Of ``harness.telemetry.gpu.plausible``."""
    start: float
    end: float
    said: str
    """In words, with the values that decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting, limit or identity that was another one from a moment on."""

    name: str
    at: float
    before: float | str | bool | None
    after: float | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of one load, as one GPU went through it: medians of its samples, None where none was read."""

    workload: str
    key: str
    start: float
    end: float
    samples: int = 0
    util_gpu: float | None = None
    util_gpu_max: float | None = None
    power: float | None = None
    power_max: float | None = None
    clock_sm: float | None = None
    temperature: float | None = None
    busy: float = 0.0
    """Share of its samples in which the GPU computed."""
    clock_busy: float | None = None
    """MHz while it computed."""
    clock_memory: float | None = None
    """MHz of the memory while it computed."""
    free: float = 0.0
    """Share of its samples in which it computed and nothing was said to hold its clock back."""
    clock_free: float | None = None
    """MHz in these."""
    capped: float = 0.0
    """Share of its samples in which the software power cap held it back."""
    power_capped: float | None = None
    """W in these."""
    set_share: float = 0.0
    """Share of its samples in which a setting of application clocks held it back while it computed."""
    quiet: float | None = None
    """Seconds at its end in which the GPU did nothing; None where it does not tell its use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSummary:
    """One sensor over the time of all loads. Values are None when it never gave one."""

    name: str
    unit: str
    offered: bool
    """False: the card does not have it, and said so (``NOT_SUPPORTED``); it is never an error then."""
    count: int = 0
    failed: int = 0
    """Reads that failed with another error, or did not come back in time."""
    first: float | None = None
    last: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    p50: float | None = None
    unchanged_seconds: float = 0.0
    """Longest time under load without any change of the value."""
    grown: float | None = None
    """Of a counter: the sum of all its increments, whatever it fell back to in between."""
    grown_minute: float | None = None
    """Of a counter: the most that it grew in any minute."""
    grown_from: float | None = None
    """Of a counter: when it grew first, in seconds since boot."""
    levels: dict[str, float] = field(default_factory=dict)
    """Of a state: value to seconds in which it held while the GPU computed."""
    held: tuple[Stretch, ...] = ()
    """Of a state: for each value the longest time that it held while the GPU computed."""
    since: dict[str, float] = field(default_factory=dict)
    """Of a state: value to the first moment at which it held while the GPU computed."""
    doubts: tuple[Doubt, ...] = ()
    """Why its readings cannot be believed."""
    detail: str = ""
    """The last error, in NVML's word."""

    @property
    def increase(self) -> float | None:
        """What a counter grew by: its increments; where only its ends are known, last less first."""
        if self.grown is not None:
            return self.grown
        return None if self.first is None or self.last is None else self.last - self.first


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuTelemetry:
    """One GPU, as seen where it is visible (in the guest, or on a bare host)."""

    index: int
    uuid: str
    name: str
    address: PciAddress | None
    """Where the sampler's machine sees it."""
    gpu: GpuRef | None = None
    """Which card it is; None for one that was not handed over."""
    pci_id: str = ""
    """``vendor:device`` in hexadecimal."""
    subsystem: str = ""
    serial: str = ""
    vbios: str = ""
    memory_bytes: int | None = None
    properties: dict[str, float | str | bool | None] = field(default_factory=dict)
    """What does not change: limits, thresholds, modes, ``pcie_max_gen`` ...; None: not offered. What could
    not be read is not there."""
    series: dict[str, SeriesSummary] = field(default_factory=dict)
    """Over the time of all loads; names in ``harness.telemetry.gpu.series``."""
    changes: tuple[Change, ...] = ()
    """Of properties and identity, while the run had the card."""
    settings_asked: int | None = None
    """How often properties and identity were asked again; None: a sampler that never did."""
    reasons: dict[str, float] = field(default_factory=dict)
    """Clock-event reason to seconds under load (``hw_thermal``, ``sw_power_cap`` ...)."""
    reasons_worst: dict[str, Stretch] = field(default_factory=dict)
    """Clock-event reason to the ten minutes (or the load, where it is shorter) with most of it; ``value`` is
    the seconds of it."""
    slices: tuple[Slice, ...] = ()
    """The loads in parts, in order."""
    idle_power: float | None = None
    """W before the first load."""
    gaps: tuple[Gap, ...] = ()
    """Times without a sample that were longer than the profile allows, from the first load's begin to the
    last one's end, in full: also where loads began or ended meanwhile."""
    longest_silence: float | None = None
    """Longest time without a sample, from the first load's begin to the last one's end."""
    span_seconds: float = 0.0
    """From the first load's begin to the last one's end."""
    span_covered: float = 0.0
    """Part of ``span_seconds`` that samples cover."""
    load_seconds: float = 0.0
    covered_seconds: float = 0.0
    """Part of ``load_seconds`` that samples cover."""
    vanished: str = ""
    """When and with which error it stopped answering for good; empty while it answers."""
    unasked: str = ""
    """When and why the sampler's own process for it ended before its time: nobody knows whether the GPU would
    have answered. Empty when it was asked to the end."""
    processes: tuple[str, ...] = ()
    """Names of processes seen on it that were not ours."""

    @property
    def host_address(self) -> PciAddress | None:
        """Its address on the candidate host; None where it is not known which card it is."""
        return None if self.gpu is None else self.gpu.host

    @property
    def place(self) -> str:
        """Which card it is, in words: slot, serial number and host address as far as known."""
        if self.gpu is not None:
            return self.gpu.name
        return "an unknown address" if self.address is None else f"{self.address} in the guest"


class Family(StrEnum):
    """What kind of kernel line it is."""

    XID = "xid"
    SXID = "sxid"
    CODE = "code"
    """A line with a code of any other GPU's driver; ``switch_code`` of a switch's between GPUs."""
    SWITCH_CODE = "switch_code"
    BUS = "bus"
    """``GPU has fallen off the bus``, said without a code."""
    AER = "aer"
    MCE = "mce"
    IOMMU = "iommu"
    HUNG_TASK = "hung_task"
    OOM = "oom"
    KERNEL = "kernel"
    """BUG, Oops, panic, lockup, stall."""


GPU_LINKS = "nvlink_active"  # the series of links to other GPUs that are up
CODE_FAMILIES, SWITCH_FAMILIES = (Family.XID, Family.CODE), (Family.SXID, Family.SWITCH_CODE)
GPU_FAMILIES = (*CODE_FAMILIES, *SWITCH_FAMILIES, Family.BUS)
"""What is a GPU driver's own line: those that carry a code, of a GPU or a switch between GPUs, and others."""


class Ruling(StrEnum):
    """What a kernel event means for the verdict (``inventory/kernel/xids.yaml``)."""

    STOP = "stop"
    """Take the card out: FAIL."""
    RETEST = "retest"
    """FAIL; reset, run the whole stage again; a second hit is STOP."""
    CONFIG = "config"
    """FAIL for a wrong setting, not for the card."""
    LINK = "link"
    """Says nothing by itself: follow the event it comes with."""
    NOTE = "note"
    """Recorded only."""
    UNKNOWN = "unknown"
    """Not in the table: nobody may call it harmless, so it is a FAIL to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEvent:
    """One line of a kernel log that matters."""

    source: str
    """``host`` or the guest's name."""
    at: float | None
    """Seconds since that kernel's boot."""
    family: Family
    line: str
    code: int | None = None
    subcode: int | None = None
    device: PciAddress | None = None
    """On the candidate host; None where the line names none, or one that no guest was handed."""
    inside: PciAddress | None = None
    """As that kernel itself calls it, where that is another address: in a guest."""
    instance: str = ""
    """MIG instance, ``GPU-I:05``."""
    ruling: Ruling = Ruling.UNKNOWN
    meaning: str = ""
    action: Action = Action.NONE

    def on_host(self, cards: Cards) -> KernelEvent:
        """The event of a guest's kernel with its device as the candidate host has it; what the guest's kernel
        calls it stands beside."""
        if cards.same or self.device is None:
            return self
        found = cards.seen_at(self.device)
        return replace(self, device=None if found is None else found.host, inside=self.device)

    @property
    def place(self) -> str:
        """The device in words: ``0000:41:00.0``, or ``0000:02:00.0 in the guest``; or empty."""
        if self.device is not None:
            return str(self.device)
        return "" if self.inside is None else f"{self.inside} in the guest"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelLog:
    """A kernel log that was followed."""

    source: str
    followed_from: float | None
    """None: it could not be followed; ``detail`` says why."""
    followed_to: float | None
    lines: int = 0
    dropped: int = 0
    """Lines that the kernel's buffer lost before they were read, or that were too many to be."""
    events: tuple[KernelEvent, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestTelemetry:
    """All that the sampler of one guest (or of a bare host) brought back."""

    guest: str
    source: str
    """``nvml``, or empty when no NVML could be loaded (``detail`` says why)."""
    standin: str = ""
    """Name of the scenario when the library was our stand-in: then nothing here is about real hardware."""
    driver: str = ""
    library: str = ""
    fast_hz: float = 0.0
    slow_hz: float = 0.0
    started: float | None = None
    ended: float | None = None
    closed: bool = False
    """True when the sampler ended by our own stop and said so; False when it just fell silent."""
    loads: tuple[LoadWindow, ...] = ()
    gpus: tuple[GpuTelemetry, ...] = ()
    kernel: KernelLog | None = None
    hung: tuple[str, ...] = ()
    """NVML calls that did not come back within their deadline."""
    problems: tuple[str, ...] = ()
    """What of the spool could not be read: torn or foreign lines, a clock that went back."""
    spool: str = ""
    parquet: str = ""
    cpu_seconds: float | None = None
    """Processor time that the sampler itself took."""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDeviceTelemetry:
    """One PCI function of the host under load."""

    device: PciAddress
    speed_gts_min: float | None = None
    speed_gts_max: float | None = None
    width_min: int | None = None
    width_max: int | None = None
    aer: dict[str, int] = field(default_factory=dict)
    """AER counter (``correctable``, ``nonfatal``, ``fatal``) to its increase."""
    samples: int = 0
    missing: int = 0
    """Samples in which the function was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTelemetry:
    """The candidate host's own side, while guests (or bare loads) ran."""

    started: float | None
    ended: float | None
    period_seconds: float
    closed: bool = False
    """True when it was watched until our own stop; False when the follower just fell silent."""
    samples: int = 0
    gaps: tuple[Gap, ...] = ()
    devices: tuple[HostDeviceTelemetry, ...] = ()
    temperatures: dict[str, SeriesSummary] = field(default_factory=dict)
    """hwmon ``chip/label`` in degrees Celsius."""
    steal_seconds: dict[str, float] = field(default_factory=dict)
    """CPU to seconds stolen from it by a hypervisor above."""
    foreign_tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Dedicated CPU to user tasks seen running on it that belong to no guest of this run. A CPU that is not
    here was never looked at while its guest ran."""
    hugepages_free_min: dict[str, int] = field(default_factory=dict)
    """``node/page bytes`` to the fewest free pages seen."""
    changes: tuple[HostChange, ...] = ()
    """What changed that should not have, in the order of time."""
    asked: dict[str, int] = field(default_factory=dict)
    """Watched property, and ``property of guest``, to how often it was read; 0 where it never could be."""
    kernel: KernelLog | None = None
    emulator_mended: int = 0
    """How often the lab's guard had to mend what its emulator lost, by its own lines in the kernel's log
    (``harness/lab/native/lapic_guard.c``); 0 on every real host."""
    problems: tuple[str, ...] = ()
    spool: str = ""
    detail: str = ""
