"""Memory of each GPU: patterns over nearly all of it, every word compared, and the rates of doing so.

Without a GPU engine the same patterns run over main memory; engine and measurements then say so.

A pass counts only when as many words were compared as were due and, where it has a closed form, the sum of
all words read is what it must be. Memory that others hold is not covered, and then nothing passes. Before the
passes, faults are planted at places chosen here, and the test must find just those: a test that cannot find a
fault finds none.
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
    at_least,
    command,
    demanded_engine,
    exact,
    gpus,
    measure,
    rate,
    report_of,
    settings,
    within,
)
from harness.workloads.entries import entries, settled
from harness.workloads.spec import WorkloadSpec
from harness.workloads.vram.spec import SPEC

_INVERTED = (0, 0x5555555555555555, 0x00FF00FF00FF00FF)
"""Moving inversions begin with these: all bits, neighbouring bits, neighbouring bytes."""
PROOF_WORDS = 1 << 16
"""Words in which faults are planted: they fit into any allocation."""
_SAMPLES = 16
_MODULUS = {loads.COMPUTE: 1 << 64, "cpu": (1 << 64) - 1}
"""Each engine sums words modulo what is quick on it."""
_RAM = "RAM"
_RANGES = (
    ("share", 0.01, 0.995), ("mib", 1, 1 << 22), ("walks", 1, 64), ("ram_walks", 1, 64),
    ("randoms", 1, 64), ("planted", 1, 64), ("hold_seconds", 0, 3600), ("bandwidth_seconds", 0, 60),
    ("stall_seconds", 1, 3600),
)  # fmt: skip
"""Setting to the least and the most that it can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One look at all the memory: written before when ``fill``, compared, written again when ``then``."""

    pattern: str
    kind: int
    argument: int
    fill: bool = True
    then: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is chosen here, the same for prepare and parse."""

    passes: tuple[Pass, ...]
    proof_seed: int
    planted: tuple[tuple[int, int], ...]
    """Word and bit of each planted fault, no two in one word."""
    samples: tuple[int, ...]
    """Words to bring back after the last pass, modulo their number."""


def asked(job: Job, given: Mapping[str, Any]) -> Asked:
    """Passes, planted faults and samples for this job: another key, other random words."""
    stream = _numbers(f"{job.tenant}\n{job.key}")
    passes: list[Pass] = []
    gpu = demanded_engine(job, given["engine"]) == "gpu"
    for step in range(given["walks" if gpu else "ram_walks"]):
        passes.append(Pass(pattern="walking_ones", kind=patterns.WALKING_ONE, argument=step))
        passes.append(Pass(pattern="walking_zeros", kind=patterns.WALKING_ZERO, argument=step))
    for first in (*_INVERTED, next(stream)):
        passes += _inversions("moving_inversions", patterns.CONSTANT, first)
    passes += _inversions("address", patterns.ADDRESS, 0)
    passes += [
        Pass(pattern="random", kind=patterns.RANDOM, argument=next(stream)) for _ in range(given["randoms"])
    ]
    places: dict[int, int] = {}
    while len(places) < given["planted"]:
        places.setdefault(next(stream) % PROOF_WORDS, next(stream) % 64)
    return Asked(
        passes=tuple(passes),
        proof_seed=next(stream),
        planted=tuple(sorted(places.items())),
        samples=tuple(next(stream) for _ in range(_SAMPLES)),
    )


def _inversions(pattern: str, kind: int, first: int) -> tuple[Pass, Pass, Pass]:
    """Write; compare and invert; compare and invert back; compare."""
    second = first ^ patterns.WORD
    return (
        Pass(pattern=pattern, kind=kind, argument=first, then=second),
        Pass(pattern=pattern, kind=kind, argument=second, fill=False, then=first),
        Pass(pattern=pattern, kind=kind, argument=first, fill=False),
    )


def _numbers(text: str) -> Any:
    turn = 0
    while True:
        digest = hashlib.sha256(f"{text}\n{turn}".encode()).digest()
        yield int.from_bytes(digest[:8], "little")
        turn += 1


