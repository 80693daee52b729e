"""What ``device`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import Row, Scalar, WorkloadSpec

_DEFAULTS: dict[str, Scalar] = {"factorials": 4, "dma_rounds": 2, "interrupts": 8, "residue": True}
"""Counts per device; ``residue``: look for the earlier tenant's data and leave our own."""

SPEC = WorkloadSpec(
    name="device",
    title="passed-through devices compute, move memory and interrupt",
    defaults=_DEFAULTS,
    row=Row(
        does="DMA, interrupts, what an earlier tenant left",
        proves="written and read back",
        engines=f"the lab's stand-in; on {loads.MAKER} the identity, and what was left in its memory",
        needs="`kmod`",
    ),
    packages=("kmod",),
    needs_devices=True,
    extra_jobs=("canary",),
)
