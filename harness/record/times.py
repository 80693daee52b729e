"""When things happened: each event has the controller's wall clock and its steady one; the two must agree.

Wall clocks are set by people and by time servers; the steady clock (``CLOCK_BOOTTIME``) only runs. So
lengths and order come from the steady one, and a wall clock that was set in the middle of a run is told: a
waiver or a verdict that expires must not profit from it.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, replace

from harness.record.events import Event

SLACK_SECONDS = 60.0
"""How far the two clocks may drift apart within one attempt. Time servers slew both alike: only a step tells
them apart. A first step after boot of some seconds is usual, and disturbs nothing that we decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What the clocks said from the first event of an attempt on."""

    start: dt.datetime | None
    """Wall time of the first event; None when it is not a moment."""
    now: dt.datetime | None
    """Wall time of the newest event, as the steady clock has it where the two disagree."""
    latest: dt.datetime | None
    """The latest moment that any clock named."""
    steady: tuple[float, float]
    """The steady clock at the first and at the newest event."""
    fault: str = ""
    """The first disagreement, in words."""

    @property
    def seconds(self) -> float:
        """From the first event to the newest."""
        return max(0.0, self.steady[1] - self.steady[0])


def begun(event: Event, before: Times | None = None) -> Times:
    """The times of an attempt whose first event this is; ``before`` are those of the attempt before it."""
    moment = moment_of(event.at)
    steady = event.monotonic if math.isfinite(event.monotonic) else 0.0
    fault = ""
    if moment is None:
        fault = f"event {event.seq} has no time"
    elif before is not None and before.latest is not None and _behind(moment, before.latest):
        fault = (
            f"the controller's clock was set back between two attempts: event {event.seq} says "
            f"{written(moment)}, but an earlier event says {written(before.latest)}"
        )
    start = moment
    latest = _later(moment, None if before is None else before.latest)
    if fault and before is not None:
        start = before.now  # no attempt begins before the one before it has ended
    return Times(start=start, now=start, latest=latest, steady=(steady, steady), fault=fault)


def after(times: Times, event: Event) -> Times:
    """The times with one event more."""
    moment, first = moment_of(event.at), times.steady[0]
    steady = event.monotonic if math.isfinite(event.monotonic) else times.steady[1]
    due = plus(times.start, steady - first)
    fault = ""
    if moment is None or not math.isfinite(event.monotonic) or (due is None and times.start is not None):
        fault = f"event {event.seq} has no time"
    elif steady < times.steady[1] - SLACK_SECONDS:
        fault = f"event {event.seq} is older than the event before it, by the controller's monotonic clock"
    elif due is not None and abs((moment - due).total_seconds()) > SLACK_SECONDS:
        fault = (
            f"the controller's clock was set during the run: event {event.seq} says {written(moment)}, "
            f"but by the monotonic clock it was {written(due)}"
        )
    return replace(
        times,
        now=due if fault else moment,
        latest=_later(_later(times.latest, moment), due),
        steady=(first, steady),
        fault=times.fault or fault,
    )


def moment_of(text: str) -> dt.datetime | None:
    """A moment in UTC (ISO 8601, with its offset); None for any other text."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.astimezone(dt.UTC) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def written(moment: dt.datetime) -> str:
    """As ``Clock.now`` writes it."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _behind(moment: dt.datetime, other: dt.datetime) -> bool:
    return (other - moment).total_seconds() > SLACK_SECONDS


def _later(one: dt.datetime | None, other: dt.datetime | None) -> dt.datetime | None:
    known = [moment for moment in (one, other) if moment is not None]
    return max(known, default=None)


def plus(moment: dt.datetime | None, seconds: float) -> dt.datetime | None:
    """The moment so many seconds later; None where there is none, or no calendar has it."""
    try:
        return None if moment is None else moment + dt.timedelta(seconds=seconds)
    except OverflowError:
        return None
