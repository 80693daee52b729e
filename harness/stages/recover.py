"""What a killed attempt had watched: its files lie in the run directory, and nobody summed them up.

The run that is taken up again does, before it goes on: an error that the killed attempt saw in its last
minute is no less of one. Only files that its own events name are read (``Recorder.watch_begins``).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from harness.attach import attachment
from harness.descriptors import let_go
from harness.errors import ParseError, RecordError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.inventory import HostFile, Profile
from harness.model.kernel_codes import KernelCodes
from harness.model.placement import Moment
from harness.model.telemetry import GuestTelemetry, HostTelemetry
from harness.record.events import Event
from harness.record.judge import recorded_files
from harness.record.kinds import Kind
from harness.record.recorder import Recorder
from harness.regular import LONGEST_LINE, open_regular
from harness.stages.guest.provision import guest_place
from harness.stages.host.watch import read_watch
from harness.telemetry.gpu.gaps import windows
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.host.grounds import GuestWindow

_WRITERS_SECONDS = 15.0
"""A follower ends soon after its controller; over a connection that hangs, as soon as that is given up."""
_CUT = "the attempt was killed here"
_LATE_SECONDS = 30.0
"""So long after the watch was begun may the host's first sample come, over a slow connection."""


def recover(
    recorder: Recorder,
    events: tuple[Event, ...],
    *,
    seen: Sequence[Evidence],
    done: Collection[str],
    host: HostFile,
    profile: Profile,
    codes: KernelCodes,
) -> int:
    """Record what the attempts of ``events`` had watched and nobody summed up; returns of how many files.

    ``seen`` is what each of them saw, ``done`` the groups of guests that are not tried again. Raises
    RecordError.
    """
    known, found = recorded_files(events), 0
    for watch in _left(events):
        path = recorder.directory.file(watch.file)
        if not os.path.lexists(path):
            continue  # nothing had come over yet
        if watch.file not in known:  # else it was killed between adopting the file and summing it up
            if not let_go(path, _WRITERS_SECONDS):
                raise RecordError(
                    f"{path} is still being written by a process of the killed attempt",
                    remedy="the connection ends by itself within two minutes; then resume the run",
                )
            _cut_torn_line(path)
            recorder.adopt(path)
        evidence = seen[watch.attempt - 1]
        if watch.guest:
            guest = next((each for each in evidence.guests if each.name == watch.guest), None)
            if guest is None:
                raise RecordError(f"{watch.file} is of guest {watch.guest[:80]!r}, which was not requested")
            recorder.recovered(watch.attempt, _of_guest(path, watch.file, guest, profile, codes))
        else:
            telemetry = _of_host(
                path,
                watch.file,
                evidence=evidence,
                host=host,
                profile=profile,
                codes=codes,
                lasted=watch.lasted,
                done=done,
            )
            recorder.recovered(watch.attempt, telemetry)
        found += 1
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """A watch that was begun, and whose telemetry is not in the record."""

    attempt: int
    file: str
    guest: str
    """Empty for the watch over the host."""
    lasted: float
    """Seconds from its begin to the last that was heard of its attempt."""


def _left(events: Iterable[Event]) -> list[_Watch]:
    """Of all attempts: the one that should have summed up an earlier one's may have been killed over it."""
    attempt = 0
    begun: dict[str, tuple[int, Event]] = {}
    ends: dict[int, float] = {}
    for event in events:
        if event.kind in (Kind.RUN_START, Kind.RUN_RESUMED):
            attempt += 1
        elif event.kind == Kind.WATCH:
            begun[str(event.data.get("file"))] = (attempt, event)
        elif event.kind in (Kind.TELEMETRY, Kind.HOST_TELEMETRY, Kind.RECOVERED):
            told = event.data.get("telemetry") or event.data.get("host_telemetry") or {}
            begun.pop(str(told.get("spool")), None)
        ends[attempt] = event.monotonic
    return [
        _Watch(
            attempt=number,
            file=file,
            guest=str(event.data.get("guest")),
            lasted=ends[number] - event.monotonic,
        )
        for file, (number, event) in begun.items()
    ]


