"""Users' tests that hang, fork, close what is not theirs or kill the session: everything is given back all
the same, and the record says what happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.plugin.sessions import CANDIDATE, HOST, PROFILE, ROOT, prepare, session, suites

pytestmark = [
    pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a bare run claims this machine: it needs root"),
]


@pytest.fixture
def where(tmp_path):
    prepare(tmp_path)
    return tmp_path


def ran(where, body: str, *arguments: str):
    """The suites and one test of a user's, which gets the guest after its loads."""
    (where / "test_own.py").write_text(f"import os, signal, sys, threading, time\nimport pytest\n\n{body}\n")
    said = suites(where, "test_own.py", *arguments)
    assert said.record is not None, said.out
    assert not list((where / "work").rglob("runner.sh")), "the loads' files were not removed"
    claims = list_claims()
    assert not any(said.record["run"] in text for text in claims), claims
    return said


def list_claims() -> list[str]:
    return [path.read_text() for path in Path("/run/shakedown/claims").glob("*")]


def test_a_test_that_hangs_fails_in_time_and_the_rest_goes_on(where) -> None:
    said = ran(where, "@pytest.mark.timeout(2)\ndef test_hangs(guest):\n    time.sleep(600)")
    assert said.cells()["user.test_hangs", "bare"]["outcome"] == "FAIL"
    assert (said.verdict, said.status) == ("NO_GO", 1)
    assert said.cells()["run.no_errors", "host"]["outcome"] == "PASS"


def test_every_test_of_a_users_has_a_deadline(where) -> None:
    profile = (where / "short.yaml").read_text()
    (where / "short.yaml").write_text(f"{profile}\nworkload_deadline_seconds: 10.0\n")
    said = ran(where, "def test_hangs(guest):\n    time.sleep(600)")
    assert said.cells()["user.test_hangs", "bare"]["outcome"] == "FAIL", said.out
    assert "Timeout" in said.cells()["user.test_hangs", "bare"]["reason"]


def test_a_child_that_comes_back_from_a_fork_ends_nothing(where) -> None:
    body = "def test_forks(guest):\n    if os.fork():\n        os.wait()\n"
    said = ran(where, body)
    assert (said.verdict, said.status) == ("GO", 0), said.out
    assert said.out.count("report: ") == 1


def test_closed_descriptors_do_not_keep_the_guests(where) -> None:
    said = ran(where, "def test_closes(guest):\n    os.closerange(3, 4096)\n")
    assert said.verdict in ("INCONCLUSIVE", "NO_GO", "GO"), said.out
    judged = session(where, "judge", str(said.run), "--json", command=(sys.executable, "-P", "-m", "harness"))
    assert json.loads(judged.out)["agrees"] is True
    if said.verdict == "GO":
        assert said.cells()["user.test_closes", "bare"]["outcome"] == "PASS"


def test_another_directory_and_environment_do_not_lose_the_record(where, tmp_path_factory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    said = ran(
        where,
        f"def test_moves(guest):\n    os.chdir({str(elsewhere)!r})\n    os.umask(0o777)\n"
        "    os.environ.clear()\n    sys.stderr = None\n",
    )
    assert (said.verdict, said.status) == ("GO", 0), said.out
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_gives_everything_back_and_is_inconclusive(where, number) -> None:
    said = ran(where, f"def test_killed(guest):\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(60)")
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3), said.out
    assert said.record["evidence"]["interrupted"] is True
    reasons = {cell["reason"] for cell in said.cells().values() if cell["outcome"] is None}
    assert "the session ended before this check ran" in reasons


def test_a_session_that_exits_in_the_middle_ends_its_run(where) -> None:
    said = ran(where, "def test_leaves(guest):\n    pytest.exit('enough', returncode=0)\n")
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3), said.out


