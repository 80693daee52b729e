"""What part of the time under load is covered by samples: the rest is a gap, and stays one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.model.evidence import WorkloadResult
from harness.model.telemetry import Gap, LoadWindow

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


def coverage(times: Sequence[float], load: Sequence[Span], max_gap: float) -> Coverage:
    """``times`` in ascending order. A sample covers the time to the next one if that is at most ``max_gap``
    later, and nothing otherwise: nothing is interpolated, and the last sample covers nothing."""
    gaps: list[Gap] = []
    covered = total = 0.0
    for start, end in load:
        total += end - start
        here = start
        for seen_from, seen_to in _seen(times, start, end, max_gap):
            if seen_from > here:
                gaps.append(Gap(start=here, end=seen_from))
            covered += seen_to - max(here, seen_from)
            here = seen_to
        if here < end:
            gaps.append(Gap(start=here, end=end))
    return Coverage(load=total, covered=covered, gaps=tuple(gaps))


def _seen(times: Sequence[float], start: float, end: float, max_gap: float) -> list[Span]:
    """Stretches of samples within ``max_gap`` of each other, cut to the window; each has a length."""
    first = max(0, bisect_right(times, start) - 1)
    last = min(len(times), bisect_left(times, end) + 1)
    found: list[Span] = []
    began: float | None = None
    for place in range(first, last - 1):
        here, following = times[place], times[place + 1]
        if following - here > max_gap:
            began = None
            continue
        if began is None:
            began = max(start, here)
            found.append((began, began))
        found[-1] = (began, max(found[-1][1], min(end, following)))
    return [span for span in found if span[1] > span[0]]


def under_load(times: Sequence[float], load: Sequence[Span], max_gap: float) -> list[float]:
    """For each sample the seconds under load from it to the next one; -1 where those two are no stretch."""
    found = [-1.0] * len(times)
    due = 0
    for place in range(len(times) - 1):
        here, following = times[place], times[place + 1]
        while due < len(load) and load[due][1] <= here:
            due += 1
        if following - here > max_gap:
            continue
        seconds, at = 0.0, due
        while at < len(load) and load[at][0] < following:
            seconds += min(following, load[at][1]) - max(here, load[at][0])
            at += 1
        found[place] = seconds
    return found