@dataclass(frozen=True, slots=True)
class Vram:
    """Walking bits, moving inversions, addresses and random words over the memory of each GPU."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> dict[str, Any]:
        return within(SPEC, settings(SPEC, job), _RANGES)

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError."""
        given = self._given(job)
        wanted = asked(job, given)
        arguments = {
            "engine": demanded_engine(job, given["engine"]),
            "gpus": [str(gpu.address) for gpu in gpus(job)],
            **{name: given[name] for name in ("share", "mib", "hold_seconds", "bandwidth_seconds")},
            "stall_seconds": given["stall_seconds"] + given["hold_seconds"],
            "passes": [[p.pattern, p.kind, p.argument, p.fill, p.then] for p in wanted.passes],
            "proof_words": PROOF_WORDS,
            "proof_seed": wanted.proof_seed,
            "planted": [list(place) for place in wanted.planted],
            "samples": list(wanted.samples),
        }
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Each device's answers. Raises ParseError."""
        given = self._given(job)
        demanded = demanded_engine(job, given["engine"])
        names = [str(gpu.address) for gpu in gpus(job)] if demanded == "gpu" else [_RAM]
        seen, engine, versions = report_of(SPEC, stdout)
        wanted = loads.COMPUTE if demanded == "gpu" else "cpu"
        answers = [exact("engine", wanted, engine)]
        measurements: list[Measurement] = []
        uncovered: list[str] = []
        found = entries(SPEC.name, seen, names)
        for entry in found:
            answers += entry.finished
            if entry.observed is not None:
                short = _uncovered(entry.name, entry.observed, given, wanted)
                uncovered += [short] if short else []
                more, measured = _device(entry.name, entry.observed, asked(job, given), given, wanted)
                answers += more
                measurements += measured
        return Parsed(
            engine=engine,
            answers=settled(SPEC.name, answers, found, uncovered),
            measurements=tuple(measurements),
            versions=versions,
        )


def _uncovered(name: str, seen: Observation, given: Mapping[str, Any], engine: str) -> str:
    """Why less memory was tested than is due; empty where it is enough.

    What could not be had was held by the driver or by others, and nobody knows whether it is sound: that
    accuses no card, and passes none.
    """
    words, size, goal = seen.integer("words", bits=48), seen.integer("total", bits=51), given["share"]
    share = rate(8 * words, size)
    if engine != loads.COMPUTE or (share is not None and share >= goal):
        return ""
    free = seen.integer("free", bits=51)
    return (
        f"{name}: only {8 * words} of {size} bytes could be allocated, but {goal:g} of all must be "
        f"tested; {free} were free when the test began"
    )


def _device(
    name: str, seen: Observation, wanted: Asked, given: Mapping[str, Any], engine: str
) -> tuple[list[Answer], list[Measurement]]:
    words, size = seen.integer("words", bits=48), seen.integer("total", bits=51)
    found = [Observation(item, "vram") for item in seen.items("passes")]
    covered = 8 * min((one.integer("words") for one in found), default=0)
    covered = min(covered, 8 * words)
    share = rate(covered, size)
    if 8 * words > size:
        raise ParseError(f"vram: {8 * words} bytes tested of {size}")
    answers: list[Answer] = []
    if not _uncovered(name, seen, given, engine):
        goal = given["share"] if engine == loads.COMPUTE else 1.0
        answers.append(at_least(f"{name} covered share of memory", goal, share, ""))
    if words:
        answers += _passes(name, found, words, wanted, _MODULUS[engine])
        answers += [_proof(name, seen, wanted), _samples(name, seen, words, wanted)]
    prefix, subject = ("vram", name) if engine == loads.COMPUTE else ("ram", "")
    measured = {
        "covered_share": (share, "1"),
        "total": (float(size), "B"),
        "bandwidth": (_giga(seen.optional("copy_rate")), "GB/s"),
        "read_bandwidth": (_giga(seen.optional("read_rate")), "GB/s"),
        **_rates(found, words, wanted),
    }
    return answers, [
        measure(f"{prefix}.{what}", value, unit, subject=subject) for what, (value, unit) in measured.items()
    ]


def _giga(value: float | None) -> float | None:
    """Bytes per second as GB/s."""
    if value is not None and value < 0:
        raise ParseError(f"vram: a rate of {value:g} cannot be")
    return None if value is None else value / 1e9


