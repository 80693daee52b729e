"""The payload module that reads a GPU's telemetry beside the loads: one vendor's so far."""

from __future__ import annotations

LIBRARY_LINE = "nvml"
"""Type of the line that says what answers for the GPUs."""
SAMPLER = "harness.vendors.nvidia.payload.sampler"
