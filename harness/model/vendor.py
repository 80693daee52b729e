"""What tells the makers of GPUs apart: names in text, engines, and what a person does about a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from harness.model.outcome import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """What a person types. ``{gpu}`` is the GPU's index, ``{value}`` a number; empty: not known."""

    show: str = ""
    """Shows all settings and figures of the GPUs."""
    show_clocks: str = ""
    default_clocks: str = ""
    """Takes back clocks that somebody set."""
    power_limit: str = ""
    """Sets the power limit to ``{value}`` W."""
    ecc_on: str = ""
    clear_memory: str = ""
    """Clears a GPU's memory between tenants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The words of one maker's drivers, for messages and remedies. As it stands: of one that nobody knows."""

    library: str = "the GPU driver's library"
    """Which tells the telemetry."""
    code: str = "GPU driver's error"
    """What its driver writes into the kernel log about a failure."""
    lost: str = "errors of the GPU driver"
    """What it writes about a GPU that is gone from the bus."""
    hung: str = "time-outs of the GPU driver"
    """What it writes when the GPU's firmware does not answer."""
    start: str = "firmware, BAR"
    """What its driver's reason may name when it does not take a GPU."""
    reset_required: str = ""
    """Part of the library's error where a GPU answers only after a reset; empty: it has no such error."""
    sram: str = "the maker's"
    """Whose threshold of SRAM errors it is."""
    recovery: Mapping[int, tuple[str, Action]] = field(default_factory=dict)
    """Value of the sensor ``recovery_action`` to what the driver asks for, in words and as an action; 0 is
    nothing."""
    commands: Commands = Commands()


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorNames:
    """The names of one maker of GPUs, as PCI, kernel and libraries use them."""

    name: str
    """As people write it."""
    pci_ids: tuple[str, ...]
    """PCI vendor ids, four lower-case hex digits each."""
    emulated: bool = False
    """True: no product, so nothing is demanded of its models."""
    modules: tuple[str, ...] = ()
    """Kernel modules that drive its GPUs, the vendor's own first."""
    driver: str = ""
    """The one of them that loads on its GPUs need; empty: no load computes on them."""
    waiting: tuple[str, ...] = ()
    """Those of its modules that wait without end for a GPU's users when the GPU is taken from them."""
    stop_users: str = ""
    """How a person ends the programs that hold its GPUs: shell words."""
    switches: tuple[tuple[str, str], ...] = ()
    """Switches between its GPUs: PCI vendor id, and what the class begins with."""
    repeats: tuple[str, ...] = ()
    """Modules that say their name again behind the device: ``DRIVER 0000:41:00.0: DRIVER: ring ...``."""
    marks: tuple[str, ...] = ()
    """What stands before the words of its drivers instead of driver and device."""
    log_words: tuple[str, ...] = ()
    """What its lines in a kernel log hold, in lower case: extended regular expressions without backslashes.
    The names of its modules are among them where they are no common words."""
    device_files: tuple[str, ...] = ()
    """Patterns below /dev of the files by which programs reach its GPUs; ``*`` stands for any text."""
    device_file: str = ""
    """What the names of its GPUs' files below /dev begin with; a number follows. Empty: DRM's files alone."""
    minor_file: str = ""
    """File that tells a GPU's number as ``Device Minor: N``; ``{address}`` stands for its PCI address."""
    code_tables: Mapping[str, str] = field(default_factory=dict)
    """Family of a kernel event to the table in ``inventory/kernel`` that rules its codes."""
    telemetry: str = ""
    """What a record calls the source of its telemetry; empty: none is read."""
    image: str = ""
    """Kind of guest image that has its driver; empty: none is built."""
    packages: tuple[str, ...] = ()
    """Python packages on the controller that its telemetry comes by; a record keeps their versions."""
    engines: tuple[str, ...] = ()
    """Engines beside its cores, as files of GPU models count them."""
    encoders: tuple[str, ...] = ()
    """Those of them that encode video."""
    advice: Advice = Advice()


class Kind(StrEnum):
    """How a sensor's values are to be read."""

    GAUGE = "gauge"
    COUNTER = "counter"
    """Only ever grows while the driver runs."""
    STATE = "state"
    """A number that names a state: 0 or 1, or a generation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One series of a GPU: its name, unit and kind, and whether the fast or the slow round reads it."""

    name: str
    unit: str
    kind: Kind = Kind.GAUGE
    fast: bool = False
    asks: str
    """The question to the driver's library, with what tells it from others of the same function."""
    dcgm: str = ""
    """Name in DCGM and its exporter, where one is in common use; without the prefix ``DCGM_FI_DEV_``."""
    dcgm_factor: float = 1.0
    """DCGM's number is ours times this: its units differ (framebuffer in MiB, energy in mJ)."""
