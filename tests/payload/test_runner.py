"""runner.sh, really run: a key starts once, whatever happens around it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from harness.scripts.protocol import read_answer
from harness.workloads.base import Job, Place
from harness.workloads.runs import collect, parse_collected, parse_status, start, stop, wait
from tests.fakes.scripts import NONCE
from tests.packed import packed
from tests.processes import wait_gone

RUNNER = Place(payload=str(packed())).runner


@pytest.fixture
def job(tmp_path: Path) -> Job:
    place = Place(payload=str(packed()), jobs=str(tmp_path / "jobs"))
    return Job(key="k1", guest="g1", tenant="t", place=place)


def run(argv: tuple[str, ...]) -> bytes:
    return subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout


def began(job: Job, *argv: str) -> None:
    assert parse_status(run(start(job, argv)), job.key).created


def test_a_job_is_started_waited_for_and_collected(job: Job) -> None:
    began(job, "sh", "-c", "echo out; echo err >&2; exit 7")
    status = parse_status(run(wait(job, 20)), "k1")
    assert (status.state, status.exit_status, status.stdout_bytes) == ("done", 7, 0)
    assert status.seconds is not None
    assert status.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    found = parse_collected(run(collect(job)), "k1")
    assert (found.stdout, found.stderr, found.status.exit_status) == (b"out\n", b"err\n", 7)
    again = parse_collected(run(collect(job)), "k1")
    assert (again.stdout, again.status.ended) == (found.stdout, found.status.ended)


def test_a_job_sees_nothing_of_the_callers_environment_but_where_things_lie(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "LIBGL_ALWAYS_SOFTWARE", "OMP_NUM_THREADS", "LD_PRELOAD"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/nvidia/lib 64")
    monkeypatch.delenv("TMPDIR", raising=False)
    began(job, "env")
    run(wait(job, 20))
    said = parse_collected(run(collect(job)), "k1").stdout.decode()
    found = dict(line.split("=", 1) for line in said.splitlines())
    home = str(tmp_path / "home")
    path = found.pop("PATH")
    assert path in (os.environ["PATH"], f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found == {"HOME": home, "LD_LIBRARY_PATH": "/usr/local/nvidia/lib 64"}
    assert Path(home).is_dir()


def test_a_key_is_started_once_even_by_many_at_a_time(job: Job, tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = start(job, ("sh", "-c", f"echo once >> {log}; sleep 0.2"))
    many = [subprocess.Popen(argv, stdout=subprocess.PIPE) for _ in range(8)]
    created = [parse_status(p.communicate(timeout=60)[0], "k1").created for p in many]
    assert sorted(created) == [False] * 7 + [True]
    assert parse_status(run(wait(job, 20)), "k1").state == "done"
    assert not parse_status(run(argv), "k1").created
    assert log.read_text() == "once\n"


def test_waiting_ends_with_the_job_or_with_the_time(job: Job) -> None:
    began(job, "sleep", "1.5")
    at = time.monotonic()
    assert parse_status(run(wait(job, 1)), "k1").state == "running"
    assert time.monotonic() - at < 1.4
    assert parse_status(run(wait(job, 30)), "k1").exit_status == 0
    assert time.monotonic() - at < 10


def test_the_starter_does_not_hold_the_connection_open(job: Job) -> None:
    at = time.monotonic()
    began(job, "sleep", "20")
    assert time.monotonic() - at < 5
    run(stop(job))


def test_stop_ends_the_whole_session_and_may_be_repeated(job: Job, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    began(job, "sh", "-c", f"trap '' TERM; sleep 60 & echo $! $$ > {pids}; wait; sleep 60")
    while not pids.exists() or not pids.read_text().endswith("\n"):
        time.sleep(0.02)
    status = parse_status(run(stop(job, grace=0)), "k1")
    assert (status.stopped, status.state in ("lost", "done")) == (True, True)
    # A signal is delivered before the process is gone.
    assert wait_gone([int(pid) for pid in pids.read_text().split()], 5.0)
    assert parse_status(run(stop(job)), "k1").state == status.state


def test_what_outlives_a_stopped_job_in_its_session_goes_with_it(job: Job, tmp_path: Path) -> None:
    """The job ends at once, and so does its supervisor: then nobody may be signalled by that number."""
    pid = tmp_path / "pid"
    began(job, "sh", "-c", f"(trap '' TERM; sleep 60 & echo $! > {pid}; wait) & sleep 60")
    while not pid.exists() or not pid.read_text().endswith("\n"):
        time.sleep(0.02)
    status = parse_status(run(stop(job)), "k1")
    assert (status.state, status.stopped) == ("done", True)
    assert wait_gone([int(pid.read_text())], 5.0)


@pytest.mark.parametrize("slot", ["born", "pid"])
def test_a_supervisor_whose_number_is_anothers_is_not_signalled(job: Job, tmp_path: Path, slot: str) -> None:
    """Its number reused, or the jobs of another container in the same directory."""
    began(job, "sleep", "20")
    file = Path(job.place.jobs, "k1", slot)
    kept = file.read_text()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        words = kept.split()
        file.write_text(str(stranger.pid) if slot == "pid" else " ".join([*words[:-1], "pid:[1]"]))
        status = parse_status(run(stop(job, grace=0)), "k1")
        assert (status.state, status.stopped) == ("running", False)
        assert stranger.poll() is None
        stranger.kill()
    file.write_text(kept)
    assert parse_status(run(stop(job)), "k1").state == "done"


def test_a_job_that_is_told_to_end_leaves_its_status(job: Job) -> None:
    began(job, "sleep", "60")
    status = parse_status(run(stop(job)), "k1")
    assert (status.state, status.exit_status, status.stopped) == ("done", 128 + signal.SIGTERM, True)


def test_a_killed_supervisor_is_noticed_at_once(job: Job) -> None:
    began(job, "sleep", "3")
    supervisor = int(Path(job.place.jobs, "k1", "pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    at = time.monotonic()
    status = parse_status(run(wait(job, 30)), "k1")
    assert (status.state, status.exit_status) == ("lost", None)
    assert time.monotonic() - at < 10


def test_a_key_that_nobody_started_is_absent(job: Job) -> None:
    assert parse_status(run(wait(job, 5)), "k1").state == "absent"
    assert parse_collected(run(collect(job)), "k1").status.state == "absent"
    assert parse_status(run(stop(job)), "k1").state == "absent"


def test_a_starter_that_died_half_way_leaves_a_lost_job_not_a_second_start(job: Job) -> None:
    Path(job.place.jobs, "k1").mkdir(parents=True)
    status = parse_status(run(start(job, ("true",))), "k1")
    assert (status.created, status.state) == (False, "lost")


def test_only_the_end_of_much_output_comes_back(job: Job) -> None:
    began(job, "sh", "-c", "head -c 3000000 /dev/zero; printf end")
    run(wait(job, 30))
    found = parse_collected(run(collect(job)), "k1")
    assert len(found.stdout) == 1 << 20
    assert found.stdout.endswith(b"\0end")
    assert found.status.stdout_total == 3000003


def test_output_of_a_running_job_is_cut_at_what_was_announced(job: Job) -> None:
    began(job, "sh", "-c", "while :; do echo 0123456789; done")
    for _ in range(5):
        assert parse_collected(run(collect(job)), "k1").status.state == "running"
    run(stop(job))


@pytest.mark.parametrize(
    "argv",
    [
        ("start", "--key", "../x", "--", "true"), ("start", "--key", "", "--", "true"), ("wait",),
        ("start", "--key", "a/b", "--", "true"), ("start", "--key", "a"), ("fly", "--key", "a"),
        ("wait", "--key", "a", "--timeout", "1;reboot"), ("wait", "--key", "a", "--timeout", "-1"),
        ("wait", "--key", "$(id)"), ("wait", "--key"), ("wait", "--key", "a", "--shell", "x"),
    ],
)  # fmt: skip
def test_wrong_usage_is_refused(argv: tuple[str, ...], tmp_path: Path) -> None:
    whole = ("sh", RUNNER, NONCE, argv[0], "--base", str(tmp_path / "b"), *argv[1:])
    done = subprocess.run(whole, capture_output=True, check=False)
    answer = read_answer(done.stdout, "runner", NONCE)
    assert (done.returncode, answer.status, answer.frames) == (2, 2, ())
    assert done.stderr
    assert not (tmp_path / "b").exists()


def test_arguments_reach_the_job_unchanged(job: Job) -> None:
    words = ("a b", "$HOME", "`id`", "--", "*", "", "é\n", '{"x":1}')
    began(job, "printf", "<%s>", *words)
    run(wait(job, 20))
    assert parse_collected(run(collect(job)), "k1").stdout.decode() == "".join(f"<{w}>" for w in words)


def test_the_script_is_plain_posix_shell() -> None:
    shells = [shell for shell in ("dash", "bash") if shutil.which(shell)]
    for shell in shells:
        assert subprocess.run([shell, "-n", RUNNER], check=False).returncode == 0
    assert shells
