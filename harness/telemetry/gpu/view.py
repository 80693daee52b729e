"""The samples of one GPU beside the loads that ran: what summaries, slices and doubts are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.telemetry.gpu.gaps import Span, under_load
from harness.telemetry.gpu.samples import Numbers, Read

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]

BUSY_PERCENT = 10.0
"""``util_gpu`` from which a GPU computes: it is the share of a second in which a kernel ran, and what a
desktop or a monitor leaves of it stays below that."""
SETTLED = (2.0, 1.0)
"""Seconds after a GPU began to compute, and before it stopped, that say nothing of its states: clocks and
link follow the load within a second, and use is an average of up to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One GPU. Columns are NaN where nothing was read; a column that the card does not have is not there."""

    fast: Read
    slow: Read
    spans: tuple[Span, ...]
    """The time under load, in order, without overlaps."""
    longest: float
    """Seconds between two samples beyond which nothing is known of the time between them."""
    properties: Mapping[str, float | str | bool | None]
    weights: Numbers = field(init=False)
    """For each fast sample the seconds under load that it stands for; -1: none, a gap follows."""
    lasts: Numbers = field(init=False)
    """For each fast sample the seconds that it stands for, under load or not; 0 where a gap follows."""
    offered: Mapping[str, Numbers] = field(init=False)
    """Fast series of which at least one value was read."""

    def __post_init__(self) -> None:
        given = {
            name: np.ascontiguousarray(column)
            for name, column in self.fast.columns.items()
            if not np.isnan(column).all()
        }
        object.__setattr__(self, "offered", given)
        object.__setattr__(self, "weights", under_load(self.fast.times, self.spans, self.longest))
        steps = np.append(np.diff(self.fast.times), 0.0)[: len(self.fast.times)]
        object.__setattr__(self, "lasts", np.where(steps > self.longest, 0.0, steps))

    def column(self, name: str) -> Numbers | None:
        """A fast series; None where the card does not offer it, or gave not one value."""
        return self.offered.get(name)

    def number(self, name: str) -> float | None:
        """A property that is a number above zero."""
        value = self.properties.get(name)
        return None if value is None or isinstance(value, str | bool) or value <= 0 else float(value)

    @property
    def first(self) -> float:
        """The first load's begin; infinite without loads."""
        return self.spans[0][0] if self.spans else np.inf

    @property
    def last(self) -> float:
        """The last load's end."""
        return self.spans[-1][1] if self.spans else -np.inf

    def busy(self, percent: float = BUSY_PERCENT) -> Mask:
        """Fast samples under load in which the GPU computed; where it does not tell its use, all under
        load."""
        loaded: Mask = self.weights > 0
        used = self.column("util_gpu")
        return loaded if used is None else loaded & (used >= percent)

    def settled(self) -> Mask:
        """As ``busy``, without the moments after it began and before it stopped."""
        found = np.zeros(len(self.fast.times), dtype=np.bool_)
        times = self.fast.times
        for begin, end in runs(self.busy()):
            inner = (times[begin:end] >= times[begin] + SETTLED[0]) & (
                times[begin:end] <= times[end - 1] - SETTLED[1]
            )
            found[begin:end] = inner
        return found


def runs(mask: Mask) -> Iterator[tuple[int, int]]:
    """Stretches of a mask: index of the first sample, and one beyond the last."""
    padded = np.concatenate(([False], mask, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def equal_bounds(column: Numbers, mask: Mask | None = None) -> tuple[Places, Places]:
    """Stretches of one value, likewise; neither NaN nor what is not in the mask is part of any."""
    if not len(column):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    there = ~np.isnan(column) if mask is None else mask & ~np.isnan(column)
    breaks = np.flatnonzero((column[1:] != column[:-1]) | (there[1:] != there[:-1])) + 1
    starts = np.concatenate(([0], breaks))
    ends = np.concatenate((breaks, [len(column)]))
    keep = there[starts]
    return starts[keep], ends[keep]


def equal_runs(column: Numbers, mask: Mask | None = None) -> Iterator[tuple[int, int]]:
    """The same, one by one."""
    starts, ends = equal_bounds(column, mask)
    yield from zip(starts.tolist(), ends.tolist(), strict=True)


def median(column: Numbers | None, mask: Mask | slice) -> float | None:
    """Of what was read there; None where nothing was."""
    if column is None:
        return None
    values = column[mask]
    values = np.sort(values[~np.isnan(values)])  # np.median says the same and takes ten times as long
    middle, odd = divmod(len(values), 2)
    if not len(values):
        return None
    return float(values[middle] if odd else (values[middle - 1] + values[middle]) / 2)


def increments(column: Numbers, times: Numbers) -> tuple[Numbers, Numbers]:
    """A counter's steps from one reading to the next, and when the later one was read."""
    there = ~np.isnan(column)
    return np.diff(column[there]), times[there][1:]


def within(times: Numbers, spans: Sequence[Span]) -> Mask:
    """Moments within these spans, their ends included."""
    found = np.zeros(len(times), dtype=np.bool_)
    for start, end in spans:
        found[np.searchsorted(times, start, "left") : np.searchsorted(times, end, "right")] = True
    return found
