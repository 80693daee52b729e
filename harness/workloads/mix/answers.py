"""All loads at once, with steps of power and heat: each run's answers are compared as if it ran alone."""

from __future__ import annotations

import base64
import binascii
import io
import lzma
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.reading import reader
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    Workload,
    at_least,
    command,
    exact,
    measure,
    report_of,
    settings,
)
from harness.workloads.entries import settled
from harness.workloads.judge import ENGINE_BROKEN, UNABLE, broke_off
from harness.workloads.mix.loads import mixable, parameters_in_mix
from harness.workloads.mix.loads import names as names_of
from harness.workloads.mix.spec import SPEC
from harness.workloads.registry import workload
from harness.workloads.spec import WorkloadSpec

PHASES = ("ramp", "soak", "pulse")
_MOST_OUTPUTS = 256 << 20
"""Bytes of all outputs together, unpacked; a short text can claim to be a long one."""
_MOST_MEMORY = 64 << 20
_SHOWN = 20
_MOST_ANSWERS = 500
"""Wrong ones that are kept; nobody reads a thousand of one kind."""
_HUNG = 3.0
"""A run that was cut says nothing, unless it had lasted this many times longer than any before: it may then
have hung. Pulses take half of a run's time, and the last runs have the machine to themselves."""
_FULL = "the outputs of all runs are too much to come back: give mix fewer seconds, and more rounds"


@dataclass(frozen=True, slots=True)
class Mix:
    """Runs other workloads side by side, with the parameters that the profile gives each of them."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> tuple[dict[str, Any], tuple[tuple[Workload, Job], ...]]:
        given = settings(SPEC, job)
        known = mixable()
        names = names_of(given["loads"])
        wrong = [name for name in (*names, *names_of(given["steady"])) if name not in known]
        if not names or wrong or len(set(names)) != len(names):
            raise ConfigError(
                f"workload mix: loads must be some of {', '.join(known)}, each once, not {given['loads']!r}"
                + (f" (steady: {given['steady']!r})" if wrong else "")
            )
        if not names_of(given["phases"]) or set(names_of(given["phases"])) - set(PHASES):
            raise ConfigError(f"workload mix: phases must be some of {', '.join(PHASES)}")
        if not (given["seconds"] > 0 and given["pulse_seconds"] >= 0.2):
            raise ConfigError("workload mix: seconds must be above 0 and pulse_seconds at least 0.2")
        jobs = tuple(
            (
                workload(name),
                replace(job, key=f"{job.key}-{name}", parameters=parameters_in_mix(job.siblings, name)),
            )
            for name in names
        )
        return given, jobs

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line, with those of the loads in it. Raises ConfigError."""
        given, jobs = self._given(job)
        phases = names_of(given["phases"])
        steady = names_of(given["steady"])
        arguments = {
            "loads": [
                {"name": load.spec.name, "argv": list(load.prepare(one)), "steady": load.spec.name in steady}
                for load, one in jobs
            ],
            "phases": [{"kind": kind, "seconds": given["seconds"] / len(phases)} for kind in phases],
            "pulse_seconds": given["pulse_seconds"],
            "grace_seconds": given["grace_seconds"],
            "folder": f"{job.place.work}/{job.key}",
        }
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Every run by its own workload.

        Raises ParseError when one of them could not do its work or left output that cannot be read, unless
        another gave a wrong answer: that one stands whatever else is missing.
        """
        given, jobs = self._given(job)
        seen, _engine, versions = report_of(SPEC, stdout)
        phases = [Observation(entry, "mix.phases") for entry in seen.items("phases")]
        answers = [
            exact("phases", given["phases"].replace(" ", ""), ",".join(p.text("kind") for p in phases)),
        ]
        spent = sum(p.seconds("ended") - p.seconds("started") for p in phases)
        answers.append(at_least("time under load", given["seconds"] * 0.99, spent, "s"))
        ran = _ran({load.spec.name: (load, one) for load, one in jobs}, seen, versions)
        answers += ran.wrong
        for name, count in ran.counts.items():
            if count:
                right = _right(name, count, answers)
                answers.append(at_least(f"{name}: runs with right answers", 1, right, ""))
        return Parsed(
            engine="+".join(f"{name}:{engine}" for name, engine in ran.engines.items()) or "none",
            answers=settled(SPEC.name, answers, (), ran.unknown)[:_MOST_ANSWERS],
            measurements=tuple(
                measure(f"mix.{name}.runs", float(count), "1") for name, count in ran.counts.items()
            ),
            versions=versions,
        )


@dataclass(slots=True)
class _Ran:
    """What the runs of a mix came to."""

    counts: dict[str, int]
    """Load to how many of its runs came to an end."""
    engines: dict[str, str] = field(default_factory=dict)
    wrong: list[Answer] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Why something that was due is not known."""


