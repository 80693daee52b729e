"""Temperatures that no die under that power has (``harness.telemetry.gpu.plausible``)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.model.telemetry import Doubt
from harness.telemetry.gpu.plausible_alone import unit_of
from harness.telemetry.gpu.samples import Numbers
from harness.telemetry.gpu.view import View, equal_bounds, median

SWING_SHARE = {"temperature": 0.25, "temperature_memory": 0.5}
"""Of the power limit: a core whose power changes by so much changes by more than a degree, even on a cold
plate (0.03 K/W and 70 W); memory has less power of its own and follows the heat sink."""
BLOCK = 5.0
"""Seconds over which power is averaged to see at what level it was held."""
LEVELS = ((20.0, 20.0), (10.0, 60.0))
"""Seconds of low and of high power that moved every core: dies follow within seconds, heat sinks within one
or two minutes, of which either pair is enough to see."""
STOOD_SECONDS = 40.0
"""A reading in whole degrees may well stand for less than this."""
DIP_SHARE, DIP_SECONDS = 0.5, 1.0
"""Of the power limit, and for how long by readings that are an average of a second: what lies between die and
heat spreader cools at once (0.04 K/W and 35 W of a T4 are a degree, all larger cards change by more)."""
STEP, STEP_SECONDS, STEPS = 10.0, 0.5, 10
"""degC from one reading to the next, within that time, and how many of them are no slip of the sensor."""
STEADY_SHARE = 0.2
"""Of the power limit: with less change of power than that within two seconds around, no die changes by STEP;
a core has at most the 0.05 K/W to its heat spreader that follow at once."""
AROUND = 2.0
LEVEL_STEP = 8.0
"""degC by which the two seconds before a step and after it differ where the reading stays there."""
MOST_STEPS = 2000
"""Steps that are looked at; more say nothing new."""
FALL, FALL_SHARE, FALL_ALONE = 8.0, 0.25, 20.0
"""degC that a core falls by under the same power: air and fans cool its memory as well, which sits on the
same heat sink, by a quarter of it at least. A card that does not tell its memory's temperature may fall by
what a fan from half to full speed is worth."""
SAME_SHARE = 0.1
"""Of the power limit: power within that is the same."""
FALL_BLOCK = 10.0


def unmoved(view: View) -> Iterator[tuple[str, Doubt]]:
    """A temperature that stays to the degree while the card's power rises or falls for good."""
    power, limit = view.column("power"), _limit(view)
    if power is None:
        return
    for name, share in SWING_SHARE.items():
        for begin, end in _stood(view, name):
            part = power[begin:end]  # fmax and fmin pass over NaN
            if not np.fmax.reduce(part) - np.fmin.reduce(part) >= share * limit:
                continue
            low, high = _levels(view.fast.times[begin:end], part)
            if high - low >= share * limit:
                yield (
                    name,
                    _doubt(
                        view, "unmoved", begin, end,
                        f"{_standing(view, name, begin, end)} while power was between {low:.0f} and "
                        f"{high:.0f} W",
                    ),
                )  # fmt: skip
                break


def still(view: View) -> Iterator[tuple[str, Doubt]]:
    """A core's temperature that nothing but seconds of idle could have moved, and that these did not move."""
    power, limit = view.column("power"), _limit(view)
    if power is None:
        return
    for begin, end in _stood(view, "temperature"):
        part = power[begin:end]
        high = float(np.nanmedian(part)) if not np.isnan(part).all() else 0.0
        loaded = np.flatnonzero(part >= high - 0.1 * limit)
        if not len(loaded):
            continue
        inner = slice(int(loaded[0]), int(loaded[-1]) + 1)  # what begins or ends it may be the sensor's delay
        dips = part[inner] <= high - DIP_SHARE * limit
        seconds = float(view.lasts[begin:end][inner][dips].sum())
        if seconds >= DIP_SECONDS:
            yield (
                "temperature",
                _doubt(
                    view, "still", begin, end,
                    f"{_standing(view, 'temperature', begin, end)}, also while the power fell from "
                    f"{high:.0f} to {float(np.nanmin(part[inner])):.0f} W for {seconds:.1f} s: it was not "
                    "seen to move",
                ),
            )  # fmt: skip
            return


