"""Each load in parts, so that work and effort can be laid beside each other without the samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np

from harness.model.telemetry import LoadWindow, Slice
from harness.telemetry.gpu.samples import Numbers
from harness.telemetry.gpu.series import REASONS
from harness.telemetry.gpu.view import Mask, View, median

LEAST_SECONDS = 10.0
"""Length of a part, so that its medians are of a hundred samples; a shorter load is one part."""
MOST_OF_A_LOAD = 30
MOST = 400
"""Parts in all: what run.json can carry for each of many GPUs. Loads beyond that share what is left."""
COMPUTES = 50.0
"""``util_gpu`` from which clocks are those of a card that computes."""
IDLES = 5.0
"""``util_gpu`` below which a card does nothing."""
_BIT = {name: bit for bit, name in REASONS.items()}
_SETTING = _BIT["app_clocks"]
_CAP = _BIT["sw_power_cap"]


def slices(view: View, loads: Iterable[LoadWindow]) -> tuple[Slice, ...]:
    """All loads, in order of time; each is cut into equal parts."""
    windows = sorted((w for w in loads if w.end > w.start), key=lambda w: (w.start, w.end))
    each = max(1, min(MOST_OF_A_LOAD, MOST // max(1, len(windows))))
    found: list[Slice] = []
    computing = view.busy(COMPUTES)
    for window in windows[:MOST]:
        count = int(np.clip((window.end - window.start) // LEAST_SECONDS, 1, each))
        edges = np.linspace(window.start, window.end, count + 1)
        found += [
            _slice(view, window, start, end, computing) for start, end in itertools.pairwise(edges.tolist())
        ]
    return tuple(found)


def _slice(view: View, window: LoadWindow, start: float, end: float, computing: Mask) -> Slice:
    begin, stop = np.searchsorted(view.fast.times, (start, end)).tolist()
    part = slice(begin, stop)
    samples = stop - begin
    if not samples:
        return Slice(workload=window.workload, key=window.key, start=start, end=end)
    columns = {name: None if (c := view.column(name)) is None else c[part] for name in _READ}
    busy = computing[part]
    bits = columns["reasons"]
    known = np.zeros(samples, dtype=np.int64) if bits is None else np.nan_to_num(bits).astype(np.int64)
    free = busy & (known == 0) if bits is not None else np.zeros(samples, dtype=np.bool_)
    capped = known & _CAP != 0
    return Slice(
        workload=window.workload,
        key=window.key,
        start=round(start, 3),
        end=round(end, 3),
        samples=samples,
        util_gpu=median(columns["util_gpu"], slice(None)),
        util_gpu_max=_most(columns["util_gpu"]),
        power=median(columns["power"], slice(None)),
        power_max=_most(columns["power"]),
        clock_sm=median(columns["clock_sm"], slice(None)),
        temperature=median(columns["temperature"], slice(None)),
        busy=float(busy.mean()),
        clock_busy=median(columns["clock_sm"], busy),
        clock_memory=median(columns["clock_memory"], busy),
        free=float(free.mean()),
        clock_free=median(columns["clock_sm"], free),
        capped=float(capped.mean()),
        power_capped=median(columns["power"], capped),
        set_share=float((busy & (known & _SETTING != 0)).mean()),
        quiet=_quiet(view.fast.times[part], columns["util_gpu"], start, end),
    )


def _quiet(times: Numbers, used: Numbers | None, start: float, end: float) -> float | None:
    """Seconds from the last sample on in which the GPU did anything, or was not asked."""
    if used is None:
        return None
    last = np.flatnonzero(~(used < IDLES))
    return round(end - (float(times[last[-1]]) if len(last) else start), 3)


_READ = ("util_gpu", "power", "clock_sm", "clock_memory", "temperature", "reasons")


def _most(column: Numbers | None) -> float | None:
    if column is None or bool(np.isnan(column).all()):
        return None
    return float(np.nanmax(column))
