"""What the figures of a GPU model are: units, plausible ranges, and which measurement each one judges."""

from __future__ import annotations

from harness.workloads.registry import specs
from harness.workloads.spec import ModelFigure

LEAST_SHARE = 0.4
"""Least share of a theoretical peak that a floor may be: below, a broken card passes
(statistics-and-faults §0: shipped vendor floors of 0.001 of the peak)."""
MOST_SHARE = 1.0
MOST_MEASURED = 1.5
"""Share of a figure above which a measurement is not believed. Cards run up to a fifth above the boost clock
that their peak is given for; what was computed in the next narrower format, or read from a cache, is twice as
fast at least (A10: 62.5 TFLOP/s in TF32, 31.2 in FP32)."""

CODECS = ("h264", "hevc", "hevc10", "av1")

FIGURES: tuple[ModelFigure, ...] = (
    ModelFigure(name="memory_bytes", unit="B", measurements=("memory_bytes",), plausible=(1e9, 1e12)),
    ModelFigure(name="power", unit="W", measurements=(), plausible=(20.0, 3000.0)),
    *(figure for workload in specs() for figure in workload.figures),
)
"""All figures of GPU models: what telemetry tells, and what each workload's folder declares."""

UNIT_OF: dict[str, str] = {figure.name: figure.unit for figure in FIGURES}
"""Figure to unit; the measurement that it judges has the same."""

REQUIRED = ("memory_bytes", "memory_bandwidth", "pcie_gen", "pcie_width", "power")
"""Figures that every real GPU has, so that a file says of each at least that it is unknown."""

FIGURE_OF: dict[str, str] = {name: figure.name for figure in FIGURES for name in figure.measurements}
"""Measurement to the figure that it is held to. What stands before its first dot is the workload."""

PLAUSIBLE: dict[str, tuple[float, float]] = {
    figure.name: figure.plausible for figure in FIGURES if figure.plausible is not None
}
"""Ranges that hold GPUs from 2018 on with room to spare; outside, a unit was confused."""

GTS = {1: 2.5, 2: 5.0, 3: 8.0, 4: 16.0, 5: 32.0, 6: 64.0}
"""GT/s per lane by PCI Express generation (base specification)."""
WIDTHS = (1, 2, 4, 8, 16)

SIBLING_FACTOR = 10.0
"""Models of one family differ by less than this in any figure (largest shipped: FP8 of L4 and L40S, 3.0);
a slip of units is 1,000."""

RATIOS: tuple[tuple[str, str, float], ...] = (
    ("tf32", "fp16", 2.0),
    ("fp16", "bf16", 1.0),
    ("fp16", "fp8", 2.0),
)
"""Dense tensor rates from Ampere to Blackwell: half the bits, twice the rate. A figure with sparsity among
dense ones breaks this."""
RATIO_TOLERANCE = 0.15
"""A maker's own rounding makes 2.05 of 2 (B200: 2,250 to 1,100)."""


def link_bandwidth(generation: float, width: float) -> float | None:
    """GB/s of one direction of a link: 8b/10b coding to generation 2, 128b/130b from 3 on."""
    rate = GTS.get(int(generation)) if generation == int(generation) else None
    if rate is None:
        return None
    return rate * width * (0.8 if generation < 3 else 128 / 130) / 8


def of_workload(measurement: str, workload: str) -> bool:
    """Whether a measurement is one of the workload's own: ``tensor.bf16.rate`` of ``tensor``."""
    head, dot, _ = measurement.partition(".")
    return bool(dot) and head == workload
