"""Children: bounded in time and output, held by their standard input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.backends.held import HeldCommand
from harness.backends.process import deliver, end_group, run_child
from harness.errors import CommandTimeout, TransportError


def test_a_stream_without_end_is_cut_off_at_the_limit_and_the_child_ended() -> None:
    finished = run_child(("yes",), deadline=20, limit=100_000)
    assert finished.overflowed
    assert len(finished.stdout) == 100_000
    assert finished.status == 137
    with pytest.raises(TransportError, match="cut off"):
        deliver(finished, ("yes",), where="here", deadline=20)


def test_a_full_error_stream_does_not_block_a_child() -> None:
    script = "import sys; sys.stderr.write('e' * 1000000); sys.stdout.write('o' * 1000000)"
    finished = run_child((sys.executable, "-c", script), deadline=20)
    assert (len(finished.stdout), len(finished.stderr), finished.status) == (1_000_000, 1_000_000, 0)


def test_a_child_that_does_not_read_its_input_still_gives_its_answer() -> None:
    finished = run_child(
        ("sh", "-c", "exec 0<&-; echo no thanks; exit 3"), stdin=b"x" * 10_000_000, deadline=20
    )
    assert (finished.stdout, finished.status) == (b"no thanks\n", 3)


def test_the_deadline_ends_the_child_and_its_own_children_only(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    finished = run_child(("sh", "-c", f"sleep 60 & echo $! > {pids}; wait"), deadline=0.5)
    assert finished.timed_out
    assert finished.seconds < 10
    pid = int(pids.read_text())
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or ") Z " in state.read_text():
            return
        time.sleep(0.02)
    pytest.fail("the grandchild outlived the deadline")


def test_a_group_whose_leader_somebody_else_collected_is_not_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number may be another's by then."""
    signalled: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _number: signalled.append(group))
    taken = subprocess.Popen(["true"], start_new_session=True)
    os.waitpid(taken.pid, 0)
    end_group(taken)
    assert signalled == []
    kept = subprocess.Popen(["sleep", "0.1"], start_new_session=True)
    end_group(kept)
    assert signalled == [kept.pid]


def test_a_program_that_cannot_be_started_is_a_transport_error() -> None:
    with pytest.raises(TransportError, match="could not be started"):
        run_child(("/nonexistent/program",), deadline=1)


def test_a_held_command_sees_beats_and_ends_with_its_input() -> None:
    held = HeldCommand(("sh", "-c", "echo ready; head -c 2 | wc -c; cat >/dev/null"), where="here")
    assert held.read_line(10) == "ready"
    assert held.beat()
    assert held.beat()
    assert held.read_line(10).strip() == "2"
    assert held.alive
    held.close()
    held.close()
    assert not held.alive
    assert not held.beat()


def test_a_held_command_that_says_nothing_is_a_timeout_and_one_that_ends_an_empty_line() -> None:
    held = HeldCommand(("cat",), where="here")
    with pytest.raises(CommandTimeout):
        held.read_line(0.2)
    held.close()
    ended = HeldCommand(("sh", "-c", "echo sorry >&2"), where="here")
    assert ended.read_line(10) == ""
    assert ended.errors() == "sorry"
    ended.close()


def test_a_held_command_ends_when_its_holder_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "ended"
    code = (
        "import time; from harness.backends.held import HeldCommand;"
        f"h = HeldCommand(('sh', '-c', 'echo up; cat >/dev/null; touch {mark}'), where='here');"
        "print(h.read_line(10), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        os.kill(holder.pid, 9)
    for _ in range(200):
        if mark.exists():
            return
        time.sleep(0.02)
    pytest.fail("the held command outlived its holder")
