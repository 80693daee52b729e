"""Readings that contradict each other (``harness.telemetry.gpu.plausible``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.model.telemetry import Doubt
from harness.telemetry.gpu.plausible_alone import IMPOSSIBLE_SECONDS
from harness.telemetry.gpu.samples import Numbers
from harness.telemetry.gpu.series import REASONS
from harness.telemetry.gpu.view import Mask, View, runs

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
ENERGY_SPREAD, ENERGY_DRIFT = 0.1, 1.25
"""Where power is steady within that share of it, no pulse meets the sensor's period, and the ratio is that of
the two sensors' errors: what they differ by is a part that does not change (arXiv 2312.02741)."""
ENERGY_LOADED = 0.3
"""Of the power limit: below, a few W by which a sensor is always off would count."""
CLAIMED_PERCENT, CLAIMED_SECONDS = 90.0, 5.0
"""Use that is no average with idle time any more, and for how long it may be told of an idle GPU: use is
an average of at most a second."""
EMPTY_BYTES, EMPTY_SECONDS = 1 << 20, 10.0
"""A kernel that runs has a context in the card's memory, of hundreds of MB; less than this is none."""
MARGIN_SPREAD = 15.0
"""degC by which temperature and what is left of it may add up to different sums: the margin is that of the
hottest spot, the temperature an average."""
IDLE_USE_SHARE = 0.3
"""Of what lies between idle and the power limit: a card that draws so much more than idle does something."""
_IDLE = next(bit for bit, name in REASONS.items() if name == "idle")
"""By its definition nothing runs on the GPU, and its clocks go down to idle."""


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
                f"{view.fast.times[places[0]]:.1f} s while the GPU computed; no card of {limit:.0f} W "
                f"computes with less than {BUSY_POWER_SHARE * limit:.0f} W",
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
                f"card drew {np.nanmedian(power[begin:end]):.0f} W (idle: {idle:.0f} W)",
            ),
        )


def unequal(view: View) -> Iterator[tuple[str, Doubt]]:
    """Energy that does not add up from power, in two half minutes one after the other or in all."""
    found = _energy(view)
    if found is None:
        return
    wrong = found.full & ~_agree(found.counted, found.summed, ENERGY_RATIO)
    twice = np.flatnonzero(wrong[1:] & wrong[:-1])
    whole = not bool(_agree(found.counted.sum(), found.summed.sum(), ENERGY_RATIO_WHOLE))
    if not len(twice) and not whole:
        return
    part = slice(int(twice[0]), int(twice[0]) + 2) if len(twice) else slice(0, len(found.full))
    begin, end = found.start + ENERGY_BLOCK * part.start, found.start + ENERGY_BLOCK * part.stop
    said = (
        f"the energy counter grew by {found.counted[part].sum():.0f} J from {begin:.1f} s to {end:.1f} s, "
        f"and power readings add up to {found.summed[part].sum():.0f} J"
    )
    for name in ("energy", "power"):
        yield name, Doubt(rule="unequal", start=begin, end=end, said=said)


def drifted(view: View) -> Iterator[tuple[str, Doubt]]:
    """Energy and power whose ratio changes: whatever it is for a card, it stays."""
    found = _energy(view)
    if found is None:
        return
    limit = view.number("power_limit_default") or view.number("power_limit") or float(found.watts.max())
    known = found.full & (found.spread <= ENERGY_SPREAD) & (found.watts >= ENERGY_LOADED * limit)
    ratio = np.where(known, found.counted / np.where(known, found.summed, 1.0), np.nan)
    pairs = (ratio[1:] + ratio[:-1]) / 2.0
    if bool(np.isnan(pairs).all()):
        return
    low, high = int(np.nanargmin(pairs)), int(np.nanargmax(pairs))
    if pairs[high] < ENERGY_DRIFT * pairs[low]:
        return
    first, then = sorted((low, high))
    at = [found.start + ENERGY_BLOCK * place for place in (first, then)]
    said = (
        f"energy counted over power summed up was {pairs[first]:.2f} at {at[0]:.1f} s and {pairs[then]:.2f} "
        f"at {at[1]:.1f} s, under steady power: one of the two sensors drifted"
    )
    for name in ("energy", "power"):
        yield name, Doubt(rule="drifted", start=at[0], end=at[1] + 2 * ENERGY_BLOCK, said=said)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Energy:
    """Half minutes, from ``start`` on: what the counter grew by, and what power adds up to."""

    start: float
    full: Mask
    """Which of them were seen whole."""
    counted: Numbers
    summed: Numbers
    watts: Numbers
    """Mean of the power readings."""
    spread: Numbers
    """Standard deviation of the power readings over their mean."""


