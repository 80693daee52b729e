"""A tensor worker on a (stand-in) GPU where its TensorFlow cannot work: unable, and why; never broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.native import fake
from tests.native.conftest import A
from tests.packed import argv as argv_of
from tests.packed import job as named
from tests.packed import packed
from tests.skips import LICENCE

CUDA_TREE = os.environ.get("SHAKEDOWN_TENSORFLOW_CUDA", "")
UNABLE, BROKEN = 3, 4
PTX_ONLY = (
    "build_info = collections.OrderedDict([('cuda_compute_capabilities', ['sm_80', 'compute_90']), "
    "('cuda_version', '{version}'), ('is_cuda_build', True)])\n"
)


def tree(folder: Path, build_info: str) -> Path:
    path = folder / "tensorflow" / "python" / "platform" / "build_info.py"
    path.parent.mkdir(parents=True)
    path.write_text(build_info)
    return folder


def worked(stand_in: Path, folder: Path | str, said: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and report on a machine with one GPU of capability 9.0 and a driver for CUDA 12.8."""
    job = {"device": A, "framework": "tensorflow", "library_dir": str(folder), "precisions": [], "threads": 1}
    done = subprocess.run(
        [word for word in argv_of(named("tensor.worker"), job) if word != "-S"],
        env=fake.environment(stand_in, said or fake.machine(A)),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(
    ("build_info", "why"),
    [
        ("build_info = collections.OrderedDict([('is_cuda_build', False)])\n", "is built without CUDA"),
        (PTX_ONLY.format(version="12.9.1"), "for compute capability 9.0 this TensorFlow has only PTX of"),
        (PTX_ONLY.format(version="13.0.0"), "built with CUDA 13, and the driver is for CUDA 12.8"),
        (PTX_ONLY.format(version="12.5.1").replace("compute_90", "sm_89"), "no kernels for compute"),
        ("nothing\n", "build_info.py cannot be understood"),
    ],
)
def test_a_tensorflow_that_is_not_for_this_gpu_or_driver(
    build_info: str, why: str, stand_in: Path, tmp_path: Path
) -> None:
    status, report = worked(stand_in, tree(tmp_path, build_info))
    assert status == UNABLE
    assert why in report["error"]


def test_a_tree_without_cudas_libraries_names_the_first_that_is_missing(
    stand_in: Path, tmp_path: Path
) -> None:
    folder = tree(tmp_path, PTX_ONLY.format(version="12.5.1"))
    library = folder / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12"
    library.parent.mkdir(parents=True)
    library.write_text("not a library")
    status, report = worked(stand_in, folder)
    assert status == UNABLE
    assert f"tensorflow is not usable here: {library}: " in report["error"]


def test_packages_for_another_python_are_told_by_both_versions(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "numpy" / "_core").mkdir(parents=True)
    (tmp_path / "numpy" / "_core" / "_multiarray_umath.cpython-39-x86_64-linux-gnu.so").touch()
    status, report = worked(stand_in, tmp_path)
    assert status == UNABLE
    here = ".".join(map(str, sys.version_info[:3]))
    assert f"{tmp_path} is for cpython-39, and {sys.executable} is Python {here}" in report["error"]


def test_the_card_itself_comes_first(stand_in: Path, tmp_path: Path) -> None:
    status, report = worked(stand_in, tmp_path, fake.machine("0000:77:00.0"))
    assert status == BROKEN
    assert A in report["error"]


@pytest.mark.skipif(
    not CUDA_TREE, reason=f"{LICENCE}: SHAKEDOWN_TENSORFLOW_CUDA names no tree of tensorflow[and-cuda]"
)
def test_all_is_there_and_tensorflow_still_shows_no_gpu(stand_in: Path) -> None:
    """The stand-in driver is none that TensorFlow could use, and nothing falls back to the processor."""
    status, report = worked(stand_in, CUDA_TREE)
    assert status == UNABLE
    assert "TensorFlow shows no GPU, though it has kernels for it" in report["error"]


def test_a_gpu_is_named_by_the_uuid_that_cuda_gives_for_its_address(stand_in: Path, tmp_path: Path) -> None:
    """Its place among the GPUs would be another's where CUDA leaves one out."""

    def seen(address: str, *shown: str) -> str:
        words = (
            "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
            "from harness.workloads.tensor.payload import device\n"
            "try: print(device.visible(*sys.argv[1:])['CUDA_VISIBLE_DEVICES'])\n"
            "except (device.Unable, device.Broken) as error: print(type(error).__name__, error)"
        )
        places = [str(tmp_path / "devices"), str(tmp_path / "proc")]
        argv = [sys.executable, "-I", "-c", words, str(packed()), address, *places]
        environment = fake.environment(stand_in, fake.machine(*shown))
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    held, free = "0000:65:00.0", "0000:18:00.0"
    (tmp_path / "devices" / free).mkdir(parents=True)
    (tmp_path / "devices" / held).mkdir()
    (tmp_path / "drivers" / "nvidia").mkdir(parents=True)
    (tmp_path / "devices" / held / "driver").symlink_to(tmp_path / "drivers" / "nvidia")
    assert seen(held, held) == "Unable the nvidia kernel module is not loaded"
    (tmp_path / "proc" / "driver" / "nvidia").mkdir(parents=True)
    (tmp_path / "proc" / "driver" / "nvidia" / "version").write_text("NVRM version\n")
    assert seen(held, "0000:81:00.0", held) == "GPU-00000000-0000-0000-0000-000000000002"
    assert seen(held, "0000:81:00.0").startswith(f"Broken {held}: cuDeviceGetByPCIBusId")
    assert seen(free, free) == f"Unable {free} is not held by the nvidia driver"
    assert seen("0000:99:00.0", held) == "Broken 0000:99:00.0 is not on the bus"
