"""A GPU's minutes made by hand, as the reader of a spool would have them: what rules of series are tried
with.

A healthy card idles for 20 s, works for 160 s and idles again. A case changes one or more of its readings
along piecewise-linear points ``(seconds, value)``; a property (``power_limit``) or identity (``uuid``)
changes at points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.model.pci import PciAddress
from harness.model.telemetry import Change, LoadWindow
from harness.model.vendor import Kind
from harness.telemetry.gpu.samples import Numbers, Samples
from harness.telemetry.gpu.series import PROPERTIES, SENSOR, SENSORS
from harness.telemetry.gpu.spool_lines import GpuSpool, Spool
from harness.telemetry.gpu.view import Mask

Points = Sequence[tuple[float, float]]
Case = Mapping[str, Points]
"""Reading or property to its points; ``silence`` to begins and lengths of times without a sample."""

SECONDS = 200.0
LOAD = LoadWindow(workload="tensor", key="tensor-1", start=20.0, end=180.0)
ADDRESS = PciAddress(0, 0x17, 0, 0)
SILENCE = "silence"
MEMORY = 150_000_000_000
"""Bytes."""
HELD: dict[str, float | bool] = {
    "power_limit": 700.0,
    "power_limit_default": 700.0,
    "power_limit_max": 700.0,
    "temperature_slowdown": 89.0,
    "temperature_gpu_max": 87.0,
    "temperature_memory_max": 95.0,
    "clock_sm_max": 1980.0,
    "clock_memory_max": 2619.0,
    "pcie_max_gen": 5.0,
    "pcie_max_width": 16.0,
    "ecc_current": True,
    "ecc_pending": True,
    "ecc_default": True,
    "sram_exceeded": False,
    "mig": False,
    "mig_pending": False,
    "nvlink_links": 18.0,
}
_ABSENT = (
    "temperature_margin",
    "retired_single_bit",
    "retired_double_bit",
    "retired_pending",
    "nvlink_errors",
)
_STILL = {"pcie_gen": 5.0, "pcie_width": 16.0, "nvlink_active": 18.0, "clock_memory": 2619.0}


def rehearsed(case: Case) -> Spool:
    """The spool of one card that goes through the case. Raises ValueError for a reading that there is not."""
    unknown = set(case) - set(SENSOR) - set(PROPERTIES) - {"uuid", SILENCE}
    if unknown:
        raise ValueError(f"unknown reading: {', '.join(sorted(unknown))}")
    times = np.round(np.arange(0.0, SECONDS, 0.1), 3)
    columns = _healthy(times)
    for name, points in case.items():
        if name in SENSOR:
            columns[name] = _along(times, points, step=SENSOR[name].kind is Kind.STATE)
    if "power" in case and "energy" not in case:  # what a card draws, its counter counts
        columns["energy"] = np.cumsum(columns["power"]) * 0.1
    kept = np.ones(len(times), dtype=np.bool_)
    for begin, length in case.get(SILENCE, ()):
        kept &= (times < begin) | (times > begin + length)
    gpu = GpuSpool(
        index=0,
        uuid="GPU-0",
        name="rehearsed",
        address=ADDRESS,
        memory_bytes=MEMORY,
        properties={name: HELD.get(name) for name in PROPERTIES},
        not_offered=_ABSENT,
        settings=dict.fromkeys((*PROPERTIES, "uuid")),
        settings_asked=int(SECONDS / 5.0),
        changes=list(_changes(case)),
        fast=_samples([s.name for s in SENSORS if s.fast], times[kept], columns, kept),
        slow=_samples(
            [s.name for s in SENSORS if not s.fast], times[::10][kept[::10]], columns, kept, every=10
        ),
    )
    return Spool(
        boot_id="rehearsed",
        started=0.0,
        wall=0.0,
        fast_hz=10.0,
        slow_hz=1.0,
        deadline=2.0,
        source="nvml",
        gpus=(gpu,),
        kernel_from=0.0,
        last=SECONDS,
        ended=SECONDS,
        end_reason="SIGTERM",
    )


def _samples(
    names: Sequence[str], times: Numbers, columns: Mapping[str, Numbers], kept: Mask, *, every: int = 1
) -> Samples:
    given = [name for name in names if name not in _ABSENT]
    found = Samples(given)
    found.extend(times, np.column_stack([columns[name][::every][kept[::every]] for name in given]))
    return found


def _healthy(times: Numbers) -> dict[str, Numbers]:
    """The card as it is well: clocks and power follow the load at once, heat within half a minute."""
    noise = np.random.default_rng(1).normal(size=len(times))
    loaded = (times >= LOAD.start) & (times < LOAD.end)
    power = np.where(loaded, 640.0 + 8.0 * noise, 75.0 + 0.3 * noise)
    heat = np.where(loaded, 1.0, 0.0)
    for place in range(1, len(heat)):
        heat[place] = heat[place - 1] + (heat[place] - heat[place - 1]) * 0.1 / 30.0
    found = {sensor.name: np.zeros(len(times)) for sensor in SENSORS}
    found |= {name: np.full(len(times), value) for name, value in _STILL.items()}
    found |= {
        "power": power,
        "energy": np.cumsum(power) * 0.1,
        "temperature": np.round(30.0 + 36.0 * heat),
        "temperature_memory": np.round(34.0 + 40.0 * heat),
        "clock_sm": np.where(loaded, 1965.0, 345.0),
        "util_gpu": np.where(loaded, np.round(97.0 + noise).clip(90.0, 100.0), 0.0),
        "util_memory": np.where(loaded, 50.0, 0.0),
        "reasons": np.where(loaded, 0.0, 1.0),
        "memory_used": np.where(loaded, 1e11, 5e8),
        "processes": np.where(loaded, 1.0, 0.0),
    }
    return found


def _along(times: Numbers, points: Points, *, step: bool) -> Numbers:
    at, values = np.array([p[0] for p in points]), np.array([p[1] for p in points], dtype=np.float64)
    if step:
        return np.asarray(values[np.searchsorted(at, times, "right").clip(min=1) - 1], dtype=np.float64)
    return np.asarray(np.interp(times, at, values), dtype=np.float64)


def _changes(case: Case) -> Sequence[Change]:
    found = []
    for name, points in case.items():
        if name in PROPERTIES or name == "uuid":
            before: float | str | bool = HELD.get(name, "GPU-0")
            for at, value in points:
                after = (
                    f"GPU-{value:g}" if name == "uuid" else bool(value) if isinstance(before, bool) else value
                )
                found.append(Change(name=name, at=at, before=before, after=after))
                before = after
    return found
