"""Password recovery: hashes made here, whose passwords must be found there.

``john`` searches one md5crypt hash: seconds on an emulated guest. ``hashcat`` searches several passwords in
several modes on every GPU of the job, or on the CPU through an OpenCL runtime such as PoCL.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
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
    rate,
    report_of,
    settings,
)
from harness.workloads.entries import settled
from harness.workloads.hashing.hashcat import judged
from harness.workloads.hashing.payload.words import ALPHABET, word
from harness.workloads.hashing.spec import SPEC
from harness.workloads.hashing.vectors import MODES, HashVectors, hash_vectors, md5crypt
from harness.workloads.spec import WorkloadSpec

TOOLS = ("auto", "john", "hashcat")
_SALTED_PLANTED = 2
"""Passwords hidden behind salted hashes: each one costs the guest a whole pass through the word list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What john is asked and what must be answered; a different one for every job key."""

    seed: int
    """Word list number, 63 bits."""
    index: int
    """Which word is the password: in the last fifth, so that most of the list must be tried."""
    password: str
    digest: str


def secret(key: str, tenant: str, candidates: int) -> Secret:
    """The password and its md5crypt hash for one job."""
    stream = hashlib.sha256(f"{tenant}\n{key}".encode()).digest()
    seed = int.from_bytes(stream[:8], "little") >> 1
    index = candidates - 1 - int.from_bytes(stream[8:16], "little") % max(1, candidates // 5)
    salt = "".join(ALPHABET[byte % 32] for byte in stream[16:24])
    password = word(seed, index)
    return Secret(seed=seed, index=index, password=password, digest=md5crypt(password, salt))


@dataclass(frozen=True, slots=True)
class Hashing:
    """John the Ripper or hashcat; the machine's devices or the profile say which, nothing falls back."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> tuple[dict[str, Any], str, str]:
        """Parameters, engine and tool. Raises ConfigError."""
        given = settings(SPEC, job)
        engine = demanded_engine(job, given["engine"])
        if given["tool"] not in TOOLS:
            raise ConfigError(
                f"workload hashing: tool must be one of {', '.join(TOOLS)}, not {given['tool']!r}"
            )
        tool = given["tool"] if given["tool"] != "auto" else {"gpu": "hashcat", "cpu": "john"}[engine]
        if (engine, tool) == ("gpu", "john"):
            raise ConfigError("workload hashing: john has no GPU engine", remedy="use tool: hashcat")
        if not 1 <= given["candidates"] <= 100_000_000:
            raise ConfigError("workload hashing: candidates must be 1 to 100,000,000")
        if not 1024 <= given["keyspace"] <= 10**15 or not 1 <= given["planted"] <= 64:
            raise ConfigError("workload hashing: keyspace must be 1024 to 10^15, planted 1 to 64")
        _modes(given["modes"])
        return given, engine, tool

    def _vectors(self, job: Job, given: dict[str, Any]) -> tuple[HashVectors, ...]:
        return tuple(
            hash_vectors(
                mode,
                f"{job.tenant}\n{job.key}",
                planted=min(given["planted"], _SALTED_PLANTED) if MODES[mode].salted else given["planted"],
                keyspace=given["keyspace"],
                words=given["candidates"],
            )
            for mode in _modes(given["modes"])
        )

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line: hashes and how to search, no password. Raises ConfigError."""
        given, engine, tool = self._given(job)
        folder = f"{job.place.work}/{job.key}"
        if tool == "john":
            asked = secret(job.key, job.tenant, given["candidates"])
            arguments = {
                "tool": tool,
                "candidates": given["candidates"],
                "seed": asked.seed,
                "digest": asked.digest,
                "threads": job.vcpus,
                "folder": folder,
            }
            return command(job, SPEC.job, arguments)
        return command(
            job,
            SPEC.job,
            {
                "tool": tool,
                "engine": engine,
                "addresses": [str(d.address) for d in gpus(job)] if engine == "gpu" else [],
                "modes": [_told(one) for one in self._vectors(job, given)],
                "benchmark": given["benchmark"],
                "folder": folder,
                # Kernels take seconds to compile for a GPU and half a minute for a CPU; they are kept.
                "cache": f"{job.place.work}/hashcat-kernels",
            },
        )

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """The passwords against ours; rates. Raises ParseError."""
        given, engine, tool = self._given(job)
        seen, by, versions = report_of(SPEC, stdout)
        if tool == "john":
            answers, measurements = _john(given, secret(job.key, job.tenant, given["candidates"]), seen, by)
        else:
            asked = self._vectors(job, given)
            wanted = [str(d.address) for d in gpus(job)] if engine == "gpu" else [""]
            answers, measurements = _hashcat(given, asked, wanted, seen, by)
        return Parsed(engine=by, answers=answers, measurements=measurements, versions=versions)


def _modes(text: str) -> tuple[str, ...]:
    """The modes of a comma list. Raises ConfigError."""
    found = tuple(part.strip() for part in text.split(","))
    strange = [part for part in found if part not in MODES]
    if strange or len(set(found)) != len(found):
        raise ConfigError(
            f"workload hashing: modes is a list of different ones of {', '.join(MODES)}, not {text!r}"
        )
    return found


def _told(one: HashVectors) -> dict[str, Any]:
    return {
        "mode": one.mode,
        "number": MODES[one.mode].number,
        "hashes": list(one.hashes),
        "charset": one.charset,
        "mask": one.mask,
        "words": one.words,
        "seed": one.seed,
    }


def _john(
    given: dict[str, Any], asked: Secret, seen: Observation, engine: str
) -> tuple[tuple[Answer, ...], tuple[Measurement, ...]]:
    spent = seen.seconds("seconds")
    found = seen.text_or_none("found")
    tried = asked.index + 1 if found == asked.password else given["candidates"]
    return (
        (
            exact("engine", "john", engine),
            exact("candidates", given["candidates"], seen.integer("candidates")),
            exact("password", asked.password, found),
        ),
        (
            measure("hashing.candidate_rate", rate(tried, spent), "1/s"),
            measure("hashing.reported_rate", seen.optional("reported_rate"), "1/s"),
        ),
    )


def _hashcat(
    given: dict[str, Any], asked: tuple[HashVectors, ...], wanted: list[str], seen: Observation, engine: str
) -> tuple[tuple[Answer, ...], tuple[Measurement, ...]]:
    """Every wanted device must have searched in every mode, on an engine of the demanded kind.

    Raises ParseError, also where something was lacking for a mode, unless an answer is wrong: that stands.
    """
    devices = [Observation(item, "hashing: device") for item in seen.items("devices")]
    addresses = [one.text("address") for one in devices]
    on_gpu = wanted != [""]
    answers = [exact("devices", ", ".join(wanted), ", ".join(addresses))]
    measurements: list[Measurement] = []
    unknown: list[str] = []
    if addresses != wanted:
        return tuple(answers), ()
    for device, address in zip(devices, addresses, strict=True):
        kind, backend = device.text("type"), device.text("backend")
        name = f"{address}: device" if address else "device"
        answers.append(exact(f"{name} type", "GPU" if on_gpu else "CPU", kind))
        answers.append(_engine(name, on_gpu, backend))
        sessions = {one.text("mode"): one for one in _objects(device, "modes")}
        due = asked
        if "unable" in device.names():
            unknown.append(device.text("unable")[:500])
            due = asked[: len(sessions)]
        if tuple(sessions) != tuple(one.mode for one in due):
            raise ParseError(
                f"hashing: modes {', '.join(map(str, sessions))[:80]} are not the requested ones"
            )
        for one in due:
            catch = judged(sessions[one.mode], one, device.integer("device", bits=16), address)
            answers += catch.answers
            measurements.append(
                measure(f"hashing.{one.mode}.attack_rate", _giga(catch.speed), "GH/s", subject=address)
            )
            if given["benchmark"]:
                measurements.append(
                    measure(f"hashing.{one.mode}.rate", _giga(catch.benchmark), "GH/s", subject=address)
                )
    backends = ",".join(sorted({one.text("backend") for one in devices}))
    if engine != backends:
        raise ParseError(f"hashing: engine {engine[:80]!r}, but the devices report {backends[:80]!r}")
    return settled("hashing", answers, (), unknown), tuple(measurements)


def _engine(name: str, on_gpu: bool, backend: str) -> Answer:
    """A GPU's own interface, or for the CPU an OpenCL runtime."""
    wanted = "one of " + ", ".join(loads.HASHERS) if on_gpu else "an OpenCL runtime"
    fine = backend in loads.HASHERS if on_gpu else backend.startswith("opencl:")
    return Answer(name=f"{name} engine", expected=wanted, got=backend[:80], ok=fine)


def _objects(seen: Observation, name: str) -> list[Observation]:
    return [Observation(item, f"hashing: {name}") for item in seen.items(name)]


def _giga(value: float | None) -> float | None:
    return None if value is None else value / 1e9


WORKLOAD = Hashing()
