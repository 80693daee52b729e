"""What the NVML stand-in pretends: GPUs, the load on them, and faults by the clock (``inventory/standins``).

The library itself is ``native/nvml_standin*.c``; it reads what ``scenario.py`` beside this file
renders from these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

_STRICT: dict[str, Any] = {"extra": "forbid"}

MOST_GPUS = 16
"""As many as the library has room for (``MAX_GPUS``)."""
MOST_FAULTS = 64
MOST_LOADS = 256
MOST_SERIES = 64
MOST_POINTS = 4096
"""Of all series of a scenario together."""
MOST_TEXTS = 64


class StandinStart(StrEnum):
    """What ``nvmlInit`` answers."""

    OK = "ok"
    DRIVER_NOT_LOADED = "driver_not_loaded"
    VERSION_MISMATCH = "version_mismatch"
    NO_PERMISSION = "no_permission"
    HANG = "hang"


class StandinFaultKind(StrEnum):
    """What goes wrong, and what ``value``, ``rate`` and ``what`` then mean."""

    THROTTLE = "throttle"
    """Clocks and power fall; ``what``: a clock-event reason (``harness.telemetry.gpu.series.REASONS``)."""
    ECC = "ecc"
    """``value`` errors at once, ``rate`` a second; ``what``: ``dram corrected``, ``sram uncorrected`` ..."""
    REMAP = "remap"
    """Remapped rows, likewise; ``what``: ``corrected``, ``uncorrected``, ``pending``, ``failure``."""
    RETIRED = "retired"
    """Retired pages of a card without row remapping; ``what``: ``single``, ``double`` or ``pending``."""
    XID = "xid"
    """The kernel log says Xid ``value`` of this GPU; ``what``: the rest of the line."""
    LOG = "log"
    """The kernel log says ``what``, at level ``value``."""
    VANISH = "vanish"
    """Every call answers GPU_IS_LOST."""
    HANG = "hang"
    """The call ``what`` (``*``: any) takes ``value`` seconds; 0: it never comes back."""
    FREEZE = "freeze"
    """Gauges stay as they are."""
    UNSUPPORTED = "unsupported"
    """The call ``what``, or ``field N`` of nvmlDeviceGetFieldValues, answers NOT_SUPPORTED."""
    FAILING = "failing"
    """The same with NVML's error number ``value``."""
    LINK_GEN = "link_gen"
    """Under load the PCIe link runs at generation ``value``."""
    LINK_WIDTH = "link_width"
    """Under load it has ``value`` lanes."""
    REPLAY = "replay"
    """PCIe replays: ``value`` at once and ``rate`` a second."""
    HOT = "hot"
    """The core grows ``value`` degrees hotter than it would."""
    MEMORY_HOT = "memory_hot"
    """The memory does."""
    NVLINK = "nvlink"
    """NVLink errors; ``what``: link and counter, ``3 replay``, ``0 recovery``, ``1 crc``, ``0 packet``."""
    NVLINK_DOWN = "nvlink_down"
    """Link ``value`` is down."""
    PROCESS = "process"
    """Process ``value`` uses the GPU and ``rate`` bytes of it; ``what``: ``compute`` or ``graphics``."""


class StandinClock(StrEnum):
    """What the seconds of a fault or a series count from."""

    START = "start"
    """NVML's first start with this scenario."""
    LOAD = "load"
    """The moment when a load was first seen, however long the boot took."""


class StandinForm(StrEnum):
    """What a reading shows between two points of a series."""

    LINEAR = "linear"
    STEP = "step"
    """The earlier one's value."""


class StandinApply(StrEnum):
    """What the values of a series are to what the card itself would show."""

    SET = "set"
    ADD = "add"
    SCALE = "scale"


class StandinMissing(StrEnum):
    """What a call answers where a point has no value (null)."""

    FAILED = "failed"
    """NVML_ERROR_UNKNOWN."""
    NOT_OFFERED = "not_offered"
    """NVML_ERROR_NOT_SUPPORTED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinFault:
    """One fault; times are seconds on its clock."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    kind: StandinFaultKind
    gpu: int | None = None
    """NVML's index; None: each of them."""
    at: float = 0.0
    until: float | None = None
    """None: for good. Counters keep what they have counted."""
    value: float = 0.0
    rate: float = 0.0
    what: str = ""
    clock: StandinClock = StandinClock.START
    probability: float = 1.0
    """That it strikes a call, of hang, unsupported and failing."""