def _rates(found: list[Observation], words: int, wanted: Asked) -> dict[str, tuple[float | None, str]]:
    """Bytes covered by each pattern, and the rates of writing and comparing over all passes."""
    compared = {
        name: 8.0 * sum(min(one.integer("words"), words) for one in found if one.text("pattern") == name)
        for name in dict.fromkeys(one.pattern for one in wanted.passes)
    }
    fills = [one.seconds("fill_seconds") for one in found if not one.is_null("fill_seconds")]
    reading = sum(one.seconds("verify_seconds") for one in found)
    return {
        **{f"compared.{name}": (size, "B") for name, size in compared.items()},
        "fill_rate": (_giga(rate(8 * words * len(fills), sum(fills))), "GB/s"),
        "compare_rate": (_giga(rate(sum(compared.values()), reading)), "GB/s"),
    }


def _passes(name: str, found: list[Observation], words: int, wanted: Asked, modulus: int) -> list[Answer]:
    """One answer for each pattern, one for the sums, one that every pass was made over every word."""
    due = [(one.pattern, words) for one in wanted.passes]
    made = [(one.text("pattern"), one.integer("words")) for one in found]
    missing = sum(1 for pair in due if pair not in made) + abs(len(due) - len(made))
    whole = made == due and words > 0
    answers = [
        exact(
            f"{name} passes",
            f"{len(due)} over {8 * words} bytes each",
            f"{len(made)} over {8 * words} bytes each"
            if whole
            else f"{len(made)}, {missing} missing or short",
        )
    ]
    if len(found) != len(due):
        return answers
    for pattern in dict.fromkeys(one.pattern for one in wanted.passes):
        answers.append(_wrong_words(name, pattern, [o for o in found if o.text("pattern") == pattern]))
    odd = []
    for planned, one in zip(wanted.passes, found, strict=True):
        expected = patterns.total(planned.kind, words, planned.argument)
        if expected is not None and one.integer("sum") != expected % modulus:
            odd.append(f"{planned.pattern} {planned.argument:x}")
    said = "as expected" if not odd else f"{len(odd)} differ: {', '.join(odd[:5])}"
    return [*answers, exact(f"{name} sums of all words read", "as expected", said)]


def _wrong_words(name: str, pattern: str, found: list[Observation]) -> Answer:
    # Counts and bits lie in the tested card's memory themselves: either alone is a fault.
    wrong = sum(one.integer("mismatches") or int(one.integer("bits") > 0) for one in found)
    bits = 0
    shown = []
    for one in found:
        bits |= one.integer("bits")
        shown += _faults(one)
    detail = "; ".join(f"byte {8 * i:#x}: {e:016x} became {g:016x}" for i, e, g in shown[:6])
    if wrong:
        places = [str(bit) for bit in range(64) if bits >> bit & 1]
        detail = f"bits {', '.join(places[:16])}{' ...' if len(places) > 16 else ''}; {detail}"
    return exact(f"{name} {pattern}", "0 wrong words", f"{wrong} wrong words", detail)


def _faults(seen: Observation) -> list[tuple[int, int, int]]:
    """Word, expected and got of each fault that was kept."""
    found = []
    for item in seen.items("faults"):
        fine = isinstance(item, list) and len(item) == 3
        if not fine or any(type(n) is not int or not 0 <= n <= patterns.WORD for n in item):
            raise ParseError(f"vram: not a fault: {str(item)[:80]}")
        found.append((item[0], item[1], item[2]))
    return found


def _proof(name: str, seen: Observation, wanted: Asked) -> Answer:
    expected = []
    for index, bit in wanted.planted:
        word = patterns.value(patterns.RANDOM, index, wanted.proof_seed)
        expected.append((index, word, word ^ 1 << bit))
    title = f"{name} planted faults found"
    if seen.is_null("proof"):
        return exact(title, str(len(expected)), None)
    proof = seen.inner("proof")
    got, total = _faults(proof), proof.integer("mismatches")
    right = len(set(got) & set(expected))
    said = f"{right}" if got == expected and total == right else f"{right}, and {total - right} others"
    return exact(title, str(len(expected)), said)


def _samples(name: str, seen: Observation, words: int, wanted: Asked) -> Answer:
    last = wanted.passes[-1]
    right = 0
    for number, item in zip(wanted.samples, seen.items("samples"), strict=False):
        index = number % words if words else 0
        right += item == [index, patterns.value(last.kind, index, last.argument)]
    return exact(f"{name} words read back", f"{len(wanted.samples)} right", f"{right} right")


WORKLOAD = Vram()
