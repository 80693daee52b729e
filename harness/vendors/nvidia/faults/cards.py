"""Cards that are cut into instances, and NVLinks that are not well."""

from __future__ import annotations

from harness.faults.base import Fault
from harness.faults.telemetry import with_counter, with_property, with_series

FAULTS = (
    Fault(
        id="mig-on",
        title="The GPU is divided into instances",
        must_trip="gpu.mig_mode",
        corrupt=lambda e: with_property(e, mig=True, mig_pending=True),
    ),
    Fault(
        id="mig-pending",
        title="The GPU will be divided into instances after the next reset",
        must_trip="gpu.mig_mode",
        corrupt=lambda e: with_property(e, mig_pending=True),
    ),
    Fault(
        id="nvlink-replay",
        title="An NVLink repeated a packet",
        must_trip="gpu.nvlink",
        corrupt=lambda e: with_counter(e, "nvlink_replay", 1.0),
    ),
    Fault(
        id="nvlink-down",
        title="An NVLink went down under load",
        must_trip="gpu.nvlink",
        corrupt=lambda e: with_series(e, "nvlink_active", minimum=17.0, last=17.0),
    ),
)
