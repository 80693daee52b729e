"""KVM only when a trial boot proves it, and the reason is always said."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.images.qemu import QemuTool
from harness.lab.accel import choose_accelerator

_PANIC = "echo 'Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)'"


def _tool(tmp_path: Path, script: str) -> QemuTool:
    binary = tmp_path / "qemu"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    return QemuTool(
        command=(str(binary),),
        image_command=(str(binary),),
        version=(10, 0, 2),
        data_dirs=(Path("/fw"),),
        source="test",
    )


@pytest.mark.parametrize(
    ("script", "name", "reason"),
    [
        (_PANIC, "kvm", "a trial boot under KVM took"),
        ("exec sleep 60", "tcg", "hung: no end within 1 s"),
        ("echo 'failed to initialize kvm: Permission denied' >&2; exit 1", "tcg", "Permission denied"),
        ("exit 0", "tcg", "the test kernel did not finish"),
    ],
)
def test_the_trial_decides(tmp_path: Path, script: str, name: str, reason: str) -> None:
    device = tmp_path / "kvm"
    device.touch()
    chosen = choose_accelerator(
        _tool(tmp_path, script),
        Path("/kernel"),
        tmp_path / "cache",
        print,
        device=device,
        nested_files=(),
        trial_seconds=1.0,
    )
    assert chosen.name == name
    assert reason in chosen.reason


def test_without_kvm_or_without_nesting_nothing_is_tried(tmp_path: Path) -> None:
    tool = _tool(tmp_path, _PANIC)
    nested = tmp_path / "nested"
    nested.write_text("N\n")
    missing = choose_accelerator(
        tool, Path("/kernel"), tmp_path / "one", print, device=tmp_path / "kvm", nested_files=()
    )
    assert (missing.name, missing.reason) == ("tcg", f"there is no {tmp_path}/kvm")
    (tmp_path / "kvm").touch()
    flat = choose_accelerator(
        tool,
        Path("/kernel"),
        tmp_path / "two",
        print,
        device=tmp_path / "kvm",
        nested_files=(str(nested),),
    )
    assert flat.name == "tcg"
    assert "nested" in flat.reason


def test_the_answer_is_kept_until_the_machine_or_qemu_changes(tmp_path: Path) -> None:
    said: list[str] = []
    device = tmp_path / "kvm"
    device.touch()

    def choose() -> str:
        return choose_accelerator(
            _tool(tmp_path, _PANIC),
            Path("/kernel"),
            tmp_path / "cache",
            said.append,
            device=device,
            nested_files=(),
        ).name

    assert choose() == "kvm"
    trials = len(said)
    assert choose() == "kvm"
    assert len(said) == trials
    (tmp_path / "cache/accelerator.json").write_text('{"key": "damaged')
    assert choose() == "kvm"
    assert len(said) > trials
