"""Passed-through devices, exercised from inside the guest, each by what its vendor and device need.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.device``. Prints one line of
strict JSON: what was observed at each address. It judges nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time

from harness.payload.bounded import Unable
from harness.vendors.payload.exercisers import EXERCISERS

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def exerciser(vendor: str, device: str) -> str | None:
    """Name of the exerciser of ``vendor:device``, or None when nobody knows that device."""
    return next((name for v, d, name, _ in EXERCISERS if v == vendor and d in (None, device)), None)


def look(device: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """One device's observation; ``error`` says why it could not be looked at."""
    name = exerciser(device["vendor"], device["device"])
    entry: dict[str, Any] = {**device, "exerciser": name, "observed": None, "error": None}
    if name is None:
        entry["error"] = f"no exerciser for {device['vendor']}:{device['device']}"
        return entry
    exercise = next(function for *_, known, function in EXERCISERS if known == name)
    try:
        entry["observed"] = exercise(device, job)
    except (Unable, OSError) as error:
        entry["error"] = str(error)
    return entry


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    started = time.monotonic()
    job = json.loads(argument)
    devices = [look(device, job) for device in job["devices"]]
    observed = {"devices": devices, "seconds": time.monotonic() - started}
    versions = {"python": sys.version.split()[0], "kernel": os.uname().release}
    engines = sorted({str(d["exerciser"]).removeprefix("device_") for d in devices})
    result = {"payload": "device", "engine": "+".join(engines), "observed": observed, "versions": versions}
    print(json.dumps(result, allow_nan=False), flush=True)