def _ran(loads: Mapping[str, tuple[Workload, Job]], seen: Observation, versions: dict[str, str]) -> _Ran:
    """Every run, read by its own workload; ``versions`` grows. Raises ParseError for runs that cannot be."""
    found = _Ran(dict.fromkeys(loads, 0))
    longest = dict.fromkeys(loads, 0.0)
    outputs = _unpacked(seen.text("outputs"))
    if seen.flag("full"):
        found.unknown.append(_FULL)
    for number, entry in enumerate(seen.items("runs")):
        run = Observation(entry, f"mix.runs[{number}]")
        name = run.text("load")
        if name not in loads:
            raise ParseError(f"mix: a run of {name[:80]!r}, which was not asked for")
        output = outputs.read(run.integer("bytes", bits=21))
        if len(output) != run.integer("bytes", bits=21):
            raise ParseError(f"mix: the output of run {number} is not all there")
        lasted = run.seconds("ended") - run.seconds("started")
        if run.flag("cut"):
            if lasted > _HUNG * max(longest[name], 1.0):
                found.unknown.append(
                    f"a run of {name} was cut after {lasted:.0f} s and had not come to its end; the "
                    f"longest before it took {longest[name]:.0f} s"
                )
            continue
        longest[name] = max(longest[name], lasted)
        found.counts[name] += 1
        try:
            wrong, found.engines[name] = _run(loads[name], run, output, found.counts[name], versions)
        except ParseError as error:
            found.unknown.append(error.message)
        else:
            found.wrong += wrong
    if outputs.read(1):
        raise ParseError("mix: there is more output than runs")
    found.unknown += [f"no run of {name} came to an end" for name, count in found.counts.items() if not count]
    return found


def _right(name: str, count: int, answers: list[Answer]) -> float:
    """Runs of which no answer was wrong."""
    wrong = {a.name.split(":")[0] for a in answers if not a.ok and a.name.startswith(f"{name} run ")}
    return float(count - len(wrong))


def _run(
    what: tuple[Workload, Job], run: Observation, output: bytes, number: int, versions: dict[str, str]
) -> tuple[list[Answer], str]:
    """The wrong answers of one run, named after it, and its engine."""
    load, job = what
    where = f"{load.spec.name} run {number}"
    status = run.integer("status", bits=16)
    said = run.text("said")[-300:]
    if broke_off(status, run.text("said")):
        raise ParseError(f"{where} broke off by itself (exit status {status}): {said}")
    if status == UNABLE:
        reason = output[-300:].decode("utf-8", "backslashreplace").strip()
        raise ParseError(f"{where} could not do its work: {said or reason}")
    if status:
        how = "its engine does not work" if status == ENGINE_BROKEN else f"it ended with status {status}"
        return [exact(f"{where}: ends well", "status 0", how, said)], ""
    parsed = reader(f"the output of {load.spec.name}")(load.parse)(job, output)
    if not parsed.answers:
        raise ParseError(f"{where} gave no answers")
    versions.update(parsed.versions)
    wrong = [replace(a, name=f"{where}: {a.name}") for a in parsed.answers if not a.ok]
    return wrong[:_SHOWN], parsed.engine


def _unpacked(text: str) -> io.BytesIO:
    """What all runs printed, in their order. Raises ParseError for what cannot be unpacked."""
    try:
        packed = base64.b64decode(text, validate=True)
        unpack = lzma.LZMADecompressor(memlimit=_MOST_MEMORY)
        output = unpack.decompress(packed, _MOST_OUTPUTS)
    except (binascii.Error, lzma.LZMAError, ValueError, EOFError) as error:
        raise ParseError(f"mix: the outputs cannot be unpacked: {error}") from error
    if not unpack.eof:
        raise ParseError(f"mix: the outputs are longer than {_MOST_OUTPUTS} bytes, or cut off")
    return io.BytesIO(output)


WORKLOAD = Mix()
