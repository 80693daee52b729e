"""Faults that only NVIDIA's GPUs and drivers have."""

from __future__ import annotations

from harness.faults.base import Fault
from harness.vendors.nvidia.faults import cards, kernel

FAULTS: tuple[Fault, ...] = (*kernel.FAULTS, *cards.FAULTS)
