"""What a workload is, and how its output is read: strictly, since a guest may say anything.

A workload never judges inside the guest. Its payload prints what it *observed*, one line of strict JSON;
``parse`` here compares that with answers the controller computes itself. Output that is truncated, mixed
with other text, localised, or full of absurd numbers raises ParseError or makes a wrong answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.model.pci import PciAddress
from harness.reading import reader
from harness.serial import strict_json
from harness.vendors import loads
from harness.workloads.spec import Scalar, WorkloadSpec

ABSURD = 1e18
"""No count, rate or time of any workload is this large: such a number is an unreadable one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDevice:
    """A device handed to the guest: where the guest sees it, what it is, and which one it is on the host."""

    address: PciAddress
    vendor: str
    device: str
    host: PciAddress
    companion: bool = False
    """True for functions that only travel with a GPU (its audio function): nobody exercises them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things lie in the guest (the image contract)."""

    python: str = "/usr/bin/python3"
    payload: str = "/opt/shakedown/payload"
    tensorflow: str = "/opt/tf"
    """A ``pip --target`` directory."""
    jobs: str = "/run/shakedown/jobs"
    work: str = "/run/shakedown/work"
    binding: str = "/usr/lib/python3/dist-packages"
    """Folder with the Python binding of the GPU driver's library: payloads see no installed packages."""

    @property
    def start(self) -> str:
        """What starts a module of the payload."""
        return f"{self.payload}/harness/payload/start.py"

    @property
    def runner(self) -> str:
        """What keeps jobs."""
        return f"{self.payload}/harness/payload/runner.sh"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One workload to run once in one guest."""

    key: str
    """Unique in the guest, letters, digits, ``.``, ``_`` and ``-``: starting it twice starts it once."""
    guest: str
    tenant: str
    """Who uses the devices, unique among all tenants they ever have: run id and guest name."""
    vcpus: int = 1
    devices: tuple[GuestDevice, ...] = ()
    parameters: Mapping[str, Scalar] = field(default_factory=dict)
    """From the profile; what is missing takes the workload's default."""
    siblings: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """The same of all workloads of the profile, for one that runs others."""
    place: Place = Place()


ENGINE_WORDS = ("auto", "cpu", "gpu")
"""What a workload's ``engine`` parameter may be."""


def demanded_engine(job: Job, word: str) -> str:
    """``cpu`` or ``gpu``: ``auto`` demands the GPU engine wherever a GPU was handed over.

    Decided by what the job's machine *has*, never by what happens to work there: so a broken engine is a
    failure and never a silent change to the processor. Raises ConfigError for other words, and for ``gpu``
    without a GPU.
    """
    has = bool(gpus(job))
    if word not in ENGINE_WORDS:
        raise ConfigError(f"engine: {word!r} is not one of {', '.join(ENGINE_WORDS)}")
    if word == "gpu" and not has:
        raise ConfigError(
            f"the profile requires the GPU engine, but {job.guest} has no GPU with one",
            remedy=f"use engine: auto, or a host with {loads.MAKER} GPUs",
        )
    return "gpu" if word != "cpu" and has else "cpu"


def gpus(job: Job) -> tuple[GuestDevice, ...]:
    """The job's devices that have GPU engines; their order is that of the machine's PCI addresses."""
    mine = (d for d in job.devices if d.vendor == loads.PCI_ID and not d.companion)
    return tuple(sorted(mine, key=lambda d: d.address))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What a payload's output says, compared."""

    engine: str
    answers: tuple[Answer, ...]
    measurements: tuple[Measurement, ...]
    versions: dict[str, str]


class Workload(Protocol):
    """A load with known answers. Implementations are pure: argv out, bytes in."""

    @property
    def spec(self) -> WorkloadSpec:
        """What it is, as data."""

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError for parameters it cannot take."""

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Compare what the payload observed with what it must be. Raises ParseError on anything odd."""


def settings(workload: WorkloadSpec, job: Job) -> dict[str, Any]:
    """The job's parameters over the defaults. Raises ConfigError for unknown names and wrong types."""
    known = workload.defaults
    for name, value in job.parameters.items():
        if name not in known:
            raise ConfigError(
                f"workload {workload.name}: unknown parameter {name!r} (known: {', '.join(known)})"
            )
        wanted = type(known[name])
        fits = type(value) is wanted or (wanted is float and type(value) is int)
        if not fits:
            raise ConfigError(
                f"workload {workload.name}: {name} must be of type {wanted.__name__}, not {value!r}"
            )
        if isinstance(value, int | float) and not (math.isfinite(value) and 0 <= value < ABSURD):
            raise ConfigError(f"workload {workload.name}: {name} = {value!r} is out of range")
    return {**known, **job.parameters}


def within(
    workload: WorkloadSpec, given: dict[str, Any], ranges: Iterable[tuple[str, float, float]]
) -> dict[str, Any]:
    """``given``, each of the named settings of which lies in its range. Raises ConfigError."""
    for name, low, high in ranges:
        if not low <= given[name] <= high:
            raise ConfigError(f"workload {workload.name}: {name} must be {low} to {high}, not {given[name]}")
    return given


