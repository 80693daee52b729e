"""Deliberate defects: corruptors of evidence, each with the check that must see it."""

from __future__ import annotations

from harness.faults import (
    deaths,
    disturbance,
    expectations,
    gpu,
    guests,
    host,
    host_changes,
    placement,
    series,
    telemetry,
    telemetry_host,
)
from harness.faults.base import Fault
from harness.vendors.registry import parts

FAULTS: tuple[Fault, ...] = (
    *host.FAULTS,
    *gpu.FAULTS,
    *placement.FAULTS,
    *guests.FAULTS,
    *deaths.FAULTS,
    *telemetry.FAULTS,
    *series.FAULTS,
    *telemetry_host.FAULTS,
    *host_changes.FAULTS,
    *expectations.FAULTS,
    *disturbance.FAULTS,
    *(fault for faults in parts("faults", "FAULTS") for fault in faults),
)
"""Every fault of evidence there is."""

__all__ = ["FAULTS", "Fault"]