def stepped(view: View) -> Iterator[tuple[str, Doubt]]:
    """Temperatures that jump while the power stays: one jump that lasts, or jump after jump."""
    power, limit, times = view.column("power"), _limit(view), view.fast.times
    for name in SWING_SHARE:
        column = view.column(name)
        if column is None or power is None:
            continue
        near = np.diff(times) <= STEP_SECONDS
        places = np.flatnonzero((np.abs(np.diff(column)) >= STEP) & near)[:MOST_STEPS]
        sudden = [place for place in places.tolist() if _steady(times, power, place, limit)]
        lasting = [place for place in sudden if _lasts(times, column, place)]
        if lasting or len(sudden) >= STEPS:
            place = (lasting or sudden)[0]
            often = "" if len(sudden) == 1 else f", and so {len(sudden)} times"
            yield (
                name,
                _doubt(
                    view, "stepped", place, sudden[-1] + 2,
                    f"{name} went from {column[place]:g} to {column[place + 1]:g} {unit_of(name)} within "
                    f"{times[place + 1] - times[place]:.1f} s at {times[place]:.1f} s while the power "
                    f"stayed the same{often}; no die does that",
                ),
            )  # fmt: skip


def cooled(view: View) -> Iterator[tuple[str, Doubt]]:
    """A core that cools under the same power, and not its memory beside it."""
    core, power, limit = view.column("temperature"), view.column("power"), _limit(view)
    if core is None or power is None:
        return
    memory = view.column("temperature_memory")
    for start, stop in view.spans:
        begin, end = np.searchsorted(view.fast.times, (start, stop)).tolist()
        times = view.fast.times[begin:end]
        if len(times) < 2:
            continue
        heat, draw = (_means(times, column[begin:end], FALL_BLOCK) for column in (core, power))
        beside = None if memory is None else _means(times, memory[begin:end], FALL_BLOCK)
        for first, last in _alike(draw, SAME_SHARE * limit):
            fall = _fall(heat[first + 1 : last], None if beside is None else beside[first + 1 : last])
            if fall is None:
                continue
            high, low, words = fall
            at = [float(times[0]) + FALL_BLOCK * (first + 1 + place) for place in (high, low)]
            yield (
                "temperature",
                Doubt(
                    rule="cooled",
                    start=at[0],
                    end=at[1],
                    said=f"temperature fell from {heat[first + 1 + high]:.0f} degC at {at[0]:.1f} s to "
                    f"{heat[first + 1 + low]:.0f} degC at {at[1]:.1f} s under the same power of "
                    f"{float(np.nanmean(draw[first:last])):.0f} W, {words}",
                ),
            )
            return


def _fall(heat: Numbers, beside: Numbers | None) -> tuple[int, int, str] | None:
    """Places of the highest block and the lowest after it, where that is no fall that air can make."""
    if len(heat) < 3 or bool(np.isnan(heat).any()):
        return None
    lows = np.maximum(heat[1:-1], heat[2:])  # two blocks that are low
    falls = np.maximum.accumulate(heat[:-2]) - lows
    low = int(np.argmax(falls)) + 1
    high = int(np.argmax(heat[:low]))
    fell = float(falls[low - 1])
    if beside is None or bool(np.isnan(beside).all()):
        return (high, low, "and no fan is worth that") if fell >= FALL_ALONE else None
    along = float(beside[high] - beside[low])
    if fell >= FALL and along < FALL_SHARE * fell:
        return high, low, f"and the memory beside it went from {beside[high]:.0f} to {beside[low]:.0f} degC"
    return None