def _energy(view: View) -> _Energy | None:
    """None where a card does not tell both, or was seen for less than a half minute."""
    power, energy = view.column("power"), view.column("energy")
    if power is None or energy is None:
        return None
    mean = (power[1:] + power[:-1]) / 2.0
    steps = np.diff(energy)
    usable = ~np.isnan(mean) & ~np.isnan(steps) & (view.lasts[:-1] > 0)
    lasted = view.lasts[:-1][usable]
    if float(lasted.sum()) < ENERGY_BLOCK:
        return None
    watts, times = mean[usable], view.fast.times[:-1][usable]
    block = ((times - times[0]) // ENERGY_BLOCK).astype(int)
    seconds = np.maximum(np.bincount(block, lasted), 1e-9)
    summed = np.bincount(block, watts * lasted)
    average = np.maximum(summed / seconds, 1e-9)
    variance = np.bincount(block, (watts - average[block]) ** 2 * lasted) / seconds
    return _Energy(
        start=float(times[0]),
        full=seconds >= 0.8 * ENERGY_BLOCK,
        counted=np.bincount(block, steps[usable].clip(min=0.0)).astype(np.float64),
        summed=summed.astype(np.float64),
        watts=average,
        spread=np.sqrt(variance) / average,
    )


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
                    f"{view.fast.times[place]:.1f} s add up to {total[place]:g}, and to "
                    f"{np.nanmedian(total):g} most of the time",
                ),
            )


def claimed(view: View) -> Iterator[tuple[str, Doubt]]:
    """Full use while the driver says that nothing runs."""
    used, reasons = view.column("util_gpu"), view.column("reasons")
    if used is None or reasons is None:
        return
    idle = np.nan_to_num(reasons).astype(np.int64) & _IDLE != 0
    both: Mask = idle & (used >= CLAIMED_PERCENT)
    seconds = float(view.lasts[both].sum())
    if seconds >= CLAIMED_SECONDS:
        places = np.flatnonzero(both)
        begin, end = (float(view.fast.times[place]) for place in (places[0], places[-1]))
        yield (
            "util_gpu",
            Doubt(
                rule="claimed",
                start=begin,
                end=end,
                said=f"util_gpu read {used[places[0]]:g} % for {seconds:.1f} s from {begin:.1f} s while the "
                "clock's reason was that nothing ran on the GPU",
            ),
        )


def empty(view: View) -> Iterator[tuple[str, Doubt]]:
    """No memory in use while kernels run."""
    held, used = view.slow.columns.get("memory_used"), view.column("util_gpu")
    if held is None or used is None or len(view.slow.times) < 2:
        return
    places = np.searchsorted(view.fast.times, view.slow.times).clip(max=len(view.fast.times) - 1)
    lasts = np.append(np.diff(view.slow.times), 0.0).clip(max=view.longest)
    both: Mask = view.busy(BUSY_PERCENT)[places] & (held < EMPTY_BYTES)
    seconds = float(lasts[both].sum())
    if seconds >= EMPTY_SECONDS:
        first, last = np.flatnonzero(both)[[0, -1]]
        begin, end = float(view.slow.times[first]), float(view.slow.times[last])
        yield (
            "memory_used",
            Doubt(
                rule="empty",
                start=begin,
                end=end,
                said=f"memory_used read {held[first]:g} B at {begin:.1f} s, and so little for "
                f"{seconds:.0f} s in which kernels ran",
            ),
        )
