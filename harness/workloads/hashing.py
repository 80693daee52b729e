"""Password recovery: a hash made here, whose password must be found there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError
from harness.workloads.base import Job, Parsed, Scalar, command, exact, measure, rate, report_of, settings
from harness.workloads.md5crypt import md5crypt

_DEFAULTS: dict[str, Scalar] = {"engine": "john", "candidates": 2000}
ENGINES = ("john", "hashcat")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What is asked and what must be answered; a different one for every job key."""

    seed: int
    """Word list number, 63 bits."""
    index: int
    """Which word is the password: in the last fifth, so that most of the list must be tried."""
    password: str
    digest: str


def word(seed: int, index: int) -> str:
    """Word ``index`` of list ``seed``: 12 letters from splitmix64 (as ``harness/payload/hashing.py``)."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = ((z ^ (z >> shift)) * factor) & _MASK
    z ^= z >> 31
    return "".join(_ALPHABET[(z >> shift) % 32] for shift in range(0, 60, 5))


def secret(key: str, tenant: str, candidates: int) -> Secret:
    """The password and its md5crypt hash for one job."""
    stream = hashlib.sha256(f"{tenant}\n{key}".encode()).digest()
    seed = int.from_bytes(stream[:8], "little") >> 1
    index = candidates - 1 - int.from_bytes(stream[8:16], "little") % max(1, candidates // 5)
    salt = "".join(_ALPHABET[byte % 32] for byte in stream[16:24])
    password = word(seed, index)
    return Secret(seed=seed, index=index, password=password, digest=md5crypt(password, salt))


@dataclass(frozen=True, slots=True)
class Hashing:
    """John the Ripper or hashcat against one md5crypt hash; the profile names which, nothing falls back."""

    name: str = "hashing"
    title: str = "a password is recovered from its hash"
    tools: tuple[str, ...] = ("john",)

    @property
    def defaults(self) -> Mapping[str, Scalar]:
        """``engine`` is ``john`` or ``hashcat``; ``candidates`` the length of the word list."""
        return _DEFAULTS

    def _given(self, job: Job) -> tuple[dict[str, Any], Secret]:
        given = settings(self, job)
        if given["engine"] not in ENGINES:
            raise ConfigError(
                f"workload hashing: engine must be one of {', '.join(ENGINES)}, not {given['engine']!r}"
            )
        if not 1 <= given["candidates"] <= 100_000_000:
            raise ConfigError("workload hashing: candidates must be 1 to 100,000,000")
        return given, secret(job.key, job.tenant, given["candidates"])

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line: hash and word list number, not the password. Raises ConfigError."""
        given, asked = self._given(job)
        arguments = {
            "engine": given["engine"],
            "candidates": given["candidates"],
            "seed": asked.seed,
            "digest": asked.digest,
            "threads": job.vcpus,
            "folder": f"{job.place.work}/{job.key}",
        }
        return command(job, "hashing.py", arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """The password against ours; candidates tried per second. Raises ParseError."""
        given, asked = self._given(job)
        seen, engine, versions = report_of(self, stdout)
        spent = seen.seconds("seconds")
        tried = asked.index + 1 if seen.text_or_none("found") == asked.password else given["candidates"]
        return Parsed(
            engine=engine,
            answers=(
                exact("engine", given["engine"], engine),
                exact("candidates", given["candidates"], seen.integer("candidates")),
                exact("password", asked.password, seen.text_or_none("found")),
            ),
            measurements=(
                measure("hashing.candidate_rate", rate(tried, spent), "1/s"),
                measure("hashing.reported_rate", seen.optional("reported_rate"), "1/s"),
            ),
            versions=versions,
        )


WORKLOAD = Hashing()
