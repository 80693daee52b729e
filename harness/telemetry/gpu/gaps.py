"""What part of the time under load is covered by samples: the rest is a gap, and stays one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from harness.model.evidence import WorkloadResult
from harness.model.telemetry import Gap, LoadWindow
from harness.telemetry.gpu.samples import Numbers

Times: TypeAlias = "Sequence[float] | Numbers"
Span = tuple[float, float]
"""Begin and end, in seconds since boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """A load, as far as samples saw it. ``covered`` and the gaps add up to ``load``."""

    load: float
    covered: float
    gaps: tuple[Gap, ...]


def windows(results: Iterable[WorkloadResult]) -> tuple[LoadWindow, ...]:
    """When loads ran, of those whose begin and end are known; ``ended`` may follow from ``seconds``."""
    found = []
    for result in results:
        if result.started is None:
            continue
        end = result.ended
        if end is None and result.seconds is not None:
            end = result.started + result.seconds
        if end is not None and end > result.started:
            found.append(LoadWindow(workload=result.workload, key=result.key, start=result.started, end=end))
    return tuple(found)


def union(loads: Iterable[LoadWindow]) -> tuple[Span, ...]:
    """The time under load: the windows joined where they touch or overlap, in order."""
    spans: list[Span] = []
    for start, end in sorted((w.start, w.end) for w in loads if w.end > w.start):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((start, end))
    return tuple(spans)


def coverage(times: Times, load: Sequence[Span], max_gap: float) -> Coverage:
    """``times`` in ascending order. A sample covers the time to the next one if that is at most ``max_gap``
    later, and nothing otherwise: nothing is interpolated, and the last sample covers nothing."""
    gaps: list[Gap] = []
    covered = total = 0.0
    runs = _runs(times, max_gap)
    ends = [end for _, end in runs]
    for start, end in load:
        total += end - start
        here = start
        for seen_from, seen_to in runs[bisect_right(ends, start) :]:
            if seen_from >= end:
                break
            if seen_from > here:
                gaps.append(Gap(start=here, end=seen_from))
            covered += min(seen_to, end) - max(here, seen_from)
            here = min(seen_to, end)
        if here < end:
            gaps.append(Gap(start=here, end=end))
    return Coverage(load=total, covered=covered, gaps=tuple(gaps))


def silences(times: Times, first: float, last: float, most: float) -> tuple[float, tuple[Gap, ...]]:
    """The longest time without a sample that touches ``first`` to ``last``, and all of more than ``most``
    seconds.

    In full, also where a load began or ended meanwhile: of a silence that is cut at loads, no part may be
    long.
    """
    import numpy as np  # noqa: PLC0415

    at = np.asarray(times, dtype=np.float64)
    at = at[max(0, int(np.searchsorted(at, first, "right")) - 1) : int(np.searchsorted(at, last, "left")) + 1]
    head = [] if len(at) and at[0] <= first else [first]
    tail = [] if len(at) and at[-1] >= last else [last]
    at = np.concatenate((head, at, tail))
    lengths = np.diff(at)
    long = np.flatnonzero(lengths > most)
    longest = float(lengths.max()) if len(lengths) else 0.0
    return longest, tuple(Gap(start=float(at[place]), end=float(at[place + 1])) for place in long)


def _runs(times: Times, max_gap: float) -> list[Span]:
    """Stretches of samples within ``max_gap`` of each other; each has a length."""
    import numpy as np  # noqa: PLC0415

    at = np.asarray(times, dtype=np.float64)
    if len(at) < 2:
        return []
    breaks = np.flatnonzero(np.diff(at) > max_gap)
    starts = at[np.concatenate(([0], breaks + 1))].tolist()
    ends = at[np.concatenate((breaks, [len(at) - 1]))].tolist()
    return [(start, end) for start, end in zip(starts, ends, strict=True) if end > start]


def under_load(times: Times, load: Sequence[Span], max_gap: float) -> Numbers:
    """For each sample the seconds under load from it to the next one; -1 where those two are no stretch."""
    import numpy as np  # noqa: PLC0415

    at = np.asarray(times, dtype=np.float64)
    found = np.full(len(at), -1.0)
    if len(at) > 1:
        steps = np.diff(at)
        found[:-1] = np.where(steps > max_gap, -1.0, np.clip(np.diff(load_before(at, load)), 0.0, steps))
    return found


def load_before(times: Times, load: Sequence[Span]) -> Numbers:
    """Seconds of load before each of these moments. ``load`` in order, without overlaps."""
    import numpy as np  # noqa: PLC0415

    at = np.asarray(times, dtype=np.float64)
    if not load:
        return np.zeros(len(at))
    edges = [moment for span in load for moment in span]
    lengths = np.cumsum([end - start for start, end in load])
    sums = [0.0, *(value for length in lengths.tolist() for value in (length, length))][:-1]
    return np.asarray(np.interp(at, edges, sums), dtype=np.float64)
