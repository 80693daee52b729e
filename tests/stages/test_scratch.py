"""The directory of a run's keys: removed when its owner is dead, by whatever signal, and never before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.stages.guest.scratch import PREFIX, private_directory
from tests.alone import alone

HOLD = """
import sys, time
from pathlib import Path
from harness.stages.guest.scratch import private_directory
with private_directory(Path(sys.argv[1])) as directory:
    (directory / "guest.key").write_text("secret")
    print(directory, flush=True)
    time.sleep(600)
"""


def _names(parent: Path) -> set[str]:
    return {path.name for path in parent.glob(f"{PREFIX}*")}


def test_only_this_user_can_read_it_and_it_goes_with_the_block(tmp_path) -> None:
    with private_directory(tmp_path) as directory:
        assert directory.stat().st_mode & 0o077 == 0
        (directory / "guest.key").write_text("secret")
    assert _names(tmp_path) == set()


def test_it_goes_when_the_block_breaks(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt), private_directory(tmp_path):
        raise KeyboardInterrupt
    assert _names(tmp_path) == set()


def test_keys_of_a_living_controller_stay_and_those_of_a_killed_one_go(tmp_path) -> None:
    child = subprocess.Popen(
        (sys.executable, "-c", HOLD, str(tmp_path)), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert child.stdout is not None
        theirs = Path(child.stdout.readline().strip())
        with private_directory(tmp_path) as ours:
            assert _names(tmp_path) == {theirs.name, ours.name}
        assert (theirs / "guest.key").exists()
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
    assert theirs.is_dir(), "a killed process cleans nothing up"
    with private_directory(tmp_path) as ours:
        assert _names(tmp_path) == {ours.name}


def test_what_names_no_owner_or_points_elsewhere_stays(tmp_path) -> None:
    """It is being made at this moment, or is not ours: nobody can tell, so nothing is removed."""
    newborn = tmp_path / f"{PREFIX}newborn"
    newborn.mkdir()
    (newborn / "owner.new").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    with private_directory(tmp_path):
        pass
    assert _names(tmp_path) == {newborn.name, f"{PREFIX}link"}
    assert (elsewhere / "owner").exists()


def test_it_stays_while_its_owner_lives_even_when_the_lock_was_closed(tmp_path) -> None:
    code = """
from harness.stages.guest.scratch import private_directory
parent = Path(sys.argv[1])
os.umask(0o777)
with private_directory(parent) as ours:
    assert ours.stat().st_mode & 0o777 == 0o700
    close_all()
    theirs = take_numbers(parent / "theirs")
    with private_directory(parent):
        assert ours.is_dir()
assert not ours.exists()
for number in theirs:
    os.write(number, b"x")
"""
    alone(code, tmp_path)
    assert _names(tmp_path) == set()


def test_a_fork_that_leaves_the_block_removes_nothing(tmp_path) -> None:
    code = """
import contextlib
from harness.stages.guest.scratch import private_directory
os.chdir(sys.argv[1])
stack = contextlib.ExitStack()
ours = stack.enter_context(private_directory(Path(".")))
assert in_a_fork(stack.close) == 0
assert ours.is_dir()
os.chdir("/")
stack.close()
assert not ours.exists()
"""
    alone(code, tmp_path)
    assert _names(tmp_path) == set()