def _alike(levels: Numbers, most: float) -> Iterator[tuple[int, int]]:
    """Stretches of blocks that differ by no more than that: first, and one beyond the last."""
    first, low, high = 0, np.inf, -np.inf
    for place, level in enumerate(levels.tolist()):
        low, high = min(low, level), max(high, level)
        if not high - low <= most:  # also where a block holds nothing
            yield first, place
            first, low, high = place, level, level
    yield first, len(levels)


def _means(times: Numbers, column: Numbers, seconds: float) -> Numbers:
    """Means over blocks of that length, from the first moment on; NaN where nothing was read."""
    block = ((times - times[0]) // seconds).astype(np.int64)
    there = ~np.isnan(column)
    counts = np.bincount(block, there, minlength=int(block[-1]) + 1)
    sums = np.bincount(block, np.where(there, column, 0.0), minlength=len(counts))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1.0), np.nan))


def _levels(times: Numbers, power: Numbers) -> tuple[float, float]:
    """Of a low and a high power that were held for a pair of LEVELS, those that are farthest apart."""
    means = _means(times, power, BLOCK)[:-1]  # the last block is hardly ever a whole one
    pairs = [(_held(means, low, lowest=True), _held(means, high, lowest=False)) for low, high in LEVELS]
    return max(pairs, key=lambda pair: pair[1] - pair[0])


def _held(means: Numbers, seconds: float, *, lowest: bool) -> float:
    """The lowest power that was not exceeded for that time, or the highest that was kept up."""
    width = int(seconds / BLOCK)
    if len(means) < width:
        return np.inf if lowest else -np.inf
    windows = np.lib.stride_tricks.sliding_window_view(means, width)
    held = windows.max(axis=1) if lowest else windows.min(axis=1)
    held = held[~np.isnan(held)]
    if not len(held):
        return np.inf if lowest else -np.inf
    return float(held.min() if lowest else held.max())


def _stood(view: View, name: str) -> Iterator[tuple[int, int]]:
    """Stretches in which a temperature stood at one degree for long."""
    column = view.column(name)
    if column is None:
        return
    starts, ends = equal_bounds(column)
    long = view.fast.times[ends - 1] - view.fast.times[starts] >= STOOD_SECONDS
    yield from zip(starts[long].tolist(), ends[long].tolist(), strict=True)


def _steady(times: Numbers, power: Numbers, place: int, limit: float) -> bool:
    begin, end = np.searchsorted(times, (times[place] - AROUND, times[place + 1] + AROUND))
    around = power[begin:end]
    return not bool(np.isnan(around).any()) and float(around.max() - around.min()) <= STEADY_SHARE * limit


def _lasts(times: Numbers, column: Numbers, place: int) -> bool:
    begin, end = np.searchsorted(times, (times[place] - AROUND, times[place + 1] + AROUND))
    before, after = median(column, slice(begin, place + 1)), median(column, slice(place + 1, end))
    return before is not None and after is not None and abs(after - before) >= LEVEL_STEP


def _limit(view: View) -> float:
    """The card's power limit; where it tells none, the most that it drew."""
    named = view.number("power_limit_default") or view.number("power_limit")
    power = view.column("power")
    return named or (0.0 if power is None else float(np.nanmax(power)))


def _standing(view: View, name: str, begin: int, end: int) -> str:
    times, column = view.fast.times, view.fast.columns[name]
    since, until = f"{times[begin]:.1f} s", f"{times[end - 1]:.1f} s"
    return f"{name} stayed at {column[begin]:g} {unit_of(name)} from {since} to {until}"


def _doubt(view: View, rule: str, begin: int, end: int, said: str) -> Doubt:
    start, stop = view.fast.times[begin], view.fast.times[min(end, len(view.fast.times)) - 1]
    return Doubt(rule=rule, start=float(start), end=float(stop), said=said)
