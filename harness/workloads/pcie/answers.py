"""Copies between host and each GPU, from every cell of the guest, both ways and at once, every word compared.

The measured end of the NUMA proof: memory near a card must not be slower than memory far from it. A virtual
topology that says otherwise than the machine shows up here. Without a GPU engine the processors copy between
the cells; engine and measurements then say so, and near and far are not judged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.payload import memory_patterns as patterns
from harness.vendors import loads
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    command,
    demanded_engine,
    exact,
    gpus,
    measure,
    report_of,
    settings,
    within,
)
from harness.workloads.entries import entries, settled
from harness.workloads.pcie.spec import SPEC
from harness.workloads.spec import WorkloadSpec

_SAMPLES = 16
_RAM = "RAM"
_LANES = (1, 2, 4, 8, 12, 16, 32)
_RANGES = (
    ("mib", 1, 4096), ("ram_mib", 1, 4096), ("copies", 1, 64), ("repeats", 1, 10_000),
    ("near_tolerance", 0, 0.9), ("stall_seconds", 1, 3600),
)  # fmt: skip
"""Setting to the least and the most that it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cell:
    """What was measured with the memory of one cell. Rates in GB/s, latency in microseconds."""

    number: int
    rates: dict[str, float]
    latency: float
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Pcie:
    """Pinned copies over the link of each GPU."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> dict[str, Any]:
        return within(SPEC, settings(SPEC, job), _RANGES)

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError."""
        given = self._given(job)
        seed, samples = _chosen(job)
        engine = demanded_engine(job, given["engine"])
        arguments = {
            "engine": engine,
            "gpus": [str(gpu.address) for gpu in gpus(job)],
            "mib": given["mib" if engine == "gpu" else "ram_mib"],
            **{name: given[name] for name in ("copies", "repeats", "stall_seconds")},
            "seed": seed,
            "samples": list(samples),
        }
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Each device's answers. Raises ParseError."""
        given = self._given(job)
        demanded = demanded_engine(job, given["engine"])
        names = [str(gpu.address) for gpu in gpus(job)] if demanded == "gpu" else [_RAM]
        seen, engine, versions = report_of(SPEC, stdout)
        answers = [exact("engine", loads.COMPUTE if demanded == "gpu" else "cpu", engine)]
        measurements: list[Measurement] = []
        judge = _device if demanded == "gpu" else _machine
        found = entries(SPEC.name, seen, names)
        unplaced: list[str] = []
        for entry in found:
            answers += entry.finished
            if entry.observed is not None:
                unplaced += _unplaced(entry.name, entry.observed)
                more, measured = judge(entry.name, entry.observed, job, given)
                answers += more
                measurements += measured
        return Parsed(
            engine=engine,
            answers=settled(SPEC.name, answers, found, unplaced),
            measurements=tuple(measurements),
            versions=versions,
        )


def _chosen(job: Job) -> tuple[int, tuple[int, ...]]:
    """The seed of the words that are sent, and which of them are brought back."""
    stream = hashlib.sha512(f"{job.tenant}\n{job.key}\npcie".encode()).digest() * 4
    numbers = [int.from_bytes(stream[n : n + 8], "little") + n for n in range(0, 8 * (_SAMPLES + 1), 8)]
    return numbers[0] % (1 << 64), tuple(number % (1 << 62) for number in numbers[1:])


def _device(
    name: str, seen: Observation, job: Job, given: Mapping[str, Any]
) -> tuple[list[Answer], list[Measurement]]:
    listed = _cells(seen)
    measured = [
        _measured(name, Observation(item, "pcie"), job, given, several=len(listed) > 1)
        for item in seen.items("measured")
    ]
    done = [cell.number for cell in measured]
    answers = [exact(f"{name} cells measured", str(listed), str(done))]
    answers += [answer for cell in measured for answer in cell.answers]
    near = seen.whole_or_none("near", bits=16)
    by_number = {cell.number: cell for cell in measured}
    chosen = (
        measured[0] if len(listed) == 1 and done == listed else by_number.get(-1 if near is None else near)
    )
    if len(listed) > 1:
        answers.append(_near(name, near, by_number, given["near_tolerance"]))
    found = []
    for cell in measured:
        suffix = f".cell{cell.number}"
        found += _figures(name, cell, suffix)
    found += _figures(name, chosen, "")
    return answers, found + _link(name, seen)


def _unplaced(name: str, seen: Observation) -> list[str]:
    """Whether the kernel of a machine with several cells does not tell where the memory of copies lay."""
    rows = seen.items("measured") if "measured" in seen.names() else seen.items("copied")
    known = [Observation(item, "pcie") for item in rows]
    places = [("nodes",) if "nodes" in one.names() else ("source_nodes", "target_nodes") for one in known]
    lost = sum(any(one.is_null(place) for place in where) for one, where in zip(known, places, strict=True))
    several = len(_cells(seen)) > 1
    return (
        [f"{name}: the kernel does not report on which node the memory of {lost} copies was"]
        if lost and several
        else []
    )


def _cells(seen: Observation) -> list[int]:
    numbers = seen.items("cells")
    if not numbers or any(type(n) is not int or not 0 <= n < 1 << 10 for n in numbers):
        raise ParseError(f"pcie: these are no cells: {str(numbers)[:80]}")
    if len(set(numbers)) != len(numbers):
        raise ParseError(f"pcie: a cell twice: {str(numbers)[:80]}")
    return numbers


