"""What ``vram`` is, as data."""

from __future__ import annotations

from harness.workloads.spec import ModelFigure, Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    # Least share of a card's memory, as CUDA counts it, to be covered. The driver keeps some 0.3 to 0.6 GB
    # of a card for itself and its contexts: 2 to 4 % of the smallest here (16 GB).
    "share": 0.95,
    "mib": 4,
    # All 64 begin the walking bit at every place of every word once: seconds on a card, minutes on the
    # processor of an emulated guest, where one has to do.
    "walks": 64,
    "ram_walks": 1,
    "randoms": 2,
    "hold_seconds": 0.0,
    "planted": 16,
    "bandwidth_seconds": 0.5,
    "stall_seconds": 120.0,
}
"""``share`` of a card's memory; numbers of passes; ``mib`` and ``ram_walks`` are the CPU engine's."""

SPEC = WorkloadSpec(
    name="vram",
    title="every word of the GPUs' memory holds what is written into it",
    defaults=_DEFAULTS,
    row=Row(
        does="patterns over 95 % of a GPU's memory",
        proves="every word, and faults planted before that must be found",
        engines="CUDA driver; main memory",
        needs_with_gpus="`libcuda.so.1` and `libnvidia-ptxjitcompiler.so.1`",
    ),
    gpu_packages=("libcuda1", "libnvidia-ptxjitcompiler1"),
    figures=(
        ModelFigure(
            name="memory_bandwidth",
            unit="GB/s",
            measurements=("vram.bandwidth",),
            plausible=(50.0, 50_000.0),
        ),
    ),
    mixed={},
    keeps_gpus_busy=True,
)
