"""What ``pcie`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import ModelFigure, Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    "mib": 16,
    "ram_mib": 2,
    "copies": 8,
    "repeats": 10,
    # How much slower than the farthest cell the near one may measure. Two cells that both fill the link
    # differ by noise only, some per cent from run to run; a card on the wrong side loses more than a tenth
    # where it matters at all.
    "near_tolerance": 0.1,
    "stall_seconds": 120.0,
}
"""``mib`` of one copy, ``copies`` in a batch, ``repeats`` of batches; ``near_tolerance`` a share;
``ram_mib`` of one copy of the CPU engine."""

SPEC = WorkloadSpec(
    name="pcie",
    title="copies over each GPU's PCIe link from each guest cell, every word compared",
    defaults=_DEFAULTS,
    row=Row(
        does="copies from each guest cell, both ways and at once; the link under load",
        proves="every word; near cell not slower than far",
        engines=f"{loads.DRIVER_WORDS} driver; main memory",
        needs_with_gpus=loads.COMPUTE_NEEDS,
    ),
    gpu_packages=loads.COMPUTE_PACKAGES,
    figures=(
        ModelFigure(name="pcie_gen", unit="1", measurements=("pcie.gen_under_load",)),
        ModelFigure(name="pcie_width", unit="1", measurements=("pcie.width_under_load",)),
        ModelFigure(
            name="pcie_bandwidth",
            unit="GB/s",
            measurements=("pcie.h2d", "pcie.d2h"),
            plausible=(1.0, 500.0),
        ),
    ),
    # Near and far cells are measured one after the other, while the other loads stop, go on and end.
    mixed={"near_tolerance": 0.9},
)
