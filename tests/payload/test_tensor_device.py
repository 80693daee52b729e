"""What an error of a framework is: a broken card where neither software nor a want of memory explains it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.workloads.tensor.payload import device as tensor_device
from tests.packed import job as named
from tests.packed import unpack

INNOCENT = [
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 14.58 GiB",
    "TensorFlow: OOM when allocating tensor with shape[16384,16384] and type double on GPU:0 by GPU_0_bfc",
    "TensorFlow: Dst tensor is not initialized.",
    "TensorFlow: No BLAS support in stream.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmulAlgoGetHeuristic`",
    "CUDA error: no kernel image is available for execution on the device",
    "CUDA error: device kernel image is invalid",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "The NVIDIA driver on your system is too old (found version 11040).",
    "TensorFlow: Cannot assign a device for operation MatMul_9: {{node MatMul_9}}",
    "TensorFlow shows no GPU, though it has kernels for it and CUDA's libraries",
]
GUILTY = [
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "TensorFlow: Blas xGEMMBatched launch failed : a.shape=",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`",
]


@pytest.mark.parametrize("words", INNOCENT)
def test_software_and_a_want_of_memory_accuse_no_card(words: str) -> None:
    assert isinstance(tensor_device.at_work(RuntimeError(words), True, "torch"), tensor_device.Unable)


@pytest.mark.parametrize("words", GUILTY)
def test_all_else_at_work_is_a_broken_engine(words: str) -> None:
    assert isinstance(tensor_device.at_work(RuntimeError(words), True, "torch"), tensor_device.Broken)
    assert isinstance(tensor_device.at_work(RuntimeError(words), False, "torch"), tensor_device.Unable)


def test_a_want_of_the_machines_own_memory_is_named() -> None:
    found = tensor_device.at_work(MemoryError(), True, "0000:01:00.0")
    assert isinstance(found, tensor_device.Unable)
    assert str(found) == "0000:01:00.0: MemoryError"


IDENTITY = """
def identity(address):
    return {"address": address, "name": "X", "capability": [9, 0], "driver": 12080}
"""
ENGINE = """
ERRORS = ()
class Engine:
    gpu, version = True, "2"
    def __init__(self, job):
        if job["at"] == "start":
            raise eval(job["error"])
        self.job = job
    def offered(self, capability):
        raise eval(self.job["error"])
"""
TELLS = """
import json, os
ERRORS = ()
class Engine:
    def __init__(self, job):
        raise ValueError(json.dumps(dict(os.environ)))
"""


SECOND = """
ERRORS = ()
class Products:
    def close(self): pass
class Engine:
    gpu, version = True, "2"
    def __init__(self, job):
        self.job = job
    def offered(self, capability):
        return dict.fromkeys(("fp64", "fp32", "tf32", "fp16", "bf16", "fp8"), "")
    def train(self, data, steps):
        return [1.0] * steps, []
    def products(self, precision, size, blocks, seed):
        if precision == "fp32":
            raise eval(self.job["error"])
        return Products()
"""
BURN = """
class Burn:
    def __init__(self, products, job):
        self.job = job
    def run(self):
        return {"precision": self.job["precision"], "seconds": self.job["seconds"]}
"""


def worker(folder: Path, torch: str, engine: str = ENGINE, **job: Any) -> tuple[int, str]:
    """Status and error of a worker whose PyTorch is ``torch`` and whose engine fails as ``job`` says."""
    status, found = report(folder, torch, engine, **job)
    return status, found["error"]


def report(folder: Path, torch: str, engine: str, **job: Any) -> tuple[int, Any]:
    """Status and what the worker printed."""
    beside = folder / "harness/workloads/tensor/payload"
    burn = beside / "burn.py"
    kept = burn.read_text() if burn.exists() else None
    unpack(folder)
    if kept is not None:
        burn.write_text(kept)
    device = beside / "device.py"
    device.write_text(device.read_text() + IDENTITY)
    (beside / "pytorch.py").write_text(engine)
    (folder / "torch.py").write_text(torch)
    whole = {"device": "0000:01:00.0", "framework": "torch", "library_dir": "", "batch": 4, "width": 2}
    whole |= {"hidden": 2, "seed": 1, "learning_rate": 0.5, "precisions": [], **job}
    argv = [
        *(sys.executable, "-I", str(folder / "harness/payload/start.py")),
        *(named("tensor.worker"), json.dumps(whole)),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout)


GOOD = "class version: cuda = '13.0'"


@pytest.mark.parametrize("at", ["start", "work"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("RuntimeError('CUDA error: uncorrectable ECC error encountered')", 4),
        ("RuntimeError('CUDA out of memory.')", 3),
        ("MemoryError('Unable to allocate 2 GiB')", 3),
    ],
)
def test_a_worker_ends_by_what_failed(tmp_path: Path, at: str, error: str, status: int) -> None:
    assert worker(tmp_path, GOOD, at=at, error=error)[0] == status


def test_what_was_burned_before_memory_ran_out_is_told(tmp_path: Path) -> None:
    """It may be wrong. Of a broken card nothing more is needed than that it is."""
    beside = tmp_path / "harness/workloads/tensor/payload"
    beside.mkdir(parents=True)
    (beside / "burn.py").write_text(BURN)
    job = {"steps": 1, "size": 64, "blocks": 1, "seconds": 12, "curve": []}
    memory = "RuntimeError('CUDA out of memory.')"
    status, told = report(tmp_path, GOOD, SECOND, error=memory, **job)
    assert (status, told["unable"]) == (0, "0000:01:00.0: CUDA out of memory.")
    assert told["burns"] == [{"precision": "fp64", "seconds": 2.0}]
    status, words = worker(tmp_path, GOOD, SECOND, error="RuntimeError('unspecified launch failure')", **job)
    assert (status, words) == (4, "0000:01:00.0: unspecified launch failure")
    status, words = worker(tmp_path, GOOD, SECOND, error=memory, **job, precisions=["fp32"])
    assert (status, words) == (3, "0000:01:00.0: CUDA out of memory.")


@pytest.mark.parametrize(
    "torch",
    [
        "raise ValueError('libcublas.so.*[0-9] not found in the system path')",
        "raise RuntimeError('built with baseline optimizations, but your machine does not support them')",
        "raise AttributeError('half installed')",
        "",
        "class version: cuda = None",
    ],
)
def test_a_framework_that_cannot_be_imported_accuses_no_card(tmp_path: Path, torch: str) -> None:
    status, words = worker(tmp_path, torch, at="work", error="RuntimeError('not reached')")
    assert status == 3
    assert "not reached" not in words


def test_nothing_that_a_shell_has_set_changes_what_is_computed_or_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {
        "TF_SYNC_ON_FINISH": "true",  # off, a rate would be that of starting the work
        "TF_USE_CUBLASLT": "false",
        "TF_MATMUL_AUTOTUNE_ENABLE": "false",
        "TF_FP16_MATMUL_USE_FP32_COMPUTE": "true",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "NVIDIA_TF32_OVERRIDE": None,
        "CUBLAS_EMULATE_DOUBLE_PRECISION": None,
    }
    for name in wanted:
        monkeypatch.setenv(name, "1")
    said = worker(tmp_path, GOOD, TELLS)[1]
    seen = json.loads(said[said.index("{") :])
    assert {name: seen.get(name) for name in wanted} == wanted
