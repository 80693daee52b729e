"""Readings that cannot be, whatever the rest of the card says (``harness.telemetry.gpu.plausible``)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from harness.model.telemetry import Doubt
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import ENERGY_FROZEN_SECONDS, POWER_FROZEN_SECONDS, SENSOR, SENSORS
from harness.telemetry.gpu.view import View, equal_bounds, increments

COLDEST = 5.0
"""degC: below the least air of any data centre (ASHRAE TC 9.9, class A1: 15 to 32 degC allowed)."""
HOTTEST = 150.0
"""degC: no GPU works there; all shut down at 90 to 110."""
IMPOSSIBLE_SECONDS = 1.0
IMPOSSIBLE_READINGS = 3
"""One reading that cannot be is a slip of the driver; these many, for that long, are no measurement."""
JUMP_FACTOR = 3.0
"""Energy may come late, and then more of it at once: never three times what the card may draw meanwhile."""


def _ranges(view: View) -> Iterator[tuple[str, float, float, str]]:
    """Sensor, least and most that it can read, and why."""
    draw = max(view.number("power_limit_max") or 0.0, view.number("power_limit") or 0.0)
    yield (
        "power",
        0.5,
        2.0 * draw if draw else math.inf,
        "a card that answers draws power, and no more than twice its limit",
    )
    for name in ("temperature", "temperature_memory"):
        yield name, COLDEST, HOTTEST, "no GPU in a data centre is that cold or that hot"
    for name in ("clock_sm", "clock_memory"):
        most = view.number(f"{name}_max")
        yield (
            name,
            1.0,
            1.1 * most if most else math.inf,
            "no clock that runs is zero, or far above the card's maximum",
        )
    for name in ("util_gpu", "util_memory", "util_encoder", "util_decoder"):
        yield name, 0.0, 100.0, "a share of time"
    yield (
        "memory_used",
        0.0,
        view.number("memory_bytes") or math.inf,
        "a card has no more memory in use than it has",
    )
    yield "pcie_gen", 1.0, 7.0, "no such generation of PCIe"
    yield "pcie_width", 1.0, 32.0, "no such width of PCIe"


def impossible(view: View) -> Iterator[tuple[str, Doubt]]:
    """Readings outside what there can be."""
    for name, low, high, why in _ranges(view):
        read = view.fast if SENSOR[name].fast else view.slow
        column = read.columns.get(name)
        if column is None:
            continue
        beyond = (column < low) | (column > high)
        places = np.flatnonzero(beyond)
        # Two slow samples are farther apart than the longest gap may allow: each stands for a second at most.
        lasts = view.lasts if SENSOR[name].fast else np.diff(read.times, append=read.times[-1:]).clip(max=1.0)
        seconds = float(lasts[beyond].sum())
        if len(places) < IMPOSSIBLE_READINGS or seconds < IMPOSSIBLE_SECONDS:
            continue
        begin, end = float(read.times[places[0]]), float(read.times[places[-1]])
        value = column[places[0]]
        yield (
            name,
            Doubt(
                rule="impossible",
                start=begin,
                end=end,
                said=f"{name} read {value:g} {unit_of(name)} at {begin:.1f} s, and {len(places)} readings "
                f"of {seconds:.1f} s in all were not possible ({why})",
            ),
        )


def frozen(view: View) -> Iterator[tuple[str, Doubt]]:
    """Power or energy that stands still under load."""
    for name, most in (("energy", ENERGY_FROZEN_SECONDS), ("power", POWER_FROZEN_SECONDS)):
        column = view.column(name)
        if column is None:
            continue
        starts, ends = equal_bounds(column, view.weights >= 0)
        if not len(starts):
            continue
        sums = np.concatenate(([0.0], np.cumsum(view.weights.clip(min=0.0))))
        stood = sums[ends - 1] - sums[starts]
        place = int(np.argmax(stood))
        seconds, begin, end = float(stood[place]), starts[place], ends[place]
        if seconds >= most:
            yield (
                name,
                Doubt(
                    rule="frozen",
                    start=float(view.fast.times[begin]),
                    end=float(view.fast.times[end - 1]),
                    said=f"{name} stayed at {column[begin]:g} {unit_of(name)} for {seconds:.1f} s under "
                    f"load from {view.fast.times[begin]:.1f} s; it must move within {most:g} s",
                ),
            )


_FALLS_TOLD = 3


def fell(view: View) -> Iterator[tuple[str, Doubt]]:
    """Counters that fell."""
    for sensor in SENSORS:
        if sensor.kind is not Kind.COUNTER:
            continue
        read = view.fast if sensor.name in view.fast.columns else view.slow
        column = read.columns.get(sensor.name)
        if column is None:
            continue
        steps, times = increments(column, read.times)
        values = column[~np.isnan(column)]
        for place in np.flatnonzero(steps < 0)[:_FALLS_TOLD]:
            yield (
                sensor.name,
                Doubt(
                    rule="fell",
                    start=float(times[place]),
                    end=float(times[place]),
                    said=f"{sensor.name} fell from {values[place]:g} to {values[place + 1]:g} at "
                    f"{times[place]:.1f} s: a counter only grows, unless the GPU was reset or its "
                    "driver loaded again",
                ),
            )


def jumped(view: View) -> Iterator[tuple[str, Doubt]]:
    """More energy at once than the card may draw."""
    column = view.column("energy")
    most = max(view.number("power_limit_max") or 0.0, view.number("power_limit") or 0.0)
    if column is None or not most:
        return
    there = ~np.isnan(column)
    steps, times = increments(column, view.fast.times)
    passed = np.diff(view.fast.times[there])
    far = np.flatnonzero(steps > JUMP_FACTOR * most * (passed + 1.0))
    if len(far):
        place = far[0]
        yield (
            "energy",
            Doubt(
                rule="jumped",
                start=float(times[place]),
                end=float(times[place]),
                said=f"energy grew by {steps[place]:.0f} J within {passed[place]:.1f} s at "
                f"{times[place]:.1f} s; the card may draw {most:.0f} W",
            ),
        )


def unit_of(name: str) -> str:
    """A sensor's unit as it is said; empty for plain numbers."""
    return SENSOR[name].unit if SENSOR[name].unit != "1" else ""
