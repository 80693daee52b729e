"""How a machine ended is known afterwards, whoever started it and whoever is gone by then."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.identity import ProcessId, is_running, send
from harness.lab import control, process
from harness.lab.ending import End, keep_words, kept_in, read_end, told
from harness.lab.qmp import Qmp
from harness.lab.state import LabDirectory, LabState, lab_directory, read_state, write_state
from tests.lab.start_fake import start_fake
from tests.processes import naming, wait_gone


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LabDirectory]:
    lab = lab_directory("here", 0, root=tmp_path)
    lab.path.mkdir()
    yield lab
    if lab.path.exists():
        process.stop(lab.monitor)


def _tell(directory: LabDirectory, command: str, number: int, say: str = "a last word") -> None:
    with Qmp(directory.monitor) as qmp, contextlib.suppress(LabError):
        qmp.execute(command, number=number, say=say)


def _ended(directory: LabDirectory, running: ProcessId) -> End:
    assert wait_gone([running.pid], 5.0)
    end = read_end(directory, running)
    assert end is not None
    return end


@pytest.mark.parametrize("status", [0, 1, 3, 139])
def test_the_status_of_an_exit_is_kept(directory: LabDirectory, status: int) -> None:
    running = start_fake(directory)
    assert read_end(directory, running) is None
    _tell(directory, "fake-exit", status)
    end = _ended(directory, running)
    assert (end.exit, end.signal, end.how) == (status, "", f"exit {status}")
    assert end.seconds is not None
    assert end.at.endswith("Z")


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM, signal.SIGHUP]
)
def test_the_signal_of_an_end_is_kept_whoever_sent_it(
    directory: LabDirectory, number: signal.Signals
) -> None:
    running = start_fake(directory)
    os.kill(running.pid, number)
    end = _ended(directory, running)
    assert (end.exit, end.signal) == (None, number.name)
    assert end.how.startswith(f"signal {number.name.removeprefix('SIG')}")


def test_a_signal_to_the_whole_session_ends_the_machine_and_not_who_watches_it(
    directory: LabDirectory,
) -> None:
    running = start_fake(directory)
    os.killpg(os.getpgid(running.pid), signal.SIGTERM)
    assert _ended(directory, running).signal == "SIGTERM"


def test_a_keeper_ends_with_its_machine_and_leaves_nothing(directory: LabDirectory) -> None:
    running = start_fake(directory)
    keeper = process.keeper_of(directory.monitor)
    assert keeper is not None
    assert is_running(keeper)
    process.stop(directory.monitor, running)
    assert not is_running(keeper)
    assert naming(directory.path) == ()
    assert sorted(path.name for path in directory.path.iterdir()) == ["qemu.log"]


@pytest.mark.parametrize("tied", [False, True])
def test_a_machine_whose_keeper_was_killed_is_stopped_all_the_same(
    directory: LabDirectory, tied: bool
) -> None:
    running = start_fake(directory, tied=tied)
    keeper = process.keeper_of(directory.monitor)
    assert keeper is not None
    send(keeper)
    assert wait_gone([keeper.pid], 5.0)
    assert wait_gone([running.pid], 5.0) is tied
    began = time.monotonic()
    if not tied:
        send(running)
    assert _ended(directory, running) == End()
    assert time.monotonic() - began < 2.0
    assert End().how == "how is not known"
    process.stop(directory.monitor, running)
    assert naming(directory.path) == ()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": 1}', '{"pid": PID, "strange": 2}', '{"pid": PID, "exit": NaN}']
)
def test_a_damaged_word_of_a_keeper_says_nothing(directory: LabDirectory, text: str) -> None:
    running = start_fake(directory)
    process.stop(directory.monitor, running)
    process.end_file(directory.monitor).write_text(text.replace("PID", str(running.pid)))
    assert read_end(directory, running) == End()


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (End(signal="SIGKILL", oom_kills=1), "killed processes because memory ran out"),
        (End(signal="SIGKILL", oom_kills=0), "someone killed it"),
        (End(signal="SIGABRT", core=True), "set SHAKEDOWN_QEMU"),
        (End(exit=0), "reset or powered itself off"),
        (End(exit=1), "run again"),
        (End(), "run again"),
    ],
)
def test_each_end_has_its_remedy(directory: LabDirectory, end: End, words: str) -> None:
    assert words in told(directory, end, kept=Path("/kept")).remedy


def test_the_last_words_of_both_are_told_and_bounded(directory: LabDirectory) -> None:
    directory.log.write_text("first\n" + "x" * 200000 + "\nqemu: iotlb_to_section: Assertion failed\n\n")
    directory.serial_log.write_bytes(b"boot\r\n" * 50000 + b"Kernel panic - not syncing: \xff\x1b[31m\r\n")
    end = told(directory, End(signal="SIGABRT", core=True, seconds=312.4), kept=Path("/kept"))
    assert end.message.startswith(
        "the lab's QEMU ended (signal ABRT, core dumped) after 312 s; its last lines: "
    )
    assert "qemu: iotlb_to_section: Assertion failed; the console's last lines: boot | Kernel" in end.message
    assert len(end.message) < 800
    assert len(end.log) < 150000
    assert b"Assertion failed" in end.log
    silent = told(LabDirectory(path=directory.path / "none"), End(exit=1), kept=Path("/kept"))
    assert silent.message == "the lab's QEMU ended (exit 1); its log is empty; the console's log is empty"


def _recorded(directory: LabDirectory, running: ProcessId) -> None:
    state = LabState(
        name="here",
        instance=0,
        snapshot="s",
        process=running,
        port=1,
        accelerator="tcg",
        reason="",
        qemu="11.1.3",
        limits=(),
        started_at="",
        ready=True,
    )
    write_state(directory, state)


def test_what_ended_by_itself_is_told_by_status_and_kept_when_the_lab_is_cleared(
    directory: LabDirectory,
) -> None:
    running = start_fake(directory)
    _recorded(directory, running)
    assert control.status_of(directory, "here", 0).ended == ""
    directory.serial_log.write_text("watchdog: BUG: soft lockup\n")
    _tell(directory, "fake-exit", 3, "qemu: cannot go on")
    wait_gone([running.pid], 5.0)
    found = control.status_of(directory, "here", 0)
    assert not found.running
    assert found.ended.startswith("the lab's QEMU ended (exit 3)")
    said: list[str] = []
    control.take_down(directory, said.append)
    kept = kept_in(directory)
    assert said == [f"{found.ended}; kept in {kept}"]
    text = kept.read_text()
    assert "qemu: cannot go on" in text
    assert "soft lockup" in text
    assert kept.stat().st_mode & 0o777 == 0o600
    assert not directory.path.exists()
    control.take_down(directory, said.append)
    assert len(said) == 1


def test_a_lab_that_was_stopped_by_us_has_no_end_of_its_own(directory: LabDirectory) -> None:
    _recorded(directory, start_fake(directory))
    said: list[str] = []
    control.take_down(directory, said.append)
    assert said == []
    assert not kept_in(directory).exists()


def test_words_that_cannot_be_kept_keep_no_lab_down(directory: LabDirectory) -> None:
    end = told(directory, End(exit=1), kept=Path("/kept"))
    nowhere = LabDirectory(path=directory.path / "not" / "there")
    assert keep_words(nowhere, end) == kept_in(nowhere)


def test_the_keepers_words_are_whole(directory: LabDirectory) -> None:
    running = start_fake(directory)
    _recorded(directory, running)
    _tell(directory, "fake-exit", 0)
    _ended(directory, running)
    data = json.loads(process.end_file(directory.monitor).read_text())
    assert set(data) == {
        "pid",
        "exit",
        "signal",
        "core",
        "at",
        "seconds",
        "peak_mib",
        "cpu_seconds",
        "oom_kills",
    }
    assert data["peak_mib"] > 0
    assert data["oom_kills"] in (None, *range(1000))
    assert read_state(directory) is not None
