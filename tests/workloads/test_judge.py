"""Every way of not answering has its own word, and none of them is a pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.model.inventory import LimitSpec
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.hashing.answers import secret
from harness.workloads.judge import judge
from harness.workloads.registry import workload, workloads

GPU = GuestDevice(address=PciAddress(0, 1, 0, 0), vendor="10de", device="2335", host=PciAddress(0, 65, 0, 0))
Frame = Callable[..., bytes]
Line = Callable[..., bytes]


def found(job: Job, **changes: Any) -> dict[str, Any]:
    password = secret(job.key, job.tenant, 2000).password
    return {"found": password, "reported_rate": 1e4, "seconds": 0.5, "candidates": 2000, **changes}


def test_a_right_answer_is_done_with_measurements_and_time(job: Job, frame: Frame, line: Line) -> None:
    raw = frame(line("hashing", found(job), engine="john"))
    limits = {"hashing.reported_rate": LimitSpec(lower=1.0)}
    result = judge(workload("hashing"), job, raw, limits=limits, transcript="t/1")
    assert (result.status, result.engine, result.seconds) == ("done", "john", 2.25)
    assert [a.ok for a in result.answers] == [True, True, True]
    assert {m.name: m.within for m in result.measurements} == {
        "hashing.candidate_rate": None,
        "hashing.reported_rate": True,
    }


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"exit": 139}, "failed", "signal 11: boom"),
        ({"exit": 1}, "failed", "status 1: boom"),
        ({"exit": 3}, "lost", "boom"),
        ({"exit": 137}, "lost", "broke off (exit status 137): boom"),
        ({"exit": 126}, "lost", "could not start it (exit status 126): boom"),
        ({"exit": 127}, "lost", "could not start it (exit status 127): boom"),
        ({"state": "running", "exit": None, "ended": None}, "timeout", "still running after 2 s"),
        ({"state": "lost", "exit": None}, "lost", "left no exit status"),
        ({"state": "absent", "exit": None}, "lost", "rebooted"),
        ({"stopped": True}, "timeout", "stopped"),
        ({"stdout_total": 5000}, "lost", "of 5000 bytes"),
        ({"key": "other"}, "lost", "other"),
    ],
)
def test_a_bad_ending_has_its_word_even_beside_a_right_answer(  # noqa: PLR0917
    changes: dict[str, Any], status: str, words: str, job: Job, frame: Frame, line: Line
) -> None:
    raw = frame(line("hashing", found(job), engine="john"), b"boom\n", **changes)
    result = judge(workload("hashing"), job, raw)
    assert result.status == status
    assert words in result.detail
    assert result.answers == ()


def test_a_defect_of_the_payload_is_no_fault_of_the_machine(job: Job, frame: Frame) -> None:
    trace = b"Traceback (most recent call last):\n" + b'  File "x", line 1\n' * 200 + b"KeyError: 'found'\n"
    result = judge(workload("hashing"), job, frame(b"", trace, exit=1))
    assert (result.status, result.detail.endswith("KeyError: 'found'")) == ("lost", True)
    assert judge(workload("hashing"), job, frame(b"", trace, exit=139)).status == "failed"


def test_a_payload_that_could_not_work_says_why(job: Job, frame: Frame) -> None:
    raw = frame(b'{"payload": "hashing", "error": "john is not installed here"}\n', exit=3)
    result = judge(workload("hashing"), job, raw)
    assert (result.status, result.detail) == ("lost", "john is not installed here")


@pytest.mark.parametrize("one", workloads(), ids=lambda w: w.spec.name)
@pytest.mark.parametrize(
    "stdout",
    [
        b"", b"\n", b"{}\n", b"[]\n", b"null\n", b"NaN\n", b'"x"\n', b"\xff\xfe{}\n", b"{" * 5000 + b"\n",
        b'{"payload": "device"}\n', b"x" * 100_000 + b"\n", b'{"a": 1, "a": 2}\n', b"\x1b[31m{}\n",
        b"Traceback (most recent call last):\n  File\n", b'{"a": ' + b"9" * 5000 + b"}\n",
    ],
    ids=range(15),
)  # fmt: skip
def test_hostile_output_is_lost_never_done(one: Any, stdout: bytes, job: Job, frame: Frame) -> None:
    if one.spec.name == "p2p":  # which has nothing to do without two GPUs
        gpus = (GPU, replace(GPU, address=PciAddress(0, 2, 0, 0), host=PciAddress(0, 66, 0, 0)))
        job = replace(job, devices=gpus)
    result = judge(one, job, frame(stdout))
    assert result.status == "lost"
    assert result.answers == ()
    assert result.detail


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_line_is_never_a_pass(data: st.DataObject, job: Job, frame: Frame, line: Line) -> None:
    good = line("hashing", found(job), engine="john")
    at = data.draw(st.integers(0, len(good) - 1))
    kind = data.draw(st.sampled_from(["cut", "drop", "insert", "double"]))
    bad = {
        "cut": good[:at],
        "drop": good[:at] + good[at + 1 :],
        "insert": good[:at] + data.draw(st.binary(min_size=1, max_size=3)) + good[at:],
        "double": good[:at] + good + good[at:],
    }[kind]
    result = judge(workload("hashing"), job, frame(bad))
    if result.status == "done" and all(a.ok for a in result.answers):
        whole = json.loads(bad)  # what is not an answer (a version, a rate, a space) may have changed
        assert whole["observed"]["found"] == found(job)["found"]
        assert whole["observed"]["candidates"] == 2000


@given(
    value=st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers(), st.just([]))
)
@pytest.mark.parametrize("name", ["found", "seconds", "candidates", "reported_rate"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_absurd_values_are_no_pass(value: Any, name: str, job: Job, frame: Frame, line: Line) -> None:
    result = judge(
        workload("hashing"), job, frame(line("hashing", found(job, **{name: value}), engine="john"))
    )
    passed = result.status == "done" and all(a.ok for a in result.answers)
    if name in ("found", "candidates"):
        assert not passed or value == found(job)[name]
    elif passed:
        assert value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        for m in result.measurements:
            assert m.value is None or abs(m.value) < float("inf")


def test_another_jobs_right_answer_is_a_wrong_one(job: Job, frame: Frame, line: Line) -> None:
    other = replace(job, tenant="run1-g2")
    result = judge(workload("hashing"), job, frame(line("hashing", found(other), engine="john")))
    assert [a.ok for a in result.answers] == [True, True, False]
