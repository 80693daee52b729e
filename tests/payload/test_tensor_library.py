"""What a TensorFlow must be to work: for this Python, this GPU, this driver, with all of CUDA's libraries."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.workloads.tensor.payload import library as tensor_library
from tests.packed import code
from tests.skips import LICENCE

CUDA_TREE = os.environ.get("SHAKEDOWN_TENSORFLOW_CUDA", "")
WHEEL = (
    "build_info = collections.OrderedDict([('cpu_compiler', 'clang'), ('cuda_compute_capabilities', "
    "['sm_60', 'sm_70', 'sm_80', 'sm_89', 'compute_90']), ('cuda_version', '12.5.1'), "
    "('cudnn_version', '9'), ('is_cuda_build', True), ('is_rocm_build', False)])\n"
)
"""As in the wheel tensorflow 2.21.0; and in tensorflow-cpu 2.21.0."""
CPU_WHEEL = (
    "build_info = collections.OrderedDict([('is_cuda_build', False), ('is_rocm_build', False), "
    "('is_tensorrt_build', False)])\n"
)
BUILT: dict[str, Any] = {
    "cuda": (12, 5),
    "kernels": [
        ("sm", (6, 0), ""),
        ("sm", (7, 0), ""),
        ("sm", (8, 0), ""),
        ("sm", (8, 9), ""),
        ("compute", (9, 0), ""),
    ],
}


def written(folder: Path, text: str) -> str:
    path = folder / tensor_library.BUILD_INFO
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="")
    return str(folder)


def test_the_builds_of_both_wheels_are_understood(tmp_path: Path) -> None:
    assert tensor_library.build_info(written(tmp_path, WHEEL)) == BUILT
    assert tensor_library.build_info(written(tmp_path, CPU_WHEEL)) == {"cuda": None, "kernels": []}


@example("OrderedDict([('is_cuda_build', True)])")
@example("OrderedDict([('is_cuda_build', True), ('cuda_version', 12), ('cuda_compute_capabilities', [])])")
@example(
    "OrderedDict([('is_cuda_build', True), ('cuda_version', '12.5'), ('cuda_compute_capabilities', [8])])"
)
@example("OrderedDict([('is_cuda_build', True), ('cuda_version', '12.5'), ('cuda_compute_capabilities', 0)])")
@example("OrderedDict(3)")
@example("OrderedDict([(), ()])")
@example("OrderedDict({[]: 1})")
@example("OrderedDict(" + "(" * 300 + ")" * 300 + ")")
@given(st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda text: f"OrderedDict({text})")))
def test_any_other_text_is_an_os_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = written(tmp_path_factory.mktemp("tree"), text)
    with pytest.raises(OSError, match="cannot be understood"):
        tensor_library.build_info(folder)


def test_a_tree_that_does_not_say_how_it_was_built_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tensor_library.build_info(str(tmp_path))


@pytest.mark.parametrize(
    ("capability", "driver", "why"),
    [
        ((8, 0), 12000, ""),  # machine code for it, and any driver of CUDA 12
        ((8, 6), 12020, ""),  # runs that for 8.0
        ((7, 5), 12020, ""),
        ((9, 0), 12050, ""),  # PTX, and a driver that compiles it
        ((9, 0), 13000, ""),
        ((12, 0), 12080, ""),
        ((9, 0), 12040, "only PTX of CUDA 12.5, .* this one is for CUDA 12.4"),
        ((10, 0), 12020, "only PTX of CUDA 12.5, .* this one is for CUDA 12.2"),
        ((8, 9), 11080, "built with CUDA 12, and the driver is for CUDA 11.8"),
        ((5, 2), 12080, "no kernels for compute capability 5.2, only for 6.0, 7.0, 8.0, 8.9, 9.0"),
    ],
)
def test_a_gpu_has_kernels_by_cudas_rules_or_it_is_said_why_not(
    capability: tuple[int, int], driver: int, why: str
) -> None:
    said = tensor_library.no_kernels(BUILT, capability, driver)
    assert re.search(why, said) if why else said == ""


def test_kernels_for_one_gpu_alone_are_for_no_later_one(tmp_path: Path) -> None:
    text = WHEEL.replace("'compute_90'", "'sm_90a', 'compute_100a'").replace("'sm_80', 'sm_89', ", "")
    built = tensor_library.build_info(written(tmp_path, text))
    assert built["kernels"][2:] == [("sm", (9, 0), "a"), ("compute", (10, 0), "a")]
    assert tensor_library.no_kernels(built, (9, 0), 12050) == ""
    assert tensor_library.no_kernels(built, (10, 0), 12090) == ""
    assert "no kernels" in tensor_library.no_kernels(built, (10, 3), 12090)
    assert "no kernels" in tensor_library.no_kernels(built, (8, 9), 12090)


def test_a_tensorflow_for_processors_has_no_kernels_at_all() -> None:
    built = {"cuda": None, "kernels": []}
    assert tensor_library.no_kernels(built, (8, 0), 12050) == "this TensorFlow is built without CUDA"


def test_libraries_come_from_the_wheels_and_else_from_the_system(tmp_path: Path) -> None:
    folder = tmp_path / "with [brackets]"
    wheel = folder / "nvidia" / "cusolver" / "lib" / "libcusolver.so.11"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    found = tensor_library.cuda_libraries(str(folder), BUILT)
    assert len(found) == 8
    assert str(wheel) in found
    assert "libcublas.so.12" in found
    with pytest.raises(OSError, match="CUDA 14 is not known"):
        tensor_library.cuda_libraries(str(folder), {"cuda": (14, 0)})


def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(OSError, match=r"libcusolver\.so\.99"):
        tensor_library.preload(["libcusolver.so.99"])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (f"_multiarray_umath.{sys.implementation.cache_tag}-x86_64-linux-gnu.so", ""),
        (f"_multiarray_umath.{sys.implementation.cache_tag}.so", ""),
        ("other.so", ""),
        ("_multiarray_umath.cpython-39-x86_64-linux-gnu.so", "is for cpython-39, and "),
        (f"_multiarray_umath.{sys.implementation.cache_tag}9-x86_64-linux-gnu.so", "is for cpython-"),
    ],
)
def test_packages_for_another_python_are_known_by_name(tmp_path: Path, file: str, said: str) -> None:
    (tmp_path / "numpy" / "_core").mkdir(parents=True)
    (tmp_path / "numpy" / "_core" / file).touch()
    words = tensor_library.other_python(str(tmp_path))
    assert said in words
    assert bool(words) == bool(said)


SEES = """
import ctypes
sys.path.insert(0, sys.argv[1])
from harness.workloads.tensor.payload import library
if sys.argv[2] == "before":
    library.preload(library.cuda_libraries(sys.argv[1], library.build_info(sys.argv[1])))
import tensorflow
base = ctypes.CDLL(sys.argv[1] + "/tensorflow/libtensorflow_framework.so.2")
look = base["_ZN3tsl8internal9DsoLoader22TryDlopenCUDALibrariesEv"]
look.restype, look.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
status = ctypes.c_uint64()
look(ctypes.byref(status))
print(status.value == 1, tensorflow.__version__)
"""
"""Asks TensorFlow's own loader whether it has all CUDA libraries; 1 is ``absl::OkStatus()``."""


@pytest.mark.skipif(
    not CUDA_TREE, reason=f"{LICENCE}: SHAKEDOWN_TENSORFLOW_CUDA names no tree of tensorflow[and-cuda]"
)
def test_tensorflow_finds_all_of_cuda_when_it_was_loaded_before() -> None:
    argv = [*code(SEES), CUDA_TREE, "before"]
    variables = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.startswith("True 2.")
