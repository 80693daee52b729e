"""What ``p2p`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
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
    title="copies between all pairs of GPUs, every word compared",
    defaults=_DEFAULTS,
    row=Row(
        does="copies between all pairs of GPUs",
        proves="every word, by the GPU that owns the memory",
        engines=f"{loads.DRIVER_WORDS} driver; needs two GPUs",
        needs_with_gpus=loads.COMPUTE_NEEDS,
    ),
    gpu_packages=loads.COMPUTE_PACKAGES,
    least_gpus=2,
)