def _measured(name: str, seen: Observation, job: Job, given: Mapping[str, Any], *, several: bool) -> _Cell:
    number = seen.integer("cell", bits=10)
    title = f"{name} cell {number}"
    # Both directions at once count again: each way's own batch and the common one.
    words = (given["mib"] << 17) * given["copies"] * given["repeats"] * 2
    answers = [
        _intact(f"{title} host to device", words, seen, "down"),
        _intact(f"{title} device to host", words, seen, "up"),
        _samples(f"{title} words read back", seen, (given["mib"] << 17) * given["copies"], job),
    ]
    if several and not seen.is_null("nodes"):
        answers.append(exact(f"{title} memory is on", str([number]), str(seen.items("nodes"))))
    return _Cell(
        number=number,
        rates={way: _rate(seen, way) / 1e9 for way in ("h2d", "d2h", "both")},
        latency=_rate(seen, "latency") * 1e6,
        answers=tuple(answers),
    )


def _rate(seen: Observation, name: str) -> float:
    """A rate or a time of what was really done: above zero. Raises ParseError."""
    value = seen.number(name)
    if value <= 0:
        raise ParseError(f"pcie: {name} cannot be {value:g}")
    return value


def _intact(title: str, words: int, seen: Observation, way: str) -> Answer:
    compared, wrong = seen.integer(f"{way}_words"), seen.integer(f"{way}_wrong")
    return exact(title, f"0 wrong of {words} words", f"{wrong} wrong of {compared} words")


def _samples(title: str, seen: Observation, words: int, job: Job) -> Answer:
    seed, numbers = _chosen(job)
    right = 0
    for number, item in zip(numbers, seen.items("samples"), strict=False):
        index = number % words
        right += item == [index, patterns.value(patterns.RANDOM, index, seed)]
    return exact(title, f"{_SAMPLES} right", f"{right} right")


def _near(name: str, near: int | None, cells: Mapping[int, _Cell], tolerance: float) -> Answer:
    """Near is at most ``tolerance`` slower than the fastest far cell, each way."""
    title, expected = f"{name} near cell", f"at most {100 * tolerance:g} % slower than any far one"
    if near is None or near not in cells:
        said = "unknown to the guest" if near is None else f"cell {near}, which was not measured"
        return Answer(name=title, expected=expected, got=said, ok=False)
    slower = []
    for way in ("h2d", "d2h"):
        ours = cells[near].rates[way]
        for number, cell in cells.items():
            if number != near and ours < cell.rates[way] * (1 - tolerance):
                slower.append(f"{way} {ours:.1f} GB/s from cell {near}, {cell.rates[way]:.1f} from {number}")
    detail = "the measurement contradicts the placement: the near cell is not the fastest" if slower else ""
    got = "; ".join(slower) or f"cell {near} is not"
    return Answer(name=title, expected=expected, got=got[:200], ok=not slower, detail=detail)


def _figures(name: str, cell: _Cell | None, suffix: str) -> list[Measurement]:
    rates = {way: None if cell is None else cell.rates[way] for way in ("h2d", "d2h", "both")}
    found = [measure(f"pcie.{way}{suffix}", value, "GB/s", subject=name) for way, value in rates.items()]
    latency = None if cell is None else cell.latency
    return [*found, measure(f"pcie.latency{suffix}", latency, "us", subject=name)]


def _link(name: str, seen: Observation) -> list[Measurement]:
    """Of the link under load, as the driver or the device's config space said; telemetry has it otherwise."""
    generation = width = None
    if not seen.is_null("link"):
        link = seen.inner("link")
        generation, width = link.integer("generation", bits=4), link.integer("width", bits=6)
        if not 1 <= generation <= 7 or width not in _LANES or link.text("source") not in ("nvml", "sysfs"):
            raise ParseError(f"pcie: no link has generation {generation} and {width} lanes")
    return [
        measure("pcie.gen_under_load", generation, "1", subject=name),
        measure("pcie.width_under_load", width, "1", subject=name),
    ]


def _machine(
    name: str, seen: Observation, job: Job, given: Mapping[str, Any]
) -> tuple[list[Answer], list[Measurement]]:
    """The CPU engine: each cell copies to each cell."""
    listed = _cells(seen)
    found = [Observation(item, "pcie") for item in seen.items("copied")]
    pairs = [(one.integer("from", bits=10), one.integer("to", bits=10)) for one in found]
    due = [(first, second) for first in listed for second in listed]
    answers = [exact(f"{name} cells measured", str(due), str(pairs))]
    measurements = []
    words = given["ram_mib"] << 17
    for (first, second), one in zip(pairs, found, strict=True):
        title = f"{name} cell {first} to {second}"
        total = words * given["repeats"]
        compared, wrong = one.integer("words"), one.integer("wrong")
        answers += [
            exact(f"{title} data", f"0 wrong of {total} words", f"{wrong} wrong of {compared} words"),
            _samples(f"{title} words", one, words, job),
        ]
        if len(listed) > 1 and not (one.is_null("source_nodes") or one.is_null("target_nodes")):
            nodes = f"{one.items('source_nodes')} and {one.items('target_nodes')}"
            answers.append(exact(f"{title} memory is on", f"[{first}] and [{second}]", nodes))
        figure = f"ram.copy.cell{first}.cell{second}"
        measurements.append(measure(figure, _rate(one, "rate") / 1e9, "GB/s"))
    return answers, measurements


WORKLOAD = Pcie()
