"""Build commands: logged, bounded, and killed with all their children."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.identity import is_dead
from harness.images.processes import quiet, require_tool, run_logged, tail
from tests.processes import naming, wait_gone


def test_a_missing_tool_names_its_package() -> None:
    with pytest.raises(ImageError, match="no-such-tool-here") as caught:
        require_tool("no-such-tool-here", "some-package")
    assert caught.value.remedy == "apt-get install some-package"


def test_a_failing_command_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(ImageError, match=r"making it failed with exit status 3: .*no space left"):
        run_logged(["sh", "-c", "echo no space left >&2; exit 3"], log=log, what="making it", progress=print)


def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    with pytest.raises(ImageError, match="did not end within 1 s"):
        run_logged(
            ["sh", "-c", "sleep 300 & sh -c 'sleep 300 # $0' \"$0\"", f"{marker}/x"],
            log=tmp_path / "log",
            what="waiting",
            progress=print,
            deadline=1.0,
        )
    assert naming(f"{marker}/") == ()


def test_what_forks_while_it_is_being_killed_is_killed_too(tmp_path: Path) -> None:
    """A shell that starts the next process all the time: one look at the process table misses some."""
    restless = "while :; do sh -c 'sleep 300 & sleep 300 # $0' \"$0\" & sleep 0.03; done"
    with pytest.raises(ImageError, match="did not end within 1 s"):
        run_logged(
            ["sh", "-c", restless, f"{tmp_path}/marker/x"],
            log=tmp_path / "log",
            what="waiting",
            progress=print,
            deadline=1.0,
        )
    assert naming(f"{tmp_path}/marker/") == ()


_LEAVES_A_DAEMON = (
    "(setsid sh -c 'cd /; exec sleep 300' <&- >&- 2>&- & echo $! > $0); while [ ! -s $0 ]; do :; done; "
)


def _daemon(file: Path) -> int:
    return int(file.read_text())


@pytest.mark.parametrize(
    ("end", "words"), [("exit 0", ""), ("exit 3", "exit status 3"), ("kill -9 $$", "137")]
)
def test_a_daemon_that_a_command_leaves_ends_with_it(tmp_path: Path, end: str, words: str) -> None:
    """Its parent gone, of a session of its own, its files closed: the keeper is its parent now."""
    argv = ["sh", "-c", _LEAVES_A_DAEMON + end, str(tmp_path / "pid")]
    with pytest.raises(ImageError, match=words) if words else contextlib.nullcontext():
        run_logged(argv, log=tmp_path / "log", what="leaving", progress=print)
    assert is_dead(_daemon(tmp_path / "pid"))
    assert quiet(tmp_path, 0.0)


def test_a_command_has_the_signals_of_a_fresh_process_and_no_input(tmp_path: Path) -> None:
    script = "grep -E 'SigIgn|SigBlk' /proc/self/status; cat; ps -o sid= -p $$ >&2; exit 5"
    with pytest.raises(ImageError, match="exit status 5"):
        run_logged(["sh", "-c", script], log=tmp_path / "log", what="asking", progress=print)
    said = (tmp_path / "log").read_text().split()
    assert said[said.index("SigIgn:") + 1].strip("0") == ""
    assert said[said.index("SigBlk:") + 1].strip("0") == ""


def test_a_program_that_is_not_there_is_said_in_its_log(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"exit status 127: .*no-such-program: No such file"):
        run_logged(["/no-such-program"], log=tmp_path / "log", what="starting", progress=print)


def test_a_keeper_that_is_killed_takes_its_command_along_and_what_is_left_is_known(tmp_path: Path) -> None:
    """Nobody looks for what is left; it holds the lock while it has its files open, and so is known."""
    argv = ["sh", "-c", "(setsid sleep 300 & echo $! > $0); exec sleep 300", str(tmp_path / "pid")]
    failed: list[ImageError] = []

    def build() -> None:
        try:
            run_logged(argv, log=tmp_path / "log", what="it", progress=print)
        except ImageError as error:
            failed.append(error)

    thread = threading.Thread(target=build)
    thread.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
        time.sleep(0.02)
    left = _daemon(tmp_path / "pid")
    keeper = _parent(left)
    while not (command := [pid for pid in naming("sleep") if _parent(pid) == keeper and pid != left]):
        time.sleep(0.02)
    os.kill(keeper, signal.SIGKILL)
    thread.join(20)
    assert "exit status -9" in failed[0].message
    assert wait_gone(command, 5.0)
    assert not quiet(tmp_path, 0.1)
    os.kill(left, signal.SIGKILL)
    assert quiet(tmp_path, 5.0)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_hostile_log_is_shown_as_escapes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_000 + b"\n\xff\xfe broken\n")
    assert tail(log).endswith("\\xff\\xfe broken")
    assert len(tail(log)) < 10_000
    assert tail(tmp_path / "none") == ""


def test_progress_is_told_while_a_command_runs(tmp_path: Path) -> None:
    began = time.monotonic()
    run_logged(["true"], log=tmp_path / "log", what="nothing", progress=print)
    assert time.monotonic() - began < 10
