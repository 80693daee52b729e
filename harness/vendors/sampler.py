"""The payload module that reads a GPU's telemetry beside the loads: one vendor's so far."""

from __future__ import annotations

SAMPLER = "harness.vendors.nvidia.payload.sampler"
