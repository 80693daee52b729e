"""Several loads at once: every answer of every run is compared, and a load that did nothing is no pass."""

from __future__ import annotations

import base64
import dataclasses
import json
import lzma
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.workloads.base import Job, Place
from harness.workloads.hashing.answers import secret
from harness.workloads.mix import answers as mix
from harness.workloads.mix.spec import SPEC
from tests.packed import argv as started
from tests.packed import packed as folder

SMALL: dict[str, dict[str, Any]] = {"transcode": {"width": 64, "height": 48, "frames": 5}}


def packed(text: bytes) -> str:
    return base64.b64encode(lzma.compress(text)).decode()


def a_run(load: str, output: bytes, **changes: Any) -> dict[str, Any]:
    fields = {"load": load, "status": 0, "cut": False, "started": 1.0, "ended": 2.0, "said": ""}
    return {**fields, "number": 1, "bytes": len(output), "output": output, **changes}


def a_report(done: list[dict[str, Any]], /, **changes: Any) -> bytes:
    phases: Any = [
        {"kind": kind, "started": 20.0 * n, "ended": 20.0 * (n + 1), "stops": 1}
        for n, kind in enumerate(("ramp", "pulse", "soak"))
    ]
    outputs = b"".join(run["output"] for run in done)
    shown = [{k: v for k, v in run.items() if k != "output"} for run in done]
    observed = {"phases": phases, "runs": shown, "outputs": packed(outputs), "full": False, **changes}
    whole = {"payload": "mix", "engine": "mix", "observed": observed, "versions": {"python": "3.11"}}
    return (json.dumps(whole) + "\n").encode()


@pytest.fixture
def only_hashing(job: Job) -> Job:
    return dataclasses.replace(job, parameters={"loads": "hashing"})


def hashing_output(job: Job, **observed: Any) -> bytes:
    """What the hashing payload prints for this mix, with the right password unless told otherwise."""
    _load, one = mix.WORKLOAD._given(job)[1][0]
    asked = secret(one.key, one.tenant, 2000)
    seen = {"found": asked.password, "candidates": 2000, "seconds": 1.0, "reported_rate": None, **observed}
    whole = {"payload": "hashing", "engine": "john", "observed": seen, "versions": {}}
    return (json.dumps(whole) + "\n").encode()


def wrong(job: Job, report: bytes) -> list[str]:
    return [answer.name for answer in mix.WORKLOAD.parse(job, report).answers if not answer.ok]


def test_right_runs_are_right(only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing))
    assert wrong(only_hashing, a_report([good, good])) == []


def test_one_wrong_answer_among_many_runs_is_wrong_and_named(only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing))
    bad = a_run("hashing", hashing_output(only_hashing, found="nonsense"))
    assert wrong(only_hashing, a_report([good, bad, good])) == ["hashing run 2: password"]


def test_a_load_that_never_came_to_an_end_is_no_pass_and_no_fault(only_hashing: Job) -> None:
    cut = a_run("hashing", b"", cut=True)
    for runs in ([], [cut]):
        with pytest.raises(ParseError, match="no run of hashing completed"):
            mix.WORKLOAD.parse(only_hashing, a_report(runs))


def test_a_last_run_that_may_have_hung_is_no_pass(only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing), ended=11.0)
    cut = a_run("hashing", b"", cut=True, started=20.0, ended=40.0)
    assert wrong(only_hashing, a_report([good, cut])) == []
    cut["ended"] = 60.0
    with pytest.raises(ParseError, match=r"stopped after 40 s .* the longest run before took 10 s"):
        mix.WORKLOAD.parse(only_hashing, a_report([good, cut]))


@pytest.mark.parametrize(
    ("status", "said"), [(1, "Traceback (most recent call last): ... KeyError"), (137, "")]
)
def test_a_run_that_broke_off_by_itself_accuses_no_device(status: int, said: str, only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing))
    with pytest.raises(ParseError, match="ended with an error"):
        mix.WORKLOAD.parse(only_hashing, a_report([good, a_run("hashing", b"", status=status, said=said)]))


def test_a_defect_of_a_load_is_told_from_its_failure_however_much_it_says(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "raise KeyError('x' * 900)"]
    asked = {
        "loads": [{"name": "hashing", "argv": argv, "steady": False}],
        "phases": [{"kind": "soak", "seconds": 0.2}],
        "pulse_seconds": 1.0,
        "grace_seconds": 30.0,
        "folder": str(tmp_path / "k"),
    }
    program = started(SPEC.job, asked)
    done = subprocess.run(program, capture_output=True, check=True, timeout=60)
    said = json.loads(done.stdout)["observed"]["runs"][0]["said"]
    assert said.startswith("Traceback (most recent call last):")
    assert len(said) < 600


def test_near_and_far_are_not_told_apart_beside_other_loads() -> None:
    assert mix.parameters_in_mix({"pcie": {"near_tolerance": 0.1}}, "pcie") == {"near_tolerance": 0.9}
    assert mix.parameters_in_mix({"mix.pcie": {"near_tolerance": 0.2}}, "pcie") == {"near_tolerance": 0.2}


