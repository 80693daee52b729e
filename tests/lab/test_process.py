"""Machines as processes: found after a crash, never mistaken, ended for certain; with a stand-in QEMU."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.identity import identify, is_dead, is_running
from harness.lab import process, snapshot
from harness.lab.machine import monitor_argument
from harness.lab.qmp import Qmp
from harness.lab.state import LabDirectory
from tests.lab.start_fake import FAKE_QEMU, start_fake
from tests.processes import wait_gone

VERSION = (10, 0, 2)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[LabDirectory]:
    lab = LabDirectory(path=tmp_path)
    yield lab
    process.stop(lab.monitor)


@pytest.mark.parametrize("tied", [False, True])
def test_a_started_machine_runs_in_its_own_session_and_stops(directory: LabDirectory, tied: bool) -> None:
    running = start_fake(directory, tied=tied)
    assert is_running(running)
    assert os.getsid(running.pid) != os.getsid(0)
    assert process.running_machine(directory.monitor) == running
    process.stop(directory.monitor, running)
    assert not is_running(running)
    assert not directory.monitor.exists()
    process.stop(directory.monitor, running)


def test_a_machine_that_nobody_recorded_is_found_and_stopped(directory: LabDirectory) -> None:
    """Shakedown was killed between starting QEMU and writing down its process id."""
    running = start_fake(directory)
    process.stop(directory.monitor, None)
    assert not is_running(running)


def _beside(lab: LabDirectory, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*argv, monitor_argument(lab.monitor)], start_new_session=True)


@pytest.mark.parametrize("recorded", [True, False])
def test_whoever_names_the_monitor_in_an_argument_is_left_alone(
    directory: LabDirectory, recorded: bool
) -> None:
    running = start_fake(directory)
    strangers = [
        _beside(directory, "sh", "-c", "sleep 60; : $0"),
        _beside(directory, sys.executable, "-c", "import time; time.sleep(60)", "-qmp"),
    ]
    process.stop(directory.monitor, running if recorded else None)
    assert not is_running(running)
    assert [each.poll() for each in strangers] == [None, None]
    for each in strangers:
        each.kill()
        each.wait()


@pytest.mark.parametrize("change", [{"ticks": 1}, {"namespace": "pid:[1]"}])
def test_a_machine_that_was_not_started_here_is_told_and_not_stopped(
    directory: LabDirectory, change: dict[str, object]
) -> None:
    """Of a container that shares our directory, or of a Shakedown whose record is lost."""
    running = start_fake(directory)
    other = dataclasses.replace(running, **change)
    born = process.birth_file(directory.monitor)
    text = born.read_text()
    born.write_text(
        text.replace(str(running.ticks), str(other.ticks)).replace(running.namespace, other.namespace)
    )
    with pytest.raises(LabError, match="is left alone"):
        process.stop(directory.monitor, other)
    assert is_running(running)
    born.write_text(text)


def test_a_machine_that_ignores_everything_is_killed(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU", "deaf")
    running = start_fake(directory)
    process.stop(directory.monitor, running)
    assert is_dead(running.pid)


def test_a_reused_process_id_is_not_mistaken_for_the_machine(directory: LabDirectory) -> None:
    me = identify(os.getpid())
    assert me is not None
    assert is_running(me)
    other = dataclasses.replace(me, ticks=me.ticks - 1)
    earlier_boot = dataclasses.replace(me, boot_id="another")
    assert not is_running(other)
    assert not is_running(earlier_boot)
    process.stop(directory.monitor, other)
    process.stop(directory.monitor, earlier_boot)
    assert not is_dead(os.getpid())


def test_a_machine_that_does_not_start_says_what_qemu_printed(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QEMU", "refuse")
    with pytest.raises(LabError, match="could not set up host forwarding"):
        start_fake(directory)
    assert process.running_machine(directory.monitor) is None


def test_a_socket_path_that_is_too_long_is_refused_in_words(tmp_path: Path) -> None:
    lab = LabDirectory(path=tmp_path / ("long" * 40))
    with pytest.raises(LabError, match="too long for a unix socket"):
        process.start((str(FAKE_QEMU),), (), monitor=lab.monitor, log=tmp_path / "log")


def test_a_killed_machine_is_noticed(directory: LabDirectory) -> None:
    running = start_fake(directory)
    os.kill(running.pid, signal.SIGKILL)
    assert wait_gone([running.pid], 5.0)
    assert not is_running(running)
    directory.monitor.unlink()
    assert is_running(start_fake(directory))


def test_a_refused_command_carries_qemus_words(directory: LabDirectory) -> None:
    start_fake(directory)
    with Qmp(directory.monitor) as qmp, pytest.raises(LabError, match="no such command"):
        qmp.execute("nonsense")


def test_no_monitor_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not answer"):
        Qmp(tmp_path / "none.sock")


def test_registers_that_the_snapshot_lost_are_written_back(
    directory: LabDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """QEMU's edu has no saved state: after loading, its base address would be 0 behind the kernel's back."""
    kept = tmp_path / "kept"
    kept.mkdir()
    start_fake(directory)
    snapshot.save(directory.monitor, kept, VERSION)
    monkeypatch.setenv("FAKE_EMPTY", "1")
    process.stop(directory.monitor)
    start_fake(directory)
    snapshot.load(directory.monitor, kept, VERSION)
    with Qmp(directory.monitor) as qmp:
        report = qmp.execute("fake-report")
    assert report["registers"][str(0x10)] == 0xFDA00000
    assert report["registers"][str(0x04)] == 0x0103
    assert report["address"] == 0x80001234
    assert report["received"].index("migrate-incoming") < report["received"].index("cont")


def test_a_healthy_machine_is_not_written_to(directory: LabDirectory, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    start_fake(directory)
    snapshot.save(directory.monitor, kept, VERSION)
    process.stop(directory.monitor)
    start_fake(directory)
    snapshot.load(directory.monitor, kept, VERSION)
    with Qmp(directory.monitor) as qmp:
        assert qmp.execute("fake-report")["registers"] == {"4": 0x0103, "16": 0xFDA00000}


def test_an_nvme_gets_its_disk_and_its_port(directory: LabDirectory) -> None:
    start_fake(directory)
    snapshot.plug_nvme(directory.monitor, (4,), {4: directory.nvme(4)})
    with Qmp(directory.monitor) as qmp:
        received = qmp.execute("fake-report")["received"]
    assert received[-4:] == ["blockdev-add", "device_add", "qmp_capabilities", "fake-report"]