def test_a_killed_session_is_resumed_where_it_was(where) -> None:
    (where / "test_own.py").write_text("import os\ndef test_dies(guest):\n    os.kill(os.getpid(), 9)\n")
    session(where, str(ROOT / "suites"), "test_own.py", *CANDIDATE)
    (run,) = (where / "runs" / "here").iterdir()
    assert not (run / "run.json").exists()
    resumed = session(where, str(ROOT / "suites"), "--resume", str(run))
    record = json.loads((run / "run.json").read_text())
    assert resumed.status == record_status(record), resumed.out
    assert not any(record["run"] in text for text in list_claims())
    # The test that died was collected once and never answered.
    cells = {(c["check"], c["subject"]): c for c in record["decision"]["coverage"]}
    assert cells["user.test_dies", "bare"]["outcome"] is None
    assert record["decision"]["verdict"] == "INCONCLUSIVE"


XID = """name: played
description: The first GPU holds back an error, which its driver tells
faults:
  - {kind: xid, gpu: 0, at: 0.2, value: 94, what: "pid=7, Contained: CE User Channel"}
"""
QUIET = "name: played\ndescription: Two GPUs that are well\n"


@pytest.mark.parametrize("burn", [0.0, 600.0], ids=["after its loads", "under its loads"])
def test_a_fault_that_was_seen_before_the_kill_is_one_after_it(where, burn) -> None:
    """The machine is well when the run is taken up again; the card is no less broken."""
    host = HOST.replace("nvml_standin: default", "nvml_standin: ./played.yaml")
    profile = PROFILE.replace("checks:\n", f"burn_seconds: {burn}\nchecks:\n  guest.gpu_errors: blocker\n")
    prepare(where, host=host, profile=profile)
    (where / "played.yaml").write_text(XID)
    (where / "test_own.py").write_text("import os\ndef test_dies(guest):\n    os.kill(os.getpid(), 9)\n")
    arguments = (str(ROOT / "suites"), *(() if burn else ("test_own.py",)), *CANDIDATE)
    if burn:
        killed_under_its_loads(where, arguments)
    else:
        session(where, *arguments)
    (run,) = (where / "runs" / "here").iterdir()
    (where / "played.yaml").write_text(QUIET)
    text = (run / "events.jsonl").read_text()
    (run / "events.jsonl").write_text(text.replace('"burn_seconds":600.0', '"burn_seconds":0.0', 1))
    resumed = session(where, str(ROOT / "suites"), "--resume", str(run))
    record = json.loads((run / "run.json").read_text())
    cells = {(c["check"], c["subject"]): c for c in record["decision"]["coverage"]}
    assert cells["guest.gpu_errors", "bare"]["outcome"] == "FAIL", resumed.out
    assert cells["guest.gpu_errors", "bare"]["reason"].startswith("in attempt 1: ")
    assert (record["decision"]["verdict"], resumed.status) == ("NO_GO", 1)
    assert [each["number"] for each in record["evidence"]["attempts"]] == [1, 2]


def killed_under_its_loads(where, arguments) -> None:
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        *arguments,
    )
    with subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        for _ in range(600):
            spools = list(where.glob("runs/here/*/telemetry/bare.spool.jsonl"))
            if spools and b"Xid" in spools[0].read_bytes():
                break
            time.sleep(0.2)
        else:
            pytest.fail("the stand-in told nothing")
        time.sleep(2.0)
        child.kill()


def record_status(record) -> int:
    return {"GO": 0, "GO_WITH_WAIVERS": 0, "NO_GO": 1, "INCONCLUSIVE": 3}[record["decision"]["verdict"]]


def test_ctrl_c_twice_does_not_break_the_release(where) -> None:
    (where / "test_own.py").write_text(
        "import time\ndef test_waits(guest):\n    print('waiting', flush=True)\n    time.sleep(120)\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-s", "--import-mode=importlib"]
    with subprocess.Popen(
        [*command, str(ROOT / "suites"), "test_own.py", *CANDIDATE],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "waiting" in line and "waiting for" not in line:
                break
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 3, rest
    (run,) = (where / "runs" / "here").iterdir()
    assert json.loads((run / "run.json").read_text())["decision"]["verdict"] == "INCONCLUSIVE"
    assert not any(run.name in text for text in list_claims())
