"""Deliberate defects: corruptors of evidence, each with the check that must see it."""

from __future__ import annotations

from harness.faults import gpu, guests, host, placement
from harness.faults.base import Fault

FAULTS: tuple[Fault, ...] = (*host.FAULTS, *gpu.FAULTS, *placement.FAULTS, *guests.FAULTS)
"""Every fault of evidence there is."""

__all__ = ["FAULTS", "Fault"]
