"""Keyed jobs in a guest (``runner.sh``): command lines and how to read the answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import ConfigError, ParseError
from harness.reading import reader
from harness.scripts.protocol import Answer, new_nonce, read_answer
from harness.scripts.script import Script
from harness.workloads.base import Job, Observation, strict_object

RUNNER = Script(
    name="runner",
    package="harness.workloads",
    file="runner.sh",
    needs="sh, flock, setsid, stat, head, tail and readlink",
)
"""Lies in a guest as ``Place.runner``: a nonce, a verb and its options."""

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
STATES = ("running", "done", "lost", "absent")
OUTPUT_LIMIT = 1 << 20
"""Bytes of stdout and of stderr that come back at most, the last ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A keyed job as the guest reports it. Times are seconds since the guest's boot."""

    key: str
    state: str
    created: bool
    exit_status: int | None
    """128 + n when signal n ended it; None while it runs or when it left none."""
    stopped: bool
    started: float | None
    ended: float | None
    now: float
    boot_id: str
    stdout_bytes: int
    stderr_bytes: int
    stdout_total: int

    @property
    def seconds(self) -> float | None:
        """How long it ran (so far); None when it never started."""
        if self.started is None:
            return None
        return max(0.0, (self.now if self.ended is None else self.ended) - self.started)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """A job's status and output."""

    status: RunStatus
    stdout: bytes
    stderr: bytes


def _argv(job: Job, verb: str, *options: str) -> tuple[str, ...]:
    if not _KEY.fullmatch(job.key):
        raise ConfigError(f"not a job key: {job.key!r} (letters, digits, '.', '_' and '-')")
    place = ("--base", job.place.jobs, "--key", job.key)
    return ("/bin/sh", job.place.runner, new_nonce(), verb, *place, *options)


def start(job: Job, payload: tuple[str, ...]) -> tuple[str, ...]:
    """Start ``payload`` detached under the job's key; a key that exists is reported, not started again."""
    return _argv(job, "start", "--", *payload)


def wait(job: Job, seconds: int) -> tuple[str, ...]:
    """Block in the guest until the job ended, at most ``seconds``."""
    return _argv(job, "wait", "--timeout", str(seconds))


def collect(job: Job, seconds: int = 0) -> tuple[str, ...]:
    """Fetch status and output, after waiting at most ``seconds`` for the end."""
    return _argv(job, "collect", "--timeout", str(seconds), "--max", str(OUTPUT_LIMIT))


def stop(job: Job, grace: int = 5) -> tuple[str, ...]:
    """End the job and all of its session: TERM, then KILL after ``grace`` seconds. Safe to call twice."""
    return _argv(job, "stop", "--grace", str(grace))


def nonce_of(argv: tuple[str, ...]) -> str:
    """The nonce of one of these command lines, which its answer must have."""
    return argv[2]


def _optional(seen: Observation, name: str) -> int | None:
    return seen.whole_or_none(name, bits=32)


@reader("a job's status")
def parse_status(raw: bytes, key: str, nonce: str | None = None) -> RunStatus:
    """The status that every verb answers; ``nonce`` is the one that was sent, where it is still known.

    Raises ParseError, also when it is about another key or answers another question.
    """
    return _status(read_answer(raw, RUNNER.name, nonce), key)


def _status(answer: Answer, key: str) -> RunStatus:
    seen = strict_object(answer.content("status"), "job status")
    state = seen.text("state")
    if seen.text("key") != key or state not in STATES:
        raise ParseError(
            f"job status: expected one of {key!r}, found {seen.text('key')[:80]!r} {state[:80]!r}"
        )
    started, ended = seen.optional("started"), seen.optional("ended")
    status = RunStatus(
        key=key,
        state=state,
        created=seen.flag("created"),
        exit_status=_optional(seen, "exit"),
        stopped=seen.flag("stopped"),
        started=started,
        ended=ended,
        now=seen.seconds("now"),
        boot_id=seen.text("boot"),
        stdout_bytes=seen.integer("stdout_bytes"),
        stderr_bytes=seen.integer("stderr_bytes"),
        stdout_total=seen.integer("stdout_total"),
    )
    if (state == "done") != (status.exit_status is not None):
        raise ParseError(f"job status: state {state} with exit status {status.exit_status}")
    return status


@reader("a job's output")
def parse_collected(raw: bytes, key: str, nonce: str | None = None) -> Collected:
    """What ``collect`` answers: a status, and exactly the bytes that it announces. ParseError as there."""
    answer = read_answer(raw, RUNNER.name, nonce)
    status = _status(answer, key)
    stdout, stderr = answer.content("stdout"), answer.content("stderr")
    if (len(stdout), len(stderr)) != (status.stdout_bytes, status.stderr_bytes):
        raise ParseError(
            f"collected job: {status.stdout_bytes} + {status.stderr_bytes} bytes announced, "
            f"{len(stdout)} + {len(stderr)} came"
        )
    return Collected(status=status, stdout=stdout, stderr=stderr)
