"""What is written about labs: private, whole, and never trusted beyond the process it names."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError
from harness.identity import identify, is_running
from harness.lab.access import make_keys, pin, ssh_command
from harness.lab.control import all_status, take_down
from harness.lab.state import (
    LabDirectory,
    LabState,
    lab_directory,
    lab_lock,
    list_labs,
    read_state,
    running_state,
    write_state,
)
from tests.lab.start_fake import start_fake


def _state() -> LabState:
    me = identify(os.getpid())
    assert me is not None
    return LabState(
        name="default",
        instance=0,
        snapshot="abc",
        process=me,
        port=2222,
        accelerator="tcg",
        reason="there is no /dev/kvm",
        qemu="10.0.2",
        limits=("software emulation",),
        started_at="2026-11-22T03:00:00Z",
    )


def _directory(root: Path, name: str = "default", instance: int = 0) -> LabDirectory:
    directory = lab_directory(name, instance, root=root)
    directory.path.mkdir(parents=True, mode=0o700)
    return directory


def test_a_state_is_read_back_as_written(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    write_state(directory, _state())
    assert read_state(directory) == _state()
    assert running_state(directory) == _state()
    assert [path.name for path in directory.path.iterdir()] == ["state.json"]


def test_a_state_whose_process_is_gone_is_not_running(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    gone = dataclasses.replace(_state().process, pid=2**22 + 1)
    write_state(directory, dataclasses.replace(_state(), process=gone))
    assert running_state(directory) is None
    (shown,) = all_status(root=tmp_path)
    assert (shown.name, shown.instance, shown.running, shown.ssh) == ("default", 0, False, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.one_of(st.binary(), st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode)))
def test_a_damaged_state_means_nothing_runs(tmp_path: Path, content: bytes) -> None:
    directory = LabDirectory(path=tmp_path)
    directory.state_file.write_bytes(content)
    assert read_state(directory) is None


@pytest.mark.parametrize("change", [{"format": 1}, {"process": 7}, {"port": None, "extra": 1}])
def test_a_state_of_another_shape_means_nothing_runs(tmp_path: Path, change: dict[str, object]) -> None:
    directory = _directory(tmp_path)
    write_state(directory, _state())
    data = json.loads(directory.state_file.read_text())
    directory.state_file.write_text(json.dumps({**data, **change}))
    assert read_state(directory) is None


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "Üx", "a" * 60, "x\n"])
def test_a_name_that_is_no_plain_word_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is no lab name"):
        lab_directory(name, 0, root=tmp_path)


def test_instances_lie_side_by_side_and_are_listed(tmp_path: Path) -> None:
    _directory(tmp_path, "default", 0)
    _directory(tmp_path, "default", 12)
    _directory(tmp_path, "four-nodes", 1)
    (tmp_path / "default-0.lock").touch()
    assert list_labs(root=tmp_path) == (("default", 0), ("default", 12), ("four-nodes", 1))
    assert list_labs(root=tmp_path / "none") == ()


def test_taking_a_lab_down_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    running = start_fake(directory)
    write_state(directory, dataclasses.replace(_state(), process=running))
    directory.disk.touch()
    take_down(directory, print)
    assert not is_running(running)
    assert list(tmp_path.iterdir()) == []
    take_down(directory, print)
    assert list(tmp_path.iterdir()) == []


def test_taking_down_finds_a_machine_without_a_state_file(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    running = start_fake(directory)
    take_down(directory, print)
    assert not is_running(running)


def test_two_processes_do_not_hold_one_lab_at_once(tmp_path: Path) -> None:
    directory = _directory(tmp_path)
    order: list[str] = []

    def second() -> None:
        with lab_lock(directory, order.append):
            order.append("second")

    with lab_lock(directory, order.append):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order[0].startswith("waiting for another process")
    assert order[1:] == ["first", "second"]
    assert not (tmp_path / "default-0.lock").exists()


def test_each_lab_has_its_own_keys_of_one_size_and_a_pinned_host_key(tmp_path: Path) -> None:
    one, other = _directory(tmp_path, "one"), _directory(tmp_path, "other")
    keys, others = make_keys(one.path), make_keys(other.path)
    for blob in ("host_key", "authorized_key"):
        mine, theirs = getattr(keys, blob).read_bytes(), getattr(others, blob).read_bytes()
        assert mine != theirs
        assert len(mine) == len(theirs)
    for secret in (keys.identity, keys.host_key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    reach = pin(keys, 2222, one.known_hosts)
    kind, key, _ = keys.host_public.read_text().split()
    assert one.known_hosts.read_text() == f"[127.0.0.1]:2222 {kind} {key}\n"
    command = ssh_command(reach, ("true",))
    assert "StrictHostKeyChecking=yes" in command
    assert f"UserKnownHostsFile={one.known_hosts}" in command
    assert command[-2:] == ("root@127.0.0.1", "true")
