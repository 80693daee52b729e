"""Build commands: logged, bounded, and killed with all their children."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.images.processes import (
    find_by_argument,
    is_dead,
    reap,
    require_tool,
    run_logged,
    start_ticks,
    tail,
)


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
    assert find_by_argument(f"{marker}/") == ()


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
    assert find_by_argument(f"{tmp_path}/marker/") == ()


def test_reaping_leaves_our_own_session_alone(tmp_path: Path) -> None:
    """A pytest given this very directory as an argument must survive."""
    reap(tmp_path)
    assert not is_dead(os.getpid())


def test_start_times_tell_processes_apart() -> None:
    mine, first = start_ticks(os.getpid()), start_ticks(1)
    assert mine is not None
    assert first is not None
    assert mine >= first
    assert start_ticks(2**22 + 1) is None
    assert is_dead(2**22 + 1)


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
