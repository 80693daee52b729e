"""One device's share of the tensor workload: its identity, its precisions, its burns, its training.

Usage: ``worker.main(JSON)`` (``job.py`` starts one a GPU). Prints one line of strict JSON and ends
with 0, 3 (something is missing here) or 4 (the demanded engine does not work).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time

from harness.workloads.tensor.payload import device, library

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

UNABLE, BROKEN = 3, 4
_SETTINGS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "OPENBLAS_NUM_THREADS": "1",  # references need not start a thread for each processor
    # cuBLAS gives the same bits each time only with a workspace of fixed size (its documentation, 2.1.4).
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # TensorFlow would take a GPU's whole memory at once, which other loads use at the same time.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    # Else a run returns before the GPU has done it, and rates are those of starting it (direct_session.cc).
    "TF_SYNC_ON_FINISH": "true",
    # Plans of cuBLASLt are kept by type and shape (matmul_util.h): TF32 would get those of float32. Its
    # algorithms by trial differ from GPU to GPU, and so do the bits.
    "TF_USE_CUBLASLT": "false",
    "TF_MATMUL_AUTOTUNE_ENABLE": "false",
    "TF_FP16_MATMUL_USE_FP32_COMPUTE": "true",  # sums in 16 bits break the bounds
}
_UNSET = (
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_EMULATE_SINGLE_PRECISION",
    "CUBLAS_EMULATE_DOUBLE_PRECISION",
    "CUBLAS_EMULATION_STRATEGY",
    "CUDA_LAUNCH_BLOCKING",
)
"""They would change what the precisions mean, or how fast they are."""
_ORDER = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8")


def report(job: dict[str, Any]) -> dict[str, Any]:
    """All that one device did. Raises ``tensor_device.Unable`` or ``Broken``.

    With ``unable``, which says what was lacking, it is what was done before: that may be wrong.
    """
    began = time.perf_counter()
    gpu = job["device"] != "cpu"
    who = {"address": "", "name": "", "capability": None, "driver": None}
    if gpu:
        who = device.identity(job["device"])
    driver = who.pop("driver")
    engine, caught, times = _engine({**job, "capability": who["capability"], "driver": driver}, began)
    name = f"{'cuda' if gpu else 'cpu'}:{job['framework']}"
    job = {**job, "engine": name}
    import numpy

    from harness.workloads.tensor.payload.training import Training

    training = Training(engine, job)
    burns: list[dict[str, Any]] = []
    curve: list[dict[str, Any]] = []
    lacking = {}
    try:
        offered = engine.offered(tuple(who["capability"]) if who["capability"] else None)
        asked = job["precisions"] or [p for p in _ORDER if not offered[p]]
        todo = [p for p in _ORDER if p in asked and not offered[p]]
        training.once()
        for precision in todo:
            one = {**job, "precision": precision, "seconds": job["seconds"] / len(todo)}
            burns.append(_burn(engine, one))
        curve = _curve(engine, job, todo)
        training.once()
    except caught as error:
        why = device.at_work(error, gpu, job["device"])
        if not burns or not isinstance(why, device.Unable):
            raise why from error
        lacking = {"unable": str(why)}
    return {
        "device": job["device"],
        **who,
        "engine": name,
        "offered": offered,
        "burns": burns,
        "curve": curve,
        "training": training.observed(),
        **times,
        **lacking,
        "versions": {
            job["framework"]: engine.version,
            "numpy": numpy.__version__,
            "python": sys.version.split()[0],
        },
    }


def _engine(job: dict[str, Any], began: float) -> tuple[Any, tuple[type[Exception], ...], dict[str, float]]:
    """The engine, what its framework raises at work, and how long it took to start."""
    gpu, framework = job["device"] != "cpu", job["framework"]
    os.environ.update(_SETTINGS)
    for name in _UNSET:
        os.environ.pop(name, None)
    if not gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if framework == "tensorflow" and device.lacks_avx():
        raise device.Unable("TensorFlow's wheels need AVX, and this processor has none")
    if job["library_dir"]:
        other = library.other_python(job["library_dir"])
        if other:
            raise device.Unable(f"{framework} is not usable here: {other}")
        sys.path.insert(0, job["library_dir"])
    try:
        import numpy  # noqa: F401  timed by itself

        numpy_seconds = time.perf_counter() - began
        module = _module(job)
    except device.Unable:
        raise
    except Exception as error:  # no device was touched yet: whatever this is, an installation is broken
        why = str(error) or type(error).__name__
        raise device.Unable(f"{framework} is not usable here: {why}") from error
    caught: tuple[type[Exception], ...] = (RuntimeError, MemoryError, *module.ERRORS)
    try:
        engine = module.Engine(job)
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise device.Unable(f"{framework} is not usable here: {error}") from error
    except caught as error:
        raise device.at_work(error, gpu, framework) from error
    spent = time.perf_counter() - began - numpy_seconds
    return engine, caught, {"numpy_seconds": numpy_seconds, "import_seconds": spent}


def _module(job: dict[str, Any]) -> Any:
    """The module with the engine of the job's framework. Raises Unable where it never could work here."""
    gpu = job["device"] != "cpu"
    if job["framework"] == "torch":
        import torch

        from harness.workloads.tensor.payload import pytorch

        if gpu and torch.version.cuda is None:
            raise device.Unable("this PyTorch is built without CUDA")
        return pytorch
    named = library.engine_named(job["library_dir"])
    if named:
        return importlib.import_module(named)
    if gpu:
        _prepare_cuda(job)
    from harness.workloads.tensor.payload import tensorflow_engine

    return tensorflow_engine


def _prepare_cuda(job: dict[str, Any]) -> None:
    """Load the libraries that TensorFlow needs on this GPU. Raises Unable where it never could work, or
    OSError."""
    info = library.build_info(job["library_dir"])
    why = library.no_kernels(info, tuple(job["capability"]), job["driver"])
    if why:
        raise device.Unable(why)
    library.preload(library.cuda_libraries(job["library_dir"], info))


def _burn(engine: Any, job: dict[str, Any]) -> dict[str, Any]:
    from harness.workloads.tensor.payload import burn

    precision = job["precision"]
    size = job["size"] or (job["sizes"][precision] if engine.gpu else 128)
    products = engine.products(precision, size, job["blocks"], job["seed"])
    found = burn.Burn(products, {**job, "size": size}).run()
    products.close()
    return found


def _curve(engine: Any, job: dict[str, Any], todo: list[str]) -> list[dict[str, Any]]:
    """Of the fastest precision that was burned: there checking costs most."""
    fastest = [p for p in ("bf16", "fp16", "tf32", "fp32", "fp64") if p in todo]
    if not engine.gpu:
        fastest = [p for p in ("fp32", "fp64", "bf16", "fp16") if p in todo]
    if not fastest or not job["curve"]:
        return []
    from harness.workloads.tensor.payload import burn

    def make(precision: str, size: int) -> Any:
        return engine.products(precision, size, 2, job["seed"])

    return burn.cost_curve(make, {**job, "precision": fastest[0]}, job["curve"])


def outcome(job: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The report and exit status 0, or ``{"error": ...}`` and 3 or 4."""
    try:
        return report(job), 0
    except device.Unable as error:
        return {"error": str(error)}, UNABLE
    except device.Broken as error:
        return {"error": str(error)}, BROKEN


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the report."""
    found, status = outcome(json.loads(argument))
    print(json.dumps(found, allow_nan=False), flush=True)
    os._exit(status)
