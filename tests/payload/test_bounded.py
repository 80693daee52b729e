"""Work that hangs, dies or fails ends in an outcome with a name, and in time."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from harness.payload import bounded


def done(note: Any) -> dict[str, Any]:
    note("working", ready=True)
    return {"answer": 42}


def fails(note: Any) -> dict[str, Any]:
    note("trying", ready=True)
    raise bounded.Failure("no luck")


def never_ready(note: Any) -> dict[str, Any]:
    note("starting up")
    raise bounded.Failure("no luck")


def unable(_note: Any) -> dict[str, Any]:
    raise bounded.Unable("no library")


def hangs(note: Any) -> dict[str, Any]:
    note("calling the driver", ready=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def is_killed(note: Any) -> dict[str, Any]:
    note("on the way", ready=True)
    os.kill(os.getpid(), signal.SIGUSR1)
    return {}


def test_each_ending_has_its_word() -> None:
    started = time.monotonic()
    works = [done, fails, never_ready, unable, hangs, is_killed]
    found = bounded.together(works, stall=0.5)
    assert time.monotonic() - started < 5
    assert [o["kind"] for o in found] == ["done", "failed", "broken", "unable", "hung", "died"]
    assert found[0]["observed"] == {"answer": 42}
    assert [o["at"] for o in found[1:3]] == ["trying", "starting up"]
    assert found[4]["at"] == "calling the driver"
    assert found[5]["error"] == "signal 10 ended it"


@pytest.mark.parametrize(
    ("mishap", "words"),
    [
        (lambda: {}["no such key"], "a bug in this test: KeyError: 'no such key'"),
        (lambda: os.stat("/nowhere/at/all"), "FileNotFoundError"),  # noqa: PTH116
        (lambda: bytearray(1 << 62), "MemoryError"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9 ended it, as the kernel does when memory"),
    ],
)
def test_what_is_not_the_devices_doing_leaves_it_unknown(mishap: Any, words: str) -> None:
    def work(note: Any) -> dict[str, Any]:
        note("working", ready=True)
        mishap()
        return {}

    found = bounded.alone(work, stall=5)
    assert (found["kind"], found["at"], words in found["error"]) == ("unable", "working", True)


def test_work_that_goes_on_saying_something_may_take_its_time() -> None:
    def steady(note: Any) -> dict[str, Any]:
        for step in range(8):
            note(f"step {step}", ready=True)
            time.sleep(0.1)
        return {}

    assert bounded.alone(steady, stall=0.4)["kind"] == "done"


def test_a_large_result_comes_whole() -> None:
    def long(_note: Any) -> dict[str, Any]:
        return {"text": "x" * 3_000_000}

    assert len(bounded.alone(long, stall=5)["observed"]["text"]) == 3_000_000


def test_nothing_is_left_running() -> None:
    bounded.together([hangs, hangs], stall=0.2)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize(
    ("kinds", "status"),
    [(["unable", "unable"], 3), (["broken", "unable"], 4), (["broken"], 4)],
)
def test_the_exit_status_says_whose_fault_it_is(
    kinds: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {str(n): {"kind": k, "at": "here", "error": "why"} for n, k in enumerate(kinds)}
    with pytest.raises(SystemExit) as ending:
        bounded.conclude("vram", "cuda", outcomes)
    assert ending.value.code == status
    assert "why (here)" in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize("kind", ["done", "failed", "hung", "died"])
def test_what_was_learned_of_one_device_is_told_with_the_others(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {
        "a": {"kind": kind, "at": "x", "error": "y", "observed": None},
        "b": {"kind": "broken", "at": "start", "error": "dead"},
    }
    bounded.conclude("vram", "cuda", outcomes)
    told = json.loads(capsys.readouterr().out)["observed"]["entries"]
    assert [e["kind"] for e in told] == [kind, "broken"]
