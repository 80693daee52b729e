"""Which GPU a tensor worker has, asked of the (stand-in) driver library itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.native import fake
from tests.native.conftest import A, B
from tests.packed import packed

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from harness.workloads.tensor.payload import device as tensor_device
try:
    print(tensor_device.identity(sys.argv[2]))
except (tensor_device.Unable, tensor_device.Broken) as error:
    print(type(error).__name__, error)
"""


def identity(folder: Path, said: str, address: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE, str(packed()), address],
        env=fake.environment(folder, said),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_visible_gpu_says_who_it_is(stand_in: Path) -> None:
    said = identity(stand_in, fake.machine(A), A)
    assert said == str({"address": A, "name": "test stand-in", "capability": [9, 0], "driver": 12080})


@pytest.mark.parametrize("machine", [(B,), (B, A)])
def test_another_gpu_in_its_place_is_a_broken_engine(machine: tuple[str, ...], stand_in: Path) -> None:
    assert identity(stand_in, fake.machine(*machine), A).startswith("Broken ")


def test_a_driver_that_does_not_fit_is_no_fault_of_the_card(stand_in: Path) -> None:
    assert identity(stand_in, fake.machine(A, more="init=803"), A).startswith("Unable cuInit")


def test_a_missing_driver_library_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    assert identity(tmp_path, "", A).startswith("Unable libcuda.so.1 cannot be loaded")
