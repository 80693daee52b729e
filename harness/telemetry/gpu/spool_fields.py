"""The lines of a sampler's spool, as ``harness.payload.sampler`` describes them, with what each field can be.

Of a line that has a field which cannot be, nothing is taken.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from harness.serial import strict_json
from harness.telemetry.gpu.spool_lines import Plain

MAX_GPUS = 256

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
"""Unit to what a reading can be at all, an order of magnitude around any card: drivers mark what they do not
know with the largest number (0xffffffff), which no one may take for a reading."""


def _text(most: int) -> BeforeValidator:
    def cut(value: Any) -> Any:
        return "" if value is None else value[:most] if isinstance(value, str) else value

    return BeforeValidator(cut)


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("a name is there twice")
    return names


Moment = Annotated[float, Field(ge=0, le=LATEST, allow_inf_nan=False)]
"""Seconds since boot, or since 1970: in this millennium or the next."""
Amount = Annotated[float, Field(ge=0, lt=ABSURD, allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=0, lt=1 << 64)]
Index = Annotated[int, Field(ge=0, lt=MAX_GPUS)]
Text = Annotated[str, _text(200)]
"""Cut to a sane length; empty when null or missing."""
Names = Annotated[tuple[str, ...], Field(max_length=200, fail_fast=True, strict=False), AfterValidator(_once)]


class Line(BaseModel, strict=True):
    """What any line has. Fields of a later sampler are passed over."""

    mono: Moment


class Start(Line):
    """The first line."""

    format: int
    boot_id: Text = ""
    wall: Moment
    fast_hz: Amount
    slow_hz: Amount
    deadline: Amount


class Library(Line):
    """What answers for the GPUs."""

    source: Text = ""
    standin: Text = ""
    driver: Text = ""
    library: Text = ""
    detail: Text = ""


class OfGpu(Line):
    """A line of one GPU."""

    gpu: Index


class Introduced(OfGpu):
    """What a GPU is, and which values its samples have."""

    uuid: Text = ""
    name: Text = ""
    address: Text = ""
    pci_id: Text = ""
    subsystem: Text = ""
    serial: Text = ""
    vbios: Text = ""
    memory_bytes: Whole | None = None
    properties: Any = None
    """Taken apart by ``plain``: one that cannot be costs only itself."""
    fast: Names
    slow: Names
    not_offered: Names
    settings: Names = ()


class Values(OfGpu):
    """A sample, or settings: in the order in which the GPU was introduced."""

    values: list[Any]


class Process(BaseModel, strict=True):
    """A process on a GPU."""

    pid: Whole
    name: Text = ""
    ours: Any = None


class Processes(OfGpu):
    """All of them."""

    processes: Annotated[list[Process], Field(alias="list", fail_fast=True)]


class Failed(OfGpu):
    """An error of one sensor or call, or the last one of a GPU that is lost or whose process died."""

    name: Text = ""
    call: Text = ""
    error: Text = ""
    status: Any = None


class Late(Line):
    """A call that is over its deadline, or came back after it; ``gpu`` is None while the library started."""

    gpu: Index | None = None
    call: Text = ""
    seconds: Amount


class KernelRecord(Line):
    """A line of the kernel's log; a line that was no record has a text only."""

    t: Moment | None = None
    facility: Whole | None = None
    text: Annotated[str, _text(4096)] = ""


class KernelFrom(Line):
    """From when on the log is followed; ``error``: until when."""

    error: Text = ""


class KernelDropped(Line):
    """Lines that the kernel overwrote before they were read."""

    lines: Whole


class Usage(Line):
    """What the sampler itself has used."""

    cpu_seconds: Amount


class End(Usage):
    """The last line."""

    reason: Text = ""


class Unreadable(ValueError):
    """A line of the spool is not what its type says. Never leaves ``harness.telemetry``."""


L = TypeVar("L", bound=Line)


def decode(line: bytes) -> dict[str, Any]:
    """One line as an object of strict JSON. Raises Unreadable."""
    try:
        data = strict_json(line, beyond=math.nan)
    except ValueError as error:
        raise Unreadable(f"not strict JSON ({str(error)[:80]})") from error
    if not isinstance(data, dict):
        raise Unreadable(f"a {type(data).__name__} instead of an object")
    return data


def read_line(kind: type[L], data: dict[str, Any]) -> L:
    """The line as a value. Raises Unreadable with the first field that cannot be."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise Unreadable(f"{where} is missing") from error
        raise Unreadable(f"{where} is {str(first['input'])[:40]!r}") from error


def plain(values: Any, name: str) -> tuple[dict[str, Plain], str]:
    """An object of plain values, and what was left out of it because it cannot be."""
    if not isinstance(values, dict):
        return {}, f"{name} is no object"
    found: dict[str, Plain] = {}
    wrong = ""
    for key, each in values.items():
        if each is None or isinstance(each, bool):
            found[key[:80]] = each
        elif isinstance(each, str):
            found[key[:80]] = each[:200]
        elif isinstance(each, int | float) and abs(each) < ABSURD:
            found[key[:80]] = float(each)
        else:
            wrong = f"{name}.{key[:80]} is {str(each)[:40]!r}"
    return found, wrong


def reading(value: Any, unit: str) -> float:
    """A sample as a float; NaN for null. Raises Unreadable for what no sensor of that unit can read."""
    if value is None:
        return math.nan
    low, high = RANGES.get(unit, RANGES["1"])
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Unreadable(f"{str(value)[:40]} {unit} cannot be")
    return float(value)
