"""Readings that contradict each other (``harness.telemetry.gpu.plausible``)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.model.telemetry import Doubt
from harness.telemetry.gpu.plausible_alone import IMPOSSIBLE_SECONDS, unit_of
from harness.telemetry.gpu.samples import Numbers
from harness.telemetry.gpu.view import Mask, View, equal_bounds, runs

SWING_SHARE = {"temperature": 0.25, "temperature_memory": 0.5}
"""Of the power limit: a core whose power changes by so much changes by more than a degree, even on a cold
plate (0.03 K/W and 70 W); memory has less power of its own and follows the heat sink."""
SWING_BLOCK = 10.0
"""Seconds; a level that two of these have held moved every core: dies follow within seconds, heat sinks
within one or two minutes, of which this is enough to see."""
BUSY_POWER_SHARE = 0.07
"""Of the power limit: all models idle above it (T4 10 of 70 W, H100 70 of 700 W), and none computes below
it."""
BUSY_POWER_SECONDS = 10.0
BUSY_PERCENT = 50.0
ENERGY_RATIO = (0.5, 2.0)
"""Energy counted over power summed up, in half a minute. Published readings differ by 5 to 20 %, and by 65 %
where pulses meet the sensor's own period (arXiv 2312.02741)."""
ENERGY_RATIO_WHOLE = (0.65, 1.55)
"""The same over the whole time."""
ENERGY_BLOCK = 30.0
MARGIN_SPREAD = 15.0
"""degC by which temperature and what is left of it may add up to different sums: the margin is that of the
hottest spot, the temperature an average."""
IDLE_USE_SHARE = 0.3
"""Of what lies between idle and the power limit: a card that draws so much more than idle does something."""


def unmoved(view: View) -> Iterator[tuple[str, Doubt]]:
    """A temperature that stays to the degree while the card's power rises or falls for good."""
    power = view.column("power")
    if power is None:
        return
    limit = view.number("power_limit_default") or view.number("power_limit") or float(np.nanmax(power))
    for name, share in SWING_SHARE.items():
        column = view.column(name)
        if column is None:
            continue
        starts, ends = equal_bounds(column)
        long = (
            view.fast.times[ends - 1] - view.fast.times[starts] >= 4 * SWING_BLOCK
        )  # two levels of two blocks
        for begin, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
            low, high = _levels(view.fast.times[begin:end], power[begin:end])
            if high - low >= share * limit:
                yield (
                    name,
                    Doubt(
                        rule="unmoved",
                        start=float(view.fast.times[begin]),
                        end=float(view.fast.times[end - 1]),
                        said=f"{name} stayed at {column[begin]:g} {unit_of(name)} from "
                        f"{view.fast.times[begin]:.1f} s to {view.fast.times[end - 1]:.1f} s while "
                        f"power was between {low:.0f} and {high:.0f} W",
                    ),
                )
                break


def _levels(times: Numbers, power: Numbers) -> tuple[float, float]:
    """The lowest and the highest power that was held for two blocks."""
    block = ((times - times[0]) // SWING_BLOCK).astype(int)
    begins = np.concatenate(([0], np.flatnonzero(np.diff(block)) + 1))
    numbers = block[begins]
    there = ~np.isnan(power)
    counts = np.add.reduceat(there, begins, dtype=np.int64)
    sums = np.add.reduceat(np.where(there, power, 0.0), begins)
    # The last block is left out: it is hardly ever a whole one.
    levels = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)[:-1]
    beside = np.diff(numbers[:-1]) == 1
    lows, highs = np.maximum(levels[1:], levels[:-1])[beside], np.minimum(levels[1:], levels[:-1])[beside]
    if not len(lows) or bool(np.isnan(lows).all()):
        return 0.0, 0.0
    return float(np.nanmin(lows)), float(np.nanmax(highs))


def weak(view: View) -> Iterator[tuple[str, Doubt]]:
    """Less power than the card needs to idle, while it says that it computes."""
    power, limit = view.column("power"), view.number("power_limit_default") or view.number("power_limit")
    if power is None or limit is None or view.column("util_gpu") is None:
        return
    weak: Mask = view.busy(BUSY_PERCENT) & (power < BUSY_POWER_SHARE * limit)
    seconds = float(view.weights[weak].sum())
    if seconds >= BUSY_POWER_SECONDS:
        places = np.flatnonzero(weak)
        yield (
            "power",
            Doubt(
                rule="weak",
                start=float(view.fast.times[places[0]]),
                end=float(view.fast.times[places[-1]]),
                said=f"power read {np.median(power[weak]):.1f} W for {seconds:.1f} s from "
                f"{view.fast.times[places[0]]:.1f} s "
                f"while the GPU computed; no card of {limit:.0f} W computes with less than "
                f"{BUSY_POWER_SHARE * limit:.0f} W",
            ),
        )


