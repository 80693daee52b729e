"""The runner's answers: exactly what was announced, about the job that was asked for, or ParseError."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.scripts.protocol import read_answer, require_nonce
from harness.workloads.base import Job
from harness.workloads.runs import collect, nonce_of, parse_collected, parse_status, start, stop, wait
from tests.fakes.scripts import NONCE, framed

Frame = Callable[..., bytes]


def test_command_lines_name_key_and_base(job: Job) -> None:
    head = ("/bin/sh", "/opt/shakedown/payload/harness/payload/runner.sh")

    def without_nonce(argv: tuple[str, ...]) -> tuple[str, ...]:
        assert require_nonce(argv[2]) != require_nonce(start(job, ())[2]), "new for each question"
        return (*argv[:2], *argv[3:])

    tail = ("--base", "/run/shakedown/jobs", "--key", "k1")
    assert without_nonce(start(job, ("true", "x"))) == (*head, "start", *tail, "--", "true", "x")
    assert without_nonce(wait(job, 60)) == (*head, "wait", *tail, "--timeout", "60")
    assert collect(job)[3:] == ("collect", *tail, "--timeout", "0", "--max", "1048576")
    assert without_nonce(stop(job)) == (*head, "stop", *tail, "--grace", "5")


@pytest.mark.parametrize("key", ["", "a/b", "../x", "-- x", "a b", "x" * 129, "a\n", ".x", "$(reboot)"])
def test_a_key_that_could_leave_its_folder_is_refused(key: str) -> None:
    with pytest.raises(ConfigError):
        wait(Job(key=key, guest="g", tenant="t"), 1)


def test_status_and_both_outputs_are_taken_apart(frame: Frame) -> None:
    found = parse_collected(frame(b"out\n{}", b"err\xff"), "k1")
    assert (found.stdout, found.stderr) == (b"out\n{}", b"err\xff")
    assert found.status.seconds == 2.25
    assert found.status.exit_status == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "fine"}, {"state": "running"}, {"exit": None}, {"exit": "0"}, {"key": "k2"}, {"exit": -1},
        {"stdout_bytes": 99}, {"stdout_bytes": -1}, {"now": -1.0}, {"now": "1"}, {"started": "soon"},
        {"stopped": 0}, {"created": None}, {"boot": None},
    ],
)  # fmt: skip
def test_a_status_that_cannot_be_is_not_read(changes: dict[str, object], frame: Frame) -> None:
    with pytest.raises(ParseError):
        parse_collected(frame(b"out", b"err", **changes), "k1")


def test_a_missing_field_is_not_read(frame: Frame) -> None:
    data = json.loads(read_answer(frame(b""), "runner").content("status"))
    for name in set(data) - {"pid", "stderr_total"}:
        less = {k: v for k, v in data.items() if k != name}
        with pytest.raises(ParseError):
            parse_status(framed("runner", {"status": json.dumps(less) + "\n"}), "k1")


def test_a_truncated_answer_is_never_read(frame: Frame) -> None:
    whole = frame(b"hello")
    for cut in range(len(whole)):
        with pytest.raises(ParseError):
            parse_collected(whole[:cut], "k1")
    assert parse_collected(whole, "k1").stdout == b"hello"


def test_an_answer_to_another_question_is_not_read(frame: Frame, job: Job) -> None:
    whole = frame(b"hello")
    assert parse_collected(whole, "k1", NONCE).stdout == b"hello"
    for read in (parse_collected, parse_status):
        with pytest.raises(ParseError, match="answers another request"):
            read(whole, "k1", nonce_of(collect(job)))


@given(raw=st.binary(max_size=300))
def test_noise_is_never_a_status(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_collected(raw, "k1")
