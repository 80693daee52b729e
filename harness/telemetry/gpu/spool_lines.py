"""What a sampler's spool holds, as values: every line of a sampler by its type."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from harness.model.pci import PciAddress
from harness.model.telemetry import Change
from harness.serial import strict_json
from harness.telemetry.gpu.samples import Samples

ABSURD = 1e18
"""No time, counter or reading is this large."""

LATEST = 1e11
"""Seconds: some 3,000 years."""

RANGES: dict[str, tuple[float, float]] = {
    "W": (0.0, 2e4),
    "J": (0.0, 1e13),
    "degC": (-60.0, 250.0),
    "MHz": (0.0, 2e4),
    "%": (0.0, 1000.0),
    "B": (0.0, 1e15),
    "1": (0.0, ABSURD),
}
"""Unit to what a reading can be at all, an order of magnitude around any card: NVML marks what it does not
know with the largest number (0xffffffff), which no one may take for a reading."""


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
    properties: dict[str, float | str | bool | None] = field(default_factory=dict)
    not_offered: tuple[str, ...] = ()
    settings: dict[str, float | str | bool | None] = field(default_factory=dict)
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


class Unreadable(ValueError):
    """A line of the spool is not what its type says. Never leaves ``harness.telemetry``."""


class Fields:
    """One JSON object, read field by field; raises Unreadable."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def number(self, name: str, *, least: float = -ABSURD) -> float:
        """A finite number of sane size."""
        value = _sane(self.data.get(name))
        if value is None or value < least:
            raise Unreadable(f"{name} is {str(self.data.get(name))[:40]!r}")
        return value

    def moment(self, name: str = "mono") -> float:
        """Seconds since boot, or since 1970: not negative, and in this millennium or the next."""
        value = self.number(name, least=0.0)
        if value > LATEST:
            raise Unreadable(f"{name} is {str(value)[:40]!r}")
        return value

    def integer(self, name: str) -> int:
        """A whole number that is not negative."""
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
            raise Unreadable(f"{name} is {str(value)[:40]!r}")
        return value

    def text(self, name: str, *, most: int = 200) -> str:
        """A text, cut to a sane length; empty when null or missing."""
        value = self.data.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Unreadable(f"{name} is {str(value)[:40]!r}")
        return value[:most]

    def names(self, name: str) -> tuple[str, ...]:
        """A list of texts, each there once."""
        value = self.data.get(name)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise Unreadable(f"{name} is no list of names")
        if len(set(value)) != len(value) or len(value) > 200:
            raise Unreadable(f"{name} holds a name twice, or too many")
        return tuple(value)

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self.data.get(name)
        if not isinstance(value, list):
            raise Unreadable(f"{name} is no list")
        return value

    def properties(self, name: str) -> tuple[dict[str, float | str | bool | None], str]:
        """An object of plain values, and what was left out of it because it cannot be."""
        value = self.data.get(name)
        if not isinstance(value, dict):
            return {}, f"{name} is no object"
        found: dict[str, float | str | bool | None] = {}
        wrong = ""
        for key, each in value.items():
            read = each[:200] if isinstance(each, str) else each
            if not (each is None or isinstance(each, bool | str)):
                read = _sane(each)
                if read is None:
                    wrong = f"{name}.{key[:80]} is {str(each)[:40]!r}"
                    continue
            found[key[:80]] = read
        return found, wrong


def decode(line: bytes) -> Fields:
    """One line as an object of strict JSON. Raises Unreadable."""
    try:
        data = strict_json(line, beyond=math.nan)
    except ValueError as error:
        raise Unreadable(f"not strict JSON ({str(error)[:80]})") from error
    if not isinstance(data, dict):
        raise Unreadable(f"a {type(data).__name__} instead of an object")
    return Fields(data)


def _sane(value: Any) -> float | None:
    """A finite number of sane size as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < ABSURD:
        return None
    return float(value)


def reading(value: Any, unit: str) -> float:
    """A sample as a float; NaN for null. Raises Unreadable for what no sensor of that unit can read."""
    if value is None:
        return math.nan
    low, high = RANGES.get(unit, RANGES["1"])
    read = _sane(value)
    if read is None or not low <= read <= high:
        raise Unreadable(f"{str(value)[:40]} {unit} cannot be")
    return read


def settings_of(fields: Fields) -> dict[str, float | str | bool | None]:
    """Names of what is asked again, with what the ``gpu`` line said of each; empty for an older sampler."""
    if fields.data.get("settings") is None:
        return {}
    said, _ = fields.properties("properties")
    said |= {name: text for name in ("uuid", "name", "serial", "vbios") if (text := fields.text(name))}
    return {name: said.get(name) for name in fields.names("settings")}


def whole(fields: Fields, name: str) -> int | None:
    """A whole number; None where it is null."""
    return None if fields.data.get(name) is None else fields.integer(name)


def address_of(text: str) -> tuple[PciAddress | None, str]:
    """The address, and what is wrong with the text if it is none."""
    try:
        return (PciAddress.parse(text) if text else None), ""
    except ValueError:
        return None, f"address is {text[:40]!r}"
