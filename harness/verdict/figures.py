"""What the figures of a GPU model are: units, plausible ranges, and which measurement each one judges."""

from __future__ import annotations

LEAST_SHARE = 0.4
"""Least share of a theoretical peak that a floor may be: below, a broken card passes
(statistics-and-faults §0: shipped vendor floors of 0.001 of the peak)."""
MOST_SHARE = 1.0
MOST_MEASURED = 1.5
"""Share of a figure above which a measurement is not believed. Cards run up to a fifth above the boost clock
that their peak is given for; what was computed in the next narrower format, or read from a cache, is twice as
fast at least (A10: 62.5 TFLOP/s in TF32, 31.2 in FP32)."""

PRECISIONS = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8")
HASHES = ("md5", "ntlm", "sha256", "bcrypt")
CODECS = ("h264", "hevc", "hevc10", "av1")
ENGINES = ("nvenc", "nvdec", "nvjpeg", "rt")

UNIT_OF: dict[str, str] = {
    "memory_bytes": "B",
    "memory_bandwidth": "GB/s",
    "pcie_gen": "1",
    "pcie_width": "1",
    "pcie_bandwidth": "GB/s",
    "power": "W",
    **dict.fromkeys(PRECISIONS, "TFLOP/s"),
    **{f"hashing_{name}": "GH/s" for name in HASHES},
}
"""Figure to unit; the measurement that it judges has the same."""

REQUIRED = ("memory_bytes", "memory_bandwidth", "pcie_gen", "pcie_width", "power")
"""Figures that every real GPU has, so that a file says of each at least that it is unknown."""

FIGURE_OF: dict[str, str] = {
    "memory_bytes": "memory_bytes",
    "vram.bandwidth": "memory_bandwidth",
    "pcie.h2d": "pcie_bandwidth",
    "pcie.d2h": "pcie_bandwidth",
    "pcie.gen_under_load": "pcie_gen",
    "pcie.width_under_load": "pcie_width",
    **{f"tensor.{name}.rate": name for name in PRECISIONS},
    **{f"hashing.{name}.rate": f"hashing_{name}" for name in HASHES},
}
"""Measurement to the figure that it is held to. What stands before its first dot is the workload."""

PLAUSIBLE: dict[str, tuple[float, float]] = {
    "memory_bytes": (1e9, 1e12),
    "memory_bandwidth": (50.0, 50_000.0),
    "pcie_bandwidth": (1.0, 500.0),
    "power": (20.0, 3000.0),
    **dict.fromkeys(PRECISIONS, (0.05, 50_000.0)),
    **{f"hashing_{name}": (0.1, 5000.0) for name in HASHES if name != "bcrypt"},
    "hashing_bcrypt": (1e-6, 1e-2),
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
"""NVIDIA's own rounding makes 2.05 of 2 (B200: 2,250 to 1,100)."""


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
