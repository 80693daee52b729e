"""The runner's answers: exactly what was announced, about the job that was asked for, or ParseError."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.workloads.base import Job
from harness.workloads.runs import collect, parse_collected, parse_status, start, stop, wait

Frame = Callable[..., bytes]


def test_command_lines_name_key_and_base(job: Job) -> None:
    head = ("/bin/sh", "/opt/shakedown/payload/harness/payload/runner.sh")
    tail = ("--base", "/run/shakedown/jobs", "--key", "k1")
    assert start(job, ("true", "x")) == (*head, "start", *tail, "--", "true", "x")
    assert wait(job, 60) == (*head, "wait", *tail, "--timeout", "60")
    assert collect(job)[2:] == ("collect", *tail, "--timeout", "0", "--max", "1048576")
    assert stop(job) == (*head, "stop", *tail, "--grace", "5")


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
    data = json.loads(frame(b"").splitlines()[0])
    for name in set(data) - {"pid", "stderr_total"}:
        less = {k: v for k, v in data.items() if k != name}
        with pytest.raises(ParseError):
            parse_status(json.dumps(less).encode() + b"\n", "k1")


@given(cut=st.integers(0, 400))
def test_a_truncated_frame_is_never_read(cut: int) -> None:
    status = (
        b'{"key":"k1","state":"done","created":false,"pid":7,"exit":0,"stopped":false,"started":1,"ended":2,'
        b'"now":3,"boot":"b","stdout_bytes":5,"stderr_bytes":0,"stdout_total":5,"stderr_total":0}\n'
    )
    whole = status + b"hello"
    if cut < len(whole):
        with pytest.raises(ParseError):
            parse_collected(whole[:cut], "k1")
    assert parse_collected(whole, "k1").stdout == b"hello"


@given(raw=st.binary(max_size=300))
def test_noise_is_never_a_status(raw: bytes) -> None:
    with pytest.raises(ParseError):
        parse_collected(raw, "k1")
