"""What exercises a device from inside a guest: one line a kind of device."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def _edu(device: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    from harness.vendors.edu.payload import device as edu

    return edu.exercise(device, job)


def _nvidia(device: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    from harness.vendors.nvidia.payload import device as nvidia

    return nvidia.exercise(device, job)


EXERCISERS = (("1234", "11e8", "device_edu", _edu), ("10de", None, "device_nvidia", _nvidia))
"""Vendor, device (None: any), the name in answers and engines, and what exercises it."""
