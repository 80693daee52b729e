"""One series of a GPU, summed up: extremes, growth, states and how long they held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from harness.model.telemetry import SeriesSummary, Stretch
from harness.model.vendor import Kind, Sensor
from harness.telemetry.gpu.gaps import load_before, under_load
from harness.telemetry.gpu.plausible import doubts
from harness.telemetry.gpu.samples import Numbers, Read
from harness.telemetry.gpu.series import REASONS, SENSORS
from harness.telemetry.gpu.spool_lines import GpuSpool
from harness.telemetry.gpu.view import Mask, View, equal_runs, increments, within

MINUTE = 60.0
WORST_SECONDS = 600.0
"""Time under load over which a reason to hold clocks back is summed up: gpud judges ten minutes."""
MOST_LEVELS = 16
"""Values of one state that are kept, the longest held first: a link has five widths and six generations."""


def series_of(gpu: GpuSpool, view: View, slowest: float) -> dict[str, SeriesSummary]:
    """Every series by name, also those that the card said it does not have.

    ``slowest``: seconds between two samples of the slow round beyond which nothing is known of the time
    between.
    """
    found: dict[str, SeriesSummary] = {}
    doubtful = doubts(view)
    slow = under_load(view.slow.times, view.spans, slowest)
    settled = view.settled()
    for read, weights, states in ((view.fast, view.weights, settled), (view.slow, slow, slow > 0)):
        for sensor in SENSORS:
            if sensor.name in read.columns:
                summary = _series(sensor, read, weights, states, view)
                found[sensor.name] = replace(
                    summary,
                    doubts=doubtful.get(sensor.name, ()),
                    detail=gpu.errors.get(sensor.name, ""),
                )
    absent = {
        sensor.name: SeriesSummary(name=sensor.name, unit=sensor.unit, offered=False)
        for sensor in SENSORS
        if sensor.name in gpu.not_offered and sensor.name not in found
    }
    return found | absent


def _series(sensor: Sensor, read: Read, weights: Numbers, states: Mask, view: View) -> SeriesSummary:
    """Of fast gauges and states what was read under load. Of slow counters and states everything that was
    read while the sampler ran: an error that is counted before the first load, or after the last, is the
    card's too. Energy is read often, and is divided by the time of the loads: what was used before and after
    them has no part in that."""
    column, times = read.columns[sensor.name], read.times
    wide = sensor.kind is Kind.COUNTER or (sensor.kind is Kind.STATE and not sensor.fast)
    taken = within(times, ((view.first, view.last),) if wide and view.spans else view.spans)
    failed = int((np.isnan(column) & taken).sum())
    if wide and view.spans and not sensor.fast:
        taken = np.ones(len(times), dtype=np.bool_)
    taken &= ~np.isnan(column)
    values = column[taken]
    found = SeriesSummary(name=sensor.name, unit=sensor.unit, offered=True, count=len(values), failed=failed)
    if not len(values):
        return found
    found = replace(
        found,
        first=float(values[0]),
        last=float(values[-1]),
        minimum=float(values.min()),
        maximum=float(values.max()),
        mean=float(values.mean()),
        p50=float(np.median(values)),
        unchanged_seconds=_unchanged(column, weights),
    )
    if sensor.kind is Kind.COUNTER:
        return _counter(found, *increments(values, times[taken]))
    return (
        _state(found, read, states, weights)
        if sensor.kind is Kind.STATE and sensor.name != "reasons"
        else found
    )


def _unchanged(column: Numbers, weights: Numbers) -> float:
    """Longest time under load in which each reading was the one before. A gap or a failed read ends it."""
    if len(column) < 2:
        return 0.0
    # The weight of a sample is the time to the next one, which is of that stretch as long as it is the same.
    same = (column[:-1] == column[1:]) & (weights[:-1] >= 0)
    sums = np.concatenate(([0.0], np.cumsum(np.where(same, weights[:-1], 0.0))))
    edges = np.flatnonzero(~same)
    bounds = np.concatenate(([0], edges + 1, [len(same)]))
    return float(np.diff(sums[np.minimum(bounds, len(same))]).max(initial=0.0))


def _counter(found: SeriesSummary, steps: Numbers, times: Numbers) -> SeriesSummary:
    """What it grew by: every increment counts, also after a reset."""
    up = steps.clip(min=0.0)
    if not len(up):
        return replace(found, grown=0.0, grown_minute=0.0)
    sums = np.concatenate(([0.0], np.cumsum(up)))
    minute = sums[1:] - sums[np.searchsorted(times, times - MINUTE, "right")]
    grew = np.flatnonzero(up)
    return replace(
        found,
        grown=float(sums[-1]),
        grown_minute=float(minute.max()),
        grown_from=float(times[grew[0]]) if len(grew) else None,
    )


def _state(found: SeriesSummary, read: Read, states: Mask, weights: Numbers) -> SeriesSummary:
    """How long each value held while the GPU computed."""
    column, times = read.columns[found.name], read.times
    seconds: dict[float, float] = {}
    longest: dict[float, Stretch] = {}
    since: dict[float, float] = {}
    for begin, end in equal_runs(column, states):
        value = float(column[begin])
        lasted = float(weights[begin:end].clip(min=0.0).sum())
        seconds[value] = seconds.get(value, 0.0) + lasted
        since.setdefault(value, float(times[begin]))
        stop = float(times[min(end, len(times) - 1)])
        if value not in longest or lasted > longest[value].seconds:
            longest[value] = Stretch(value=value, start=float(times[begin]), end=stop)
    kept = sorted(seconds, key=lambda value: -seconds[value])[:MOST_LEVELS]
    return replace(
        found,
        levels={f"{value:g}": round(seconds[value], 3) for value in kept},
        held=tuple(longest[value] for value in kept),
        since={f"{value:g}": round(since[value], 3) for value in kept},
    )


def _each_reason(view: View) -> Iterable[tuple[str, Numbers]]:
    """Reason and, for each fast sample, the seconds under load for which it was told."""
    column = view.fast.columns.get("reasons")
    if column is None:
        return
    there = ~np.isnan(column) & (view.weights > 0)
    bits = np.where(there, column, 0.0).astype(np.uint64)
    every = int(np.bitwise_or.reduce(bits, initial=np.uint64(0)))
    names = dict(REASONS) | {
        1 << place: f"bit_{place}"
        for place in range(every.bit_length())
        if every >> place & 1 and 1 << place not in REASONS
    }
    for bit, name in names.items():
        yield name, np.where(bits & np.uint64(bit) != 0, view.weights, 0.0)


def reasons(view: View) -> dict[str, float]:
    """Seconds under load by reason; a reading holds until the next one. Empty when the card tells none."""
    return {name: float(seconds.sum()) for name, seconds in _each_reason(view)}


def reasons_worst(view: View) -> dict[str, Stretch]:
    """Reason to the ten minutes under load with most of it; those that were never told are not there."""
    found: dict[str, Stretch] = {}
    times = view.fast.times
    loaded = load_before(times, view.spans)
    for name, seconds in _each_reason(view):
        if not seconds.any():
            continue
        sums = np.concatenate(([0.0], np.cumsum(seconds)))
        begins = np.searchsorted(loaded, loaded - WORST_SECONDS, "left")
        within_window = sums[1:] - sums[begins]
        place = int(np.argmax(within_window))
        told = begins[place] + np.flatnonzero(seconds[begins[place] : place + 1])
        found[name] = Stretch(
            value=round(float(within_window[place]), 3),
            start=float(times[told[0]]),
            end=float(times[min(told[-1] + 1, len(times) - 1)]),
        )
    return found
