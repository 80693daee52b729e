"""Parts of loads as judges of work go through them, and what they find."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.model.outcome import Action
from harness.model.telemetry import Slice
from harness.workloads.registry import specs

COMPUTING = tuple(one.name for one in specs() if one.keeps_gpus_busy)
"""Loads that keep the GPU's processors busy. The others use copy engines and codecs, which ``util_gpu`` does
not count, or the host."""
LEAST_SECONDS = 5.0
"""Less than this in all is a moment, not a state."""
FIRST_SECONDS = 300.0
"""What a card did in so many seconds from its first part on is the measure of what it does later."""
FREE_TIME = 0.05
"""Share of a part's samples from which their median says something."""
FELL_SHARE = 0.85
"""Of its first minutes' clock or rate, with nothing said to hold it back: steps of a clock are 1 % and a hot
card loses a few (SC'22, arXiv 2208.11035: 8 % between cards of one model)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement."""

    said: str
    remedy: str
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One figure through the parts of the loads."""

    parts: tuple[tuple[Slice, float], ...]

    @property
    def first(self) -> float | None:
        """The median over its first minutes."""
        if not self.parts:
            return None
        until = self.parts[0][0].start + FIRST_SECONDS
        early = [value for part, value in self.parts if part.start < until]
        # A clock that falls within the first minutes already must not be its own measure.
        return max(statistics.median(early), self.parts[0][1])

    def below(self, least: float | None) -> tuple[float, float, float, float] | None:
        """Begin, end, seconds and lowest value of the parts below that; None when they are but a moment."""
        low = [(part, value) for part, value in self.parts if least is not None and value < least]
        seconds = sum(length(part) for part, _ in low)
        if seconds < LEAST_SECONDS:
            return None
        return low[0][0].start, low[-1][0].end, seconds, min(value for _, value in low)


def track(parts: Sequence[Slice], figure: Callable[[Slice], float | None]) -> Track:
    """A figure of these parts, of those that have it."""
    known = ((part, figure(part)) for part in parts)
    return Track(parts=tuple((part, value) for part, value in known if value is not None))


def length(part: Slice) -> float:
    """Seconds."""
    return part.end - part.start


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
