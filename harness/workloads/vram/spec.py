"""What ``vram`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import ModelFigure, Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    # Least share of a card's memory, as its driver counts it, to cover. It keeps some 0.3 to 0.6 GB
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
    title="patterns written to the GPUs' memory and read back, every word compared",
    defaults=_DEFAULTS,
    row=Row(
        does="patterns over 95 % of a GPU's memory",
        proves="every word, and faults planted before that must be found",
        engines=f"{loads.DRIVER_WORDS} driver; main memory",
        needs_with_gpus=loads.COMPUTE_NEEDS,
    ),
    gpu_packages=loads.COMPUTE_PACKAGES,
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
