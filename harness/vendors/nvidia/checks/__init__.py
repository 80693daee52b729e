"""Checks that only NVIDIA's GPUs know."""

from __future__ import annotations

from harness.checks.base import Check
from harness.vendors.nvidia.checks import mig, nvlink

CHECKS: tuple[Check, ...] = (*mig.CHECKS, *nvlink.CHECKS)