def test_a_load_that_died_is_wrong_and_one_that_could_not_work_is_no_answer_at_all(only_hashing: Job) -> None:
    assert wrong(only_hashing, a_report([a_run("hashing", b"", status=139, said="Segmentation fault")])) == [
        "hashing run 1: ends without error",
        "hashing: runs with right answers",
    ]
    with pytest.raises(ParseError, match=r"could not run: .*john is not in"):
        mix.WORKLOAD.parse(
            only_hashing, a_report([a_run("hashing", b'{"error": "john is not in this image"}\n', status=3)])
        )


def test_phases_left_out_or_cut_short_are_wrong(only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing))
    short = [{"kind": "ramp", "started": 0.0, "ended": 20.0, "stops": 0}]
    assert wrong(only_hashing, a_report([good], phases=short)) == ["phases", "time under load"]


@pytest.mark.parametrize(
    "outputs",
    ["", "!", packed(b"x")[:-8], packed(b"x" * 7), packed(b""), base64.b64encode(b"no xz at all").decode()],
)
def test_outputs_that_cannot_be_unpacked_or_do_not_fit_are_no_answer(only_hashing: Job, outputs: str) -> None:
    with pytest.raises(ParseError, match=r"mix|hashing"):
        mix.WORKLOAD.parse(only_hashing, a_report([a_run("hashing", b"12345")], outputs=outputs))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["load", "status", "cut", "bytes", "said", "kind"]), inner)
        ),
        max_leaves=10,
    )
)
def test_odd_runs_are_parse_errors_and_nothing_else(runs: Any) -> None:
    job = Job(key="k", guest="g", tenant="t", parameters={"loads": "hashing"})
    for observed in ({"runs": runs}, {"runs": [runs]}, {"outputs": runs}, {"phases": runs}):
        report = a_report([], **observed)
        try:
            mix.WORKLOAD.parse(job, report)
        except ParseError:
            continue


@pytest.mark.parametrize(
    "parameters",
    [
        {"loads": ""},
        {"loads": "hashing,hashing"},
        {"loads": "mix"},
        {"phases": "boom"},
        {"phases": ""},
        {"seconds": 0.0},
        {"pulse_seconds": 0.0},
        {"steady": "device"},
    ],
)
def test_what_cannot_be_mixed_is_refused(job: Job, parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="workload mix"):
        mix.WORKLOAD.prepare(dataclasses.replace(job, parameters=parameters))


@pytest.mark.skipif(not (shutil.which("john") and shutil.which("ffmpeg")), reason="no john or no ffmpeg")
def test_real_loads_side_by_side_with_pulses(tmp_path: Path) -> None:
    place = Place(python=sys.executable, payload=str(folder()), work=str(tmp_path / "work"))
    job = Job(
        key="k",
        guest="g",
        tenant="t",
        place=place,
        siblings=SMALL,
        parameters={"seconds": 2.4, "pulse_seconds": 0.25, "phases": "ramp,pulse"},
    )
    done = subprocess.run(mix.WORKLOAD.prepare(job), capture_output=True, check=True, timeout=60)
    parsed = mix.WORKLOAD.parse(job, done.stdout)
    assert [answer for answer in parsed.answers if not answer.ok] == []
    assert parsed.engine == "hashing:john+transcode:cpu"
    assert all(m.value >= 1 for m in parsed.measurements)
    pulse = json.loads(done.stdout)["observed"]["phases"][1]
    assert pulse["stops"] >= 1
    assert list((tmp_path / "work/k").iterdir()) == []


def test_output_that_did_not_fit_is_no_answer_but_hides_no_wrong_one(only_hashing: Job) -> None:
    good = a_run("hashing", hashing_output(only_hashing))
    bad = a_run("hashing", hashing_output(only_hashing, found="nonsense"))
    unable = a_run("hashing", b'{"error": "john is not in this image"}\n', status=3)
    with pytest.raises(ParseError, match="exceeds its limit"):
        mix.WORKLOAD.parse(only_hashing, a_report([good], full=True))
    assert wrong(only_hashing, a_report([unable, bad], full=True)) == ["hashing run 2: password"]


def test_loads_end_with_the_mix_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "k"
    asked = {
        "loads": [
            {"name": "sleeper", "argv": ["/bin/sh", "-c", "echo $$ > pid; exec sleep 600"], "steady": False}
        ],
        "phases": [{"kind": "soak", "seconds": 600.0}],
        "pulse_seconds": 1.0,
        "grace_seconds": 1.0,
        "folder": str(folder),
    }
    child = subprocess.Popen(started(SPEC.job, asked), cwd=tmp_path)
    pid = tmp_path / "pid"
    for _ in range(100):
        if pid.exists() and pid.read_text().strip():
            break
        time.sleep(0.05)
    child.kill()
    child.wait()
    load = Path("/proc") / pid.read_text().strip() / "cmdline"
    for _ in range(100):
        if not load.exists() or b"sleep" not in load.read_bytes():
            return
        time.sleep(0.05)
    pytest.fail("the load outlived the mix")
