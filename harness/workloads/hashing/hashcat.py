"""What hashcat 6 said, read strictly: its JSON status, its finds, its self-test, its benchmark.

The payload hands over hashcat's own words. Whatever is not as hashcat's source prints it (``terminal.c``,
``selftest.c``, ``main.c`` of 6.2.6) raises ParseError: half a line is no measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.reading import reader
from harness.workloads.base import ABSURD, Observation, exact, strict_object
from harness.workloads.hashing.vectors import MODES, HashVectors

RUNNING, EXHAUSTED, CRACKED = 3, 5, 6
"""hashcat's status numbers (``types.h``, status_rc)."""
_MOST_LINES = 10_000
_BENCHMARK = re.compile(r"([0-9]{1,3}):([0-9]{1,5}):[0-9]+:[0-9]+:[0-9]+\.[0-9]{2}:([0-9]{1,18})")
_FIND = re.compile(r"(\S+):((?:[0-9a-f]{2})*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One status report of a session with one device."""

    number: int
    progress: int
    total: int
    speed: float
    """Candidates times salts per second, as hashcat says."""


def _pair(seen: Observation, name: str) -> tuple[int, int]:
    values = seen.items(name)
    if len(values) != 2 or any(type(v) is not int or not 0 <= v < ABSURD for v in values):
        raise ParseError(f"hashcat status: {name} is not two counts: {str(values)[:80]}")
    return values[0], values[1]


@reader("hashcat's status")
def read_status(line: str) -> Status:
    """A line of ``--status-json``. Raises ParseError."""
    seen = strict_object(line.encode("utf-8", "backslashreplace") + b"\n", "hashcat status")
    devices = [Observation(item, "hashcat status: device") for item in seen.items("devices")]
    if len(devices) != 1:
        raise ParseError(f"hashcat status: {len(devices)} devices, and the session was given one")
    progress, total = _pair(seen, "progress")
    return Status(
        number=seen.integer("status", bits=8),
        progress=progress,
        total=total,
        speed=float(devices[0].integer("speed")),
    )


@reader("hashcat's finds")
def read_find(line: str) -> tuple[str, str]:
    """Hash and password of a line of ``--outfile-format 1,3``. Raises ParseError."""
    found = _FIND.fullmatch(line)
    if not found:
        raise ParseError(f"hashcat's finds: not a hash and a password: {line[:120]!r}")
    return found[1], bytes.fromhex(found[2]).decode("utf-8", "backslashreplace")


@reader("hashcat's benchmark")
def read_benchmark(said: str, device: int, mode: int) -> float:
    """Candidates per second of ``-b --machine-readable`` for that device and mode. Raises ParseError."""
    rows = [_BENCHMARK.fullmatch(line.strip()) for line in said.splitlines()]
    found = [row for row in rows if row and (int(row[1]), int(row[2])) == (device, mode)]
    if len(found) != 1:
        raise ParseError(
            f"hashcat's benchmark has no one line for device {device}, mode {mode}: {said[-300:]!r}"
        )
    return float(found[0][3])


def self_test(said: str) -> str:
    """``passed``, ``failed`` or ``not run``, of hashcat's own test of the kernel on the device."""
    if "kernel self-test fail" in said:
        return "failed"
    return "passed" if "Finished self-test" in said else "not run"


def _texts(seen: Observation, name: str) -> list[str]:
    lines = seen.items(name)
    if len(lines) > _MOST_LINES or not all(isinstance(line, str) for line in lines):
        raise ParseError(f"hashing: {name} is not a list of lines")
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """What one session says, read."""

    answers: tuple[Answer, ...]
    speed: float | None
    """Median of what hashcat reported while it ran, candidates times salts per second."""
    benchmark: float | None


def judged(seen: Observation, asked: HashVectors, device: int, where: str) -> Catch:
    """One session against its vectors; ``where`` names the device in the answers. Raises ParseError."""
    said, ended = seen.text("said"), seen.integer("exit", bits=8)
    tested = self_test(said)
    reports = [read_status(line) for line in _texts(seen, "status")]
    finds = [read_find(line) for line in _texts(seen, "found")]
    if tested != "failed" and not reports:
        raise ParseError(f"hashing: hashcat left no status of {asked.mode}: {said[-300:]!r}")
    last = reports[-1] if reports else None
    name = f"{asked.mode} on {where}" if where else asked.mode
    got = {pair for pair in finds if asked.planted.get(pair[0]) == pair[1]}
    wrong = [pair for pair in finds if pair not in got]
    missed = sorted(set(asked.planted.values()) - {password for _, password in got})
    words = [f"not found: {', '.join(missed)}"] if missed else []
    words += [f"found {plain!r} for {digest}, which is not its password" for digest, plain in wrong]
    speeds = [r.speed for r in reports if r.number == RUNNING and r.speed] or [
        r.speed for r in reports[-1:] if r.speed
    ]
    return Catch(
        answers=(
            exact(f"{name}: hashcat's self-test", "passed", tested),
            exact(
                f"{name}: passwords",
                _count(len(asked.planted), 0),
                _count(len(got), len(wrong)),
                "; ".join(words),
            ),
            exact(
                f"{name}: candidates tried",
                f"{asked.work} of {asked.work}",
                f"{last.progress} of {last.total}" if last else None,
            ),
            exact(f"{name}: end", "exhausted", _end(ended, last)),
        ),
        speed=median(speeds) if speeds else None,
        benchmark=None
        if seen.is_null("benchmark")
        else read_benchmark(seen.text("benchmark"), device, MODES[asked.mode].number),
    )


def _count(right: int, wrong: int) -> str:
    return f"{right} right, {wrong} wrong"


def _end(status: int, last: Status | None) -> str:
    """hashcat ends with 1 when it went through everything (``hashcat.c``) and says so in its status."""
    if status == 1 and last is not None and last.number == EXHAUSTED:
        return "exhausted"
    return f"exit status {status}, hashcat's status {'none' if last is None else last.number}"