def command(job: Job, module: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The command line that starts a module of the payload."""
    return started(job.place, module, arguments)


def started(place: Place, module: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """``python3 -I -S start.py MODULE JSON``: isolated, without ``site``, which an emulated guest feels."""
    text = json.dumps(arguments, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return (place.python, "-I", "-S", place.start, module, text)


class Observation:
    """A JSON object from a guest, read field by field: each is what it should be, or ParseError."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise ParseError(f"{where}: expected an object, found {type(data).__name__}")
        self._data: dict[str, Any] = data
        self._where = where

    def _get(self, name: str) -> Any:
        if name not in self._data:
            raise ParseError(f"{self._where}: {name} is missing")
        return self._data[name]

    def _wrong(self, name: str, wanted: str) -> ParseError:
        return ParseError(f"{self._where}: {name} is not {wanted}: {str(self._data[name])[:80]!r}")

    def number(self, name: str) -> float:
        """A finite number of sane size."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < ABSURD:
            raise self._wrong(name, "a plausible number")
        return float(value)

    def optional(self, name: str) -> float | None:
        """A finite number or null (it could not be said)."""
        return None if self._get(name) is None else self.number(name)

    def seconds(self, name: str) -> float:
        """A time that is not negative."""
        value = self.number(name)
        if value < 0:
            raise self._wrong(name, "a time")
        return value

    def integer(self, name: str, *, bits: int = 64) -> int:
        """A whole number of at most that many bits, not negative."""
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << bits:
            raise self._wrong(name, f"a whole number of {bits} bits")
        return value

    def whole_or_none(self, name: str, *, bits: int = 64) -> int | None:
        """As ``integer``, or null."""
        return None if self._get(name) is None else self.integer(name, bits=bits)

    def text(self, name: str) -> str:
        """A text."""
        value = self._get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def text_or_none(self, name: str) -> str | None:
        """A text or null."""
        return None if self._get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def items(self, name: str) -> list[Any]:
        """A list."""
        value = self._get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def inner(self, name: str) -> Observation:
        """An object."""
        return Observation(self._get(name), f"{self._where}.{name}")

    def is_null(self, name: str) -> bool:
        """Whether the field is there and null."""
        return self._get(name) is None

    def names(self) -> tuple[str, ...]:
        """The keys."""
        return tuple(self._data)

    def texts(self) -> dict[str, str]:
        """The whole object as texts, each cut to a sane length."""
        return {str(name)[:80]: self.text(name)[:200] for name in self._data}


@reader("a payload's output")
def strict_object(raw: bytes, where: str) -> Observation:
    """One JSON object in one line ended by a newline, and nothing else. Raises ParseError."""
    if not raw.endswith(b"\n") or raw.count(b"\n") != 1:
        raise ParseError(f"{where}: expected exactly one line of JSON, found {raw[-200:]!r}")
    try:
        data = strict_json(raw)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{where}: not strict JSON: {str(error)[:200]}") from error
    return Observation(data, where)


@reader("a payload's output")
def report_of(workload: WorkloadSpec, stdout: bytes) -> tuple[Observation, str, dict[str, str]]:
    """The payload's final line: observation, engine and versions. Raises ParseError."""
    whole = strict_object(stdout, workload.name)
    if whole.text("payload") != workload.name:
        raise ParseError(f"{workload.name}: this is the output of {whole.text('payload')[:80]!r}")
    return whole.inner("observed"), whole.text("engine")[:80], whole.inner("versions").texts()


def exact(name: str, expected: object, got: object, detail: str = "") -> Answer:
    """An answer that must be equal, compared as values."""
    same = type(expected) is type(got) and expected == got
    shown = "no answer" if got is None else str(got)[:200]
    return Answer(name=name, expected=str(expected)[:200], got=shown, ok=same, detail=detail[:500])


def at_least(name: str, floor: float, got: float | None, unit: str) -> Answer:
    """An answer that must reach a floor."""
    shown = "no answer" if got is None else f"{got:g} {unit}".strip()
    fine = got is not None and got >= floor
    return Answer(name=name, expected=f"at least {floor:g} {unit}".strip(), got=shown, ok=fine)


def at_most(name: str, ceiling: float, got: float | None, detail: str = "") -> Answer:
    """An answer that must not exceed a bound; it is an error or a ratio, so never negative."""
    shown = "no answer" if got is None else f"{got:.3g}"
    fine = got is not None and 0 <= got <= ceiling
    return Answer(name=name, expected=f"at most {ceiling:.3g}", got=shown, ok=fine, detail=detail)


def rate(amount: float, seconds: float) -> float | None:
    """``amount`` per second; None when the time is nothing, or so near it that no rate can be said."""
    value = amount / seconds if seconds > 0 else math.inf
    return value if value < ABSURD else None


def measure(
    name: str, value: float | None, unit: str, *, lower: float | None = None, subject: str = ""
) -> Measurement:
    """A measurement; without a subject it is the guest's, as a whole."""
    return Measurement(name=name, value=value, unit=unit, lower=lower, subject=subject)