def _of_host(
    path: Path,
    file: str,
    *,
    evidence: Evidence,
    host: HostFile,
    profile: Profile,
    codes: KernelCodes,
    lasted: float,
    done: Collection[str],
) -> HostTelemetry:
    period = profile.telemetry.host_period_seconds
    nothing = HostTelemetry(started=None, ended=None, period_seconds=period, spool=file)
    facts = evidence.facts
    mode = attachment(profile.attach)
    chosen = mode.select(facts, host.placement.selector) if facts is not None else ()
    try:
        seen = read_watch(
            path,
            spec=profile.telemetry,
            facts=facts,
            gpus=tuple(device.address for device in chosen),
            windows=_windows(evidence, host),
            dedicated=_dedicated(evidence, host),
            codes=codes,
            bare=not mode.in_guests,
            sharing=host.allow_sharing,
        )
    except (ParseError, OSError) as error:
        return replace(nothing, detail=f"{_CUT}, and its samples cannot be read: {error}")
    if not any(guest.group in done and guest.release is not None for guest in evidence.guests):
        # All its guests are tried again and watched anew: what this watch missed (the network stalled, and so
        # somebody killed the run) is no gap in that.
        return replace(seen, spool=file, closed=True, gaps=(), detail=_CUT)
    # The watch was not stopped, its controller was. It is whole where it reaches up to that moment.
    reached = (seen.ended or 0.0) - (seen.started or 0.0) >= lasted - _LATE_SECONDS - 2.0 * period
    return replace(seen, spool=file, closed=seen.closed or (seen.samples > 0 and reached), detail=_CUT)


def _of_guest(
    path: Path, file: str, guest: GuestEvidence, profile: Profile, codes: KernelCodes
) -> GuestTelemetry:
    loads = windows(guest.results)
    nothing = GuestTelemetry(guest=guest.name, source="", loads=loads, spool=file)
    try:
        with open_regular(path) as lines:
            spool = read_spool(lines)
    except (ParseError, OSError) as error:
        return replace(nothing, detail=f"{_CUT}, and its samples cannot be read: {error}")
    # numpy is imported where it is used: a run that was not killed need not wait for it.
    from harness.telemetry.gpu.summary import summarize  # noqa: PLC0415

    summed_up = partial(
        summarize,
        spool,
        spec=profile.telemetry,
        guest=guest.name,
        cards=guest.cards,
        codes=codes,
    )
    seen = summed_up(loads=loads)
    # Its guest is tried again: that it was not watched to its end, or that the end did not come over any more
    # (the network stalled, and so somebody killed it), is no fault of the sampler's.
    ends = (seen.ended or 0.0, (seen.kernel.followed_to or 0.0) if seen.kernel is not None else 0.0)
    came = tuple(load for load in loads if load.end <= min(ends))
    if came != loads:
        seen = summed_up(loads=came)
    return replace(seen, spool=file, closed=True, detail=_CUT)


def _cut_torn_line(path: Path) -> None:
    """Cut off the line that was being written, as is done with the events. Raises RecordError."""
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - LONGEST_LINE))
            end = stream.read(LONGEST_LINE)
        if b"\n" in end:
            os.truncate(path, size - len(end) + end.rindex(b"\n") + 1)
    except OSError as error:
        raise RecordError(f"{path}, left by a killed attempt: {error.strerror or error}") from error


def _windows(evidence: Evidence, host: HostFile) -> tuple[GuestWindow, ...]:
    """The times in which nothing of its guests was to change. A killed attempt changed nothing after its last
    look unless it released them: that is over by its release's record."""
    found = []
    for number, guest in enumerate(evidence.guests):
        seen = guest.observed
        if guest.plan is None or seen is None or seen.at is None:
            continue
        ends = [look.at for look in guest.looks if look.moment is Moment.END and look.at is not None]
        place = guest_place(evidence.run, guest.name, number, host.work_dir)
        found.append(
            GuestWindow(
                guest=guest.name,
                domain=place.domain,
                devices=guest.plan.hostdevs,
                start=seen.at,
                end=ends[-1] if ends else None,
            )
        )
    return tuple(found)


def _dedicated(evidence: Evidence, host: HostFile) -> dict[str, tuple[int, ...]]:
    """Domain to the CPUs that its guest was given."""
    return {
        guest_place(evidence.run, guest.name, number, host.work_dir).domain: tuple(
            sorted(guest.plan.vcpupin.values())
        )
        for number, guest in enumerate(evidence.guests)
        if guest.plan is not None and guest.started
    }