StandinValue = float | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinSeries:
    """A reading that follows points in time, in every function of NVML that tells it.

    Before the first point, and from ``until`` on, the reading is the card's own. After the last one its value
    stays. Of several series of one reading each works on what the one before it made; faults come before all.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    reading: str
    """A name of ``READINGS`` in ``scenario.py``: each sensor, property and text of the
    identity, and the causes ``load`` (0 to 1, while there is load), ``ambient`` (degC) and ``clock_cap``
    (MHz; 0: none)."""
    points: tuple[tuple[float, StandinValue], ...]
    """``[seconds, value]``, in the reading's unit, in order of time; two at one time are a jump. null: the
    call fails until the next point. A text for texts; for ``reasons`` also names, joined by ``+``."""
    gpu: int | None = None
    """NVML's index; None: each of them."""
    clock: StandinClock = StandinClock.START
    form: StandinForm | None = None
    """None: linear; step for states, texts and what is yes or no."""
    apply: StandinApply = StandinApply.SET
    rate: bool = False
    """A counter's values are what it grows by in a second. Else they are what it has counted; one that falls
    is a reset."""
    noise: float = 0.0
    """Standard deviation, new every 0.1 s, by the scenario's seed."""
    repeat: float | None = None
    """Seconds after which the points begin again with the first one."""
    until: float | None = None
    missing: StandinMissing = StandinMissing.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinLoad:
    """How busy the GPUs are from a moment on."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    at: float
    share: float
    """0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinCard:
    """The card that all GPUs of a scenario are. None: as the library has it (``CARD``, see its sources)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str = "Shakedown stand-in"
    pci_id: str = "1234:11e8"
    """``vendor:device``. This one is QEMU's ``edu`` device, which is no GPU of any model."""
    subsystem: str = "1af4:1100"
    vbios: str | None = None
    memory_bytes: int | None = None
    power_idle: float | None = None
    """W; ``power_peak`` is what it would draw at full load, ``power_limit`` what it may."""
    power_peak: float | None = None
    power_limit: float | None = None
    power_default: float | None = None
    power_min: float | None = None
    power_max: float | None = None
    ambient: float | None = None
    """degC of the air; ``rise`` is what full load adds, within some ``lag`` seconds."""
    rise: float | None = None
    lag: float | None = None
    memory_rise: float | None = None
    slowdown: float | None = None
    shutdown: float | None = None
    gpu_max: float | None = None
    memory_max: float | None = None
    sm_idle: float | None = None
    """MHz."""
    sm_peak: float | None = None
    memory_clock_idle: float | None = None
    memory_clock_peak: float | None = None
    pcie_gen: int | None = None
    pcie_gen_idle: int | None = None
    pcie_width: int | None = None
    nvlinks: int | None = None
    nvlink_version: int | None = None
    """3: totals count; 4: totals stay zero, each link counts; 5: ``packet`` and ``recovery`` of all links."""
    ecc: int | None = None
    """1: on; 0: off; -1: the card has none."""
    ecc_pending: int | None = None
    sram_exceeded: int | None = None
    """1: more uncorrectable SRAM errors in its life than NVIDIA puts up with."""
    recovery: int | None = None
    """What nvmlDeviceGpuRecoveryAction_t the driver asks for; 0: none."""
    persistence: int | None = None
    mig: int | None = None
    """1: on; 0: off; -1: the card has none."""
    mig_pending: int | None = None
    """What it will be after the next reset."""
    remap_banks: int | None = None
    """0: the card retires pages instead of remapping rows."""
    tlimit: int | None = None
    """1: as Ada and later, it tells a margin to ``gpu_max`` instead of absolute thresholds."""
    ramp: float | None = None
    """Seconds within which the power follows the load."""
    linger: float | None = None
    """Seconds for which clocks stay up after it."""
    quick: float | None = None
    """Share of the heat that shows at once; the rest comes with the heat sink, within ``lag``."""
    neighbour: float | None = None
    """Degrees that a card at full load adds to the one beside it."""
    leak: float | None = None
    """Share of power that a degree above 50 adds; ``droop``: MHz that one above 40 costs."""
    droop: float | None = None
    util_window: float | None = None
    """Seconds over which utilisation is averaged."""
    spread: float | None = None
    """Standard deviation, as a share, of power and heat between cards of one scenario."""
    draught: float | None = None
    """Degrees, standard deviation, by which the air at a card wanders in half a minute."""
    fans: int | None = None
    """0: the card is cooled by its server, and tells no speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandinScenario:
    """``inventory/standins/NAME.yaml``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    description: str = ""
    seed: int = 1
    driver: str = "575.57.08"
    """The library appends ``-shakedown-standin``."""
    nvml: str = "12.575.57.08"
    cuda: int = 12090
    start: StandinStart = StandinStart.OK
    card: StandinCard = StandinCard()
    load: tuple[StandinLoad, ...] = (StandinLoad(at=0.0, share=0.9),)
    follow_loads: bool = False
    """The GPUs are busy only while a load of the run goes on; else by ``load`` alone, whatever runs."""
    faults: tuple[StandinFault, ...] = ()
    series: tuple[StandinSeries, ...] = ()
