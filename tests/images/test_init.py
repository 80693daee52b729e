"""What the guest's process 1 does for NVIDIA's driver, which nothing else in the guest loads."""

from __future__ import annotations

import os
import subprocess
import time
from importlib import resources
from pathlib import Path

import pytest

MODPROBE = '#!/bin/sh\necho "$@" >>"{calls}"\n{then}\n'


def block() -> str:
    """The lines of init.sh that load the driver."""
    text = (resources.files("harness.images") / "guest_files" / "init.sh").read_text()
    return text[text.index("# Without udev") : text.index("/usr/sbin/sshd")]


def booted(folder: Path, vendors: list[str], then: str = "exit 0") -> tuple[list[str], list[str]]:
    """What modprobe was asked for, and what was said, on a guest with functions of these vendors."""
    for number, vendor in enumerate(vendors):
        function = folder / "sys" / "bus" / "pci" / "devices" / f"0000:00:0{number}.0"
        function.mkdir(parents=True)
        (function / "vendor").write_text(f"{vendor}\n")
    (folder / "run").mkdir()
    (folder / "modprobe").write_text(MODPROBE.format(calls=folder / "calls", then=then))
    (folder / "modprobe").chmod(0o755)
    script = block().replace("/sys/bus", f"{folder}/sys/bus").replace("/run/shakedown", f"{folder}/run")
    assert "-gt 300 " in script
    script = f'say() {{ echo "$@" >>"{folder}/said"; }}\n' + script.replace("-gt 300 ", "-gt 5 ")
    variables = {"PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-eu", "-c", script], env=variables, check=True, timeout=30)
    calls, said = ((folder / name) for name in ("calls", "said"))
    return (
        calls.read_text().splitlines() if calls.exists() else [],
        said.read_text().splitlines() if said.exists() else [],
    )


def test_a_guest_with_an_nvidia_gpu_loads_its_driver(tmp_path: Path) -> None:
    assert booted(tmp_path, ["0x8086", "0x10de"]) == (["nvidia", "nvidia-uvm", "nvidia-drm"], [])


@pytest.mark.parametrize("vendors", [[], ["0x8086", "0x1234"]])
def test_a_guest_without_one_does_not_try(tmp_path: Path, vendors: list[str]) -> None:
    assert booted(tmp_path, vendors) == ([], [])


def test_a_driver_that_cannot_be_loaded_is_said_on_the_console(tmp_path: Path) -> None:
    calls, said = booted(tmp_path, ["0x10de"], "echo no such device >&2; exit 1")
    assert calls == ["nvidia"]
    assert said == ["NVIDIA's driver could not be loaded: no such device"]


def test_a_driver_that_hangs_does_not_hang_the_guest(tmp_path: Path) -> None:
    began = time.monotonic()
    calls, _ = booted(tmp_path, ["0x10de"], "exec sleep 12")
    assert calls == ["nvidia"]
    assert time.monotonic() - began < 10
