"""What ``p2p`` is, as data."""

from __future__ import annotations

from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "mib": 64,
    "repeats": 5,
    "demand_peer": False,
    "demand_nvlink": False,
    "stall_seconds": 120.0,
}
"""``mib`` of one copy, ``repeats`` of batches; whether peer access or NVLink must be there."""

SPEC = WorkloadSpec(
    name="p2p",
    title="what one GPU writes to another arrives there",
    defaults=_DEFAULTS,
    row=Row(
        does="copies between all pairs of GPUs",
        proves="every word, by the GPU that owns the memory",
        engines="CUDA driver; needs two GPUs",
        needs_with_gpus="`libcuda.so.1` and `libnvidia-ptxjitcompiler.so.1`",
    ),
    gpu_packages=("libcuda1", "libnvidia-ptxjitcompiler1"),
    least_gpus=2,
)
