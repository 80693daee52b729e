"""A run as the attempts it was made of: side by side, so that no later one makes an earlier one forgotten.

An attempt is what one controller process did, from ``run.start`` or ``run.resumed`` on. Each has evidence of
its own. The whole of the run is taken from them by one rule (``_whole``): what was seen first stays the
measure for all that is compared with it, of each group of guests counts the last time it was tried, and what
is a list is one list. What an earlier attempt saw and the whole no longer shows is judged from
``Evidence.attempts`` (``harness.checks.attempts``).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from harness.errors import RecordError
from harness.model.evidence import Attempt, Engine, Evidence, GuestEvidence, StageError
from harness.model.telemetry import GuestTelemetry, HostTelemetry
from harness.record import times
from harness.record.assemble import RunInputs, at_start, demanded, guarded, run_inputs, with_event, with_guest
from harness.record.events import Event
from harness.record.kinds import Kind
from harness.record.times import Times
from harness.serial import from_data
from harness.telemetry.host.merged import merged

T = TypeVar("T")

MOST_ATTEMPTS = 1000
"""A run that was taken up so often is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """One attempt, as far as its events go."""

    evidence: Evidence
    times: Times
    version: str
    open: tuple[str, ...] = ()
    """Stages that began and did not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the events of a run say, up to the last one read."""

    inputs: RunInputs
    attempts: tuple[_Attempt, ...]

    @classmethod
    def of(cls, events: tuple[Event, ...]) -> History:
        """Raises RecordError when the first event is no ``run.start``, or one does not fit."""
        inputs = run_inputs(events)
        first = _Attempt(
            evidence=at_start(inputs, events[0].at),
            times=times.begun(events[0]),
            version=inputs.shakedown_version,
        )
        return cls(inputs=inputs, attempts=(first,)).after(events[1:])

    def after(self, events: Iterable[Event]) -> History:
        """With what further events say. Raises RecordError."""
        return functools.reduce(_after, events, self)

    @property
    def evidence(self) -> Evidence:
        """All of it, as of now."""
        whole = _whole(self.inputs, self.attempts)
        fault = next((s.times.fault for s in self.attempts if s.times.fault), "")
        return replace(whole, errors=(*whole.errors, _clock_error(fault))) if fault else whole

    @property
    def seen(self) -> tuple[Evidence, ...]:
        """What each attempt saw by itself."""
        return tuple(attempt.evidence for attempt in self.attempts)

    @property
    def ended_at(self) -> str:
        """When the run ended: its ``run.end``, or the last thing heard of it (UTC, ISO 8601)."""
        last = self.attempts[-1]
        return last.evidence.ended_at or _written(last.times.now)

    @property
    def latest(self) -> str:
        """The latest moment that its clocks named (UTC, ISO 8601): what had expired by then has expired."""
        return _written(self.attempts[-1].times.latest)


def assemble(events: tuple[Event, ...], *, torn: bool = False) -> Evidence:
    """All that the events say, as Evidence; ``torn`` tells that an unfinished last line was left out.

    Raises RecordError for an unknown kind, a value that does not fit, or a guest that was never requested.
    """
    return closed(History.of(events), torn=torn)


def closed(history: History, *, torn: bool = False) -> Evidence:
    """The evidence of a run that is over: without the ``run.end`` of its last attempt it was interrupted."""
    evidence = history.evidence
    ended = evidence.ended_at is not None and not torn
    return evidence if ended else replace(evidence, interrupted=True)


def _after(history: History, event: Event) -> History:
    *before, last = history.attempts
    if event.kind == Kind.RUN_RESUMED:
        if len(history.attempts) >= MOST_ATTEMPTS:
            raise RecordError(
                f"event {event.seq} begins attempt {MOST_ATTEMPTS + 1}: a run has at most {MOST_ATTEMPTS}"
            )
        return replace(history, attempts=(*history.attempts, _resumed(history, event)))
    if event.kind == Kind.RECOVERED:
        attempts = guarded(event, lambda: _recovered(history.attempts, event))
        return replace(history, attempts=attempts)
    evidence, now = with_event(last.evidence, event), last.times
    if event.kind not in (Kind.RECORD, Kind.END):
        # These two are written after the verdict, which must find the same times when it is given again.
        now = times.after(last.times, event)
    if event.kind == Kind.RUN_END:
        evidence = replace(evidence, ended_at=_written(now.now))
    last = replace(last, evidence=evidence, times=now, open=_open(last.open, event))
    return replace(history, attempts=(*before, last))


def _resumed(history: History, event: Event) -> _Attempt:
    before = history.attempts[-1]
    fresh = at_start(history.inputs, event.at)
    return _Attempt(
        evidence=replace(fresh, engine=before.evidence.engine, reference=before.evidence.reference),
        times=times.begun(event, before.times),
        version=str(event.data.get("shakedown_version", history.inputs.shakedown_version)),
    )