def unused(view: View) -> Iterator[tuple[str, Doubt]]:
    """No use at all, while the power says that the card works."""
    power, used = view.column("power"), view.column("util_gpu")
    limit = view.number("power_limit_default") or view.number("power_limit")
    if power is None or used is None or limit is None:
        return
    idle = float(np.nanpercentile(power, 1))
    works: Mask = (view.weights > 0) & (used <= 0) & (power > idle + IDLE_USE_SHARE * max(limit - idle, 0.0))
    video = [
        c for name in ("util_encoder", "util_decoder", "util_memory") if (c := view.column(name)) is not None
    ]
    for column in video:
        works &= ~(column > 0)
    longest = (
        max((float(view.weights[b:e].sum()), b, e) for b, e in runs(works)) if works.any() else (0.0, 0, 0)
    )
    seconds, begin, end = longest
    if seconds >= BUSY_POWER_SECONDS:
        yield (
            "util_gpu",
            Doubt(
                rule="unused",
                start=float(view.fast.times[begin]),
                end=float(view.fast.times[end - 1]),
                said=f"util_gpu read 0 % for {seconds:.1f} s from {view.fast.times[begin]:.1f} s while the "
                "card drew "
                f"{np.nanmedian(power[begin:end]):.0f} W (idle: {idle:.0f} W)",
            ),
        )


def unequal(view: View) -> Iterator[tuple[str, Doubt]]:
    """Energy that does not add up from power, in two half minutes one after the other or in all."""
    power, energy = view.column("power"), view.column("energy")
    if power is None or energy is None:
        return
    mean = (power[1:] + power[:-1]) / 2.0
    steps = np.diff(energy)
    usable = ~np.isnan(mean) & ~np.isnan(steps) & (view.lasts[:-1] > 0)
    lasted = view.lasts[:-1][usable]
    summed, counted, times = mean[usable] * lasted, steps[usable].clip(min=0.0), view.fast.times[:-1][usable]
    if float(lasted.sum()) < ENERGY_BLOCK:
        return
    block = ((times - times[0]) // ENERGY_BLOCK).astype(int)
    full = np.bincount(block, lasted) >= 0.8 * ENERGY_BLOCK
    by_power = np.bincount(block, summed).astype(np.float64)
    by_energy = np.bincount(block, counted).astype(np.float64)
    wrong = full & ~_agree(by_energy, by_power, ENERGY_RATIO)
    twice = np.flatnonzero(wrong[1:] & wrong[:-1])
    whole = not bool(_agree(counted.sum(), summed.sum(), ENERGY_RATIO_WHOLE))
    if not len(twice) and not whole:
        return
    if len(twice):
        begin = float(times[0] + ENERGY_BLOCK * twice[0])
        end = begin + 2 * ENERGY_BLOCK
        joules, watts = (
            by_energy[twice[0]] + by_energy[twice[0] + 1],
            by_power[twice[0]] + by_power[twice[0] + 1],
        )
    else:
        begin, end, joules, watts = float(times[0]), float(times[-1]), counted.sum(), summed.sum()
    said = (
        f"the energy counter grew by {joules:.0f} J from {begin:.1f} s to {end:.1f} s, and power readings "
        "add up to "
        f"{watts:.0f} J"
    )
    for name in ("energy", "power"):
        yield name, Doubt(rule="unequal", start=begin, end=end, said=said)


def _agree(one: Numbers | float, other: Numbers | float, bounds: tuple[float, float]) -> Mask:
    low, high = bounds
    found: Mask = (np.asarray(one) >= low * np.asarray(other)) & (np.asarray(one) <= high * np.asarray(other))
    return found


def contrary(view: View) -> Iterator[tuple[str, Doubt]]:
    """Temperature and what is left of it add up to the card's limit, whatever it does."""
    core, margin = view.column("temperature"), view.column("temperature_margin")
    if core is None or margin is None or bool((np.nan_to_num(margin) <= 0).all()):
        return
    total = core + margin
    apart: Mask = np.abs(total - np.nanmedian(total)) > MARGIN_SPREAD
    seconds = float(view.lasts[apart].sum())
    if seconds >= 10 * IMPOSSIBLE_SECONDS:
        place = int(np.flatnonzero(apart)[0])
        for name in ("temperature", "temperature_margin"):
            yield (
                name,
                Doubt(
                    rule="contrary",
                    start=float(view.fast.times[place]),
                    end=float(view.fast.times[np.flatnonzero(apart)[-1]]),
                    said=f"temperature {core[place]:g} degC and margin {margin[place]:g} degC at "
                    f"{view.fast.times[place]:.1f} s "
                    f"add up to {total[place]:g}, and to {np.nanmedian(total):g} most of the time",
                ),
            )
