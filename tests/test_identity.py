"""A process is told from a later one of its number, from one of another boot and of another container."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.identity import (
    WRITE_DOWN,
    ProcessId,
    identify,
    is_here,
    is_running,
    read_birth,
    send,
    start_ticks,
    wait_ended,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def _known(pid: int) -> ProcessId:
    found = identify(pid)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "change", [{"ticks": 1}, {"boot_id": "11111111-2222-3333-4444-555555555555"}, {"namespace": "pid:[1]"}]
)
def test_a_stranger_with_the_same_number_is_never_signalled(
    sleeper: subprocess.Popen[bytes], change: dict[str, object]
) -> None:
    stranger = dataclasses.replace(_known(sleeper.pid), **change)
    assert not is_running(stranger)
    assert not send(stranger)
    assert sleeper.poll() is None


def test_without_pidfds_a_stranger_is_spared_too(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused)
    known = _known(sleeper.pid)
    assert not send(dataclasses.replace(known, ticks=known.ticks + 1))
    assert sleeper.poll() is None
    assert send(known, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM


def test_exactly_the_process_is_ended_and_a_gone_one_is_fine(sleeper: subprocess.Popen[bytes]) -> None:
    known = _known(sleeper.pid)
    assert is_here(known)
    assert not wait_ended([known], 0.0)
    assert send(known)
    assert wait_ended([known], 10.0)  # ended and not collected counts as gone
    sleeper.wait()
    assert not send(known)
    assert identify(known.pid) is None


def test_a_process_writes_itself_down_before_it_becomes_what_was_wanted(tmp_path: Path) -> None:
    file = tmp_path / "b o\nrn"
    argv = ["sh", "-c", WRITE_DOWN, str(file), "sh", "-c", 'echo "$$ $1"; read -r line', "sh", "a b  *"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{process.pid} a b  *\n".encode()
        born = read_birth(file)
        assert born == identify(process.pid)
        process.communicate(b"\n")
    assert read_birth(file) == born
    assert born is not None
    assert not is_running(born)


def test_nothing_is_started_where_it_cannot_be_written_down(tmp_path: Path) -> None:
    argv = ["sh", "-c", WRITE_DOWN, str(tmp_path / "none" / "born"), "touch", str(tmp_path / "started")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "started").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=300))
def test_a_damaged_file_names_nobody(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "born"
    file.write_bytes(content)
    assert read_birth(file) is None
    assert read_birth(tmp_path / "absent") is None


def test_start_times_tell_processes_apart() -> None:
    mine, first = start_ticks(os.getpid()), start_ticks(1)
    assert mine is not None
    assert first is not None
    assert mine >= first
    assert start_ticks(2**22 + 1) is None