def _recovered(attempts: tuple[_Attempt, ...], event: Event) -> tuple[_Attempt, ...]:
    """What a killed attempt had seen and could not sum up, found by the one that took the run up again."""
    number = from_data(int, event.data["attempt"])
    if not 1 <= number < len(attempts):
        raise RecordError(
            f"event {event.seq} is about attempt {number}, but attempt {len(attempts)} is in progress"
        )
    then = attempts[number - 1]
    if "host_telemetry" in event.data:
        host = from_data(HostTelemetry, event.data["host_telemetry"])
        evidence = replace(then.evidence, host_telemetry=host)
    else:
        guest = from_data(GuestTelemetry, event.data["telemetry"])
        evidence = with_guest(then.evidence, guest.guest, telemetry=guest)
    changed = replace(then, evidence=evidence)
    return (*attempts[: number - 1], changed, *attempts[number:])


def _open(stages: tuple[str, ...], event: Event) -> tuple[str, ...]:
    name = str(event.data.get("stage", ""))
    if event.kind == Kind.STAGE_START:
        return (*stages, name)
    if event.kind == Kind.STAGE_END and name in stages:
        last = len(stages) - 1 - stages[::-1].index(name)
        return stages[:last] + stages[last + 1 :]
    return stages


# -- the whole -------------------------------------------------------------------------------------------


def _whole(inputs: RunInputs, attempts: tuple[_Attempt, ...]) -> Evidence:
    parts = tuple(attempt.evidence for attempt in attempts)
    if len(parts) == 1:
        return parts[0]
    first_seen = next((part for part in parts if part.facts is not None), parts[-1])
    places = _tried_last(demanded(inputs.profile, inputs.guests), parts)
    whole = replace(
        parts[0],
        ended_at=parts[-1].ended_at,
        interrupted=parts[-1].interrupted,
        engine=next((part.engine for part in reversed(parts) if part.engine != Engine()), Engine()),
        facts=first_seen.facts,
        facts_file=first_seen.facts_file,
        facts_after=parts[-1].facts_after,
        host_telemetry=_host_telemetry(parts, places),
        reference=next((part.reference for part in parts if part.reference is not None), None),
        system=_all(parts, lambda part: part.system),
        resets=_all(parts, lambda part: part.resets),
        guests=tuple(parts[place].guests[number] for number, place in enumerate(places.values())),
        errors=_all(parts, lambda part: part.errors),
        interventions=tuple(dict.fromkeys(_all(parts, lambda part: part.interventions))),
        notes=tuple(dict.fromkeys(_all(parts, lambda part: part.notes))),
        ledger=_all(parts, lambda part: part.ledger or ())
        if any(p.ledger is not None for p in parts)
        else None,
        asked=_all(parts, lambda part: part.asked),
        seconds=_seconds(parts),
    )
    return replace(whole, attempts=_attempts(attempts))


def _all(parts: tuple[Evidence, ...], field: Callable[[Evidence], tuple[T, ...]]) -> tuple[T, ...]:
    return tuple(itertools.chain.from_iterable(field(part) for part in parts))


def _seconds(parts: tuple[Evidence, ...]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part.seconds)
    return {name: round(sum(part.seconds.get(name, 0.0) for part in parts), 6) for name in names}


def _tried_last(blank: tuple[GuestEvidence, ...], parts: tuple[Evidence, ...]) -> dict[str, int]:
    """Guest to the place of the attempt that counts for it: the last that tried it or another of its group,
    since those of a group are judged as they were together. ``blank`` are the guests as demanded."""
    last = {
        asked.group or asked.name: place
        for place, part in enumerate(parts)
        for asked, guest in zip(blank, part.guests, strict=True)
        if guest != asked
    }
    return {guest.name: last.get(guest.group or guest.name, -1) for guest in blank}


def _host_telemetry(parts: tuple[Evidence, ...], places: dict[str, int]) -> HostTelemetry | None:
    """One watch over all attempts. Where a guest that counts ran without one, the watch says so."""
    seen = [part.host_telemetry for part in parts if part.host_telemetry is not None]
    if not seen:
        return None
    reached = {
        place
        for place, part in enumerate(parts)
        for g in part.guests
        if places[g.name] == place and g.reached
    }
    unwatched = [
        f"attempt {place + 1} has no record of its watch over the host"
        for place in sorted(reached)
        if parts[place].host_telemetry is None
    ]
    found = merged(seen)
    return replace(found, problems=(*found.problems, *unwatched))


def _attempts(attempts: tuple[_Attempt, ...]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(
            number=number,
            started_at=attempt.evidence.started_at,
            ended_at=attempt.evidence.ended_at or _written(attempt.times.now),
            seconds=round(attempt.times.seconds, 3),
            ended=_how(attempt, last=number == len(attempts)),
            shakedown_version=attempt.version,
            evidence=attempt.evidence,
        )
        for number, attempt in enumerate(attempts, start=1)
    )


def _how(attempt: _Attempt, *, last: bool) -> str:
    """How it ended, in words."""
    if attempt.evidence.ended_at is not None:
        if not last:
            return "its tests were done, but its controller ended before the verdict was written"
        return "interrupted" if attempt.evidence.interrupted else "completed"
    during = f" during {', '.join(dict.fromkeys(attempt.open))}" if attempt.open else ""
    return f"still running{during}" if last else f"its controller ended unexpectedly{during}"


def _clock_error(fault: str) -> StageError:
    return StageError(
        stage="clock",
        kind="ClockError",
        message=fault,
        remedy="synchronise the controller's clock with a time server, and run again: whether waivers had "
        "expired is not known",
    )


def _written(moment: datetime | None) -> str:
    return "" if moment is None else times.written(moment)
