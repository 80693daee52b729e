"""Whether work and effort agree: use, clock and power of a GPU belong together while a load runs.

Judged against the card's own first minutes, the other cards of the run under the same load, and the card's
limits. What a load computed is judged elsewhere; here a card is caught that gives right answers too slowly,
or whose answers somebody else computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from harness.checks.answers import failed, guest, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.drift import clocks, drifting, measured, rates, slower, worn
from harness.checks.watching.idle import LEAST_PEERS, idle
from harness.checks.watching.parts import FELL_SHARE, FREE_TIME, LEAST_SECONDS, Finding, length, median, track
from harness.checks.watching.watched import at, believed, card, limit, values
from harness.model.attachment import Observable
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, Slice
from harness.model.vendor import Commands
from harness.vendors.names import advised, typed

LOW_SHARE = 0.70
"""Of the card's maximum, likewise: the models' boost clocks under load are 0.8 and more of it."""
WORN_SHARE = 0.70
"""Of its first minutes' clock under the same load, whatever the card says of it."""
PEER_SHARE = 0.75
"""Of the others' median clock: cards of one model differ by 22 % at most (SC'22)."""
PEER_USE_SHARE = 0.6
"""Of the others' median use and power: cards of one model differ by less (SC'22: 22 % at most)."""
MEMORY_SHARE = 0.75
"""Of the memory clock's maximum, or of its first minutes: a card that computes runs its memory at full clock,
a step below at most."""
CAP_SHARE = 0.7
"""Of the power limit: a cap that binds does so at the limit, and power is an average of a second."""
USED_PERCENT = 50.0
SET_SHARE, SET_CLOCK = 0.5, 0.9
"""Share of its busy time for which a setting holds a card's clock below that share of its maximum."""


def _work(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    if not gpu.slices:
        raise MissingEvidence("no load was recorded in parts, so work and clocks cannot be compared")
    seen = [part for part in gpu.slices if part.samples]
    if not seen:
        raise MissingEvidence("no load of this GPU was sampled")
    told = believed(gpu, "clock_sm") is not None
    clock, rounds = clocks(seen) if told else None, rates(guest(subject), subject.device)
    pace = slower(rounds)
    commands = advised(telemetry.source).commands
    findings = [
        *idle(gpu, telemetry),
        *(_clock(gpu, seen, commands) if told else ()),
        *_capped(gpu, seen),
        *(_set(gpu, seen, commands) if told else ()),
        *(_beside(case, telemetry, gpu, seen) if told else ()),
        *drifting(clock, pace),
        *worn(rounds),
    ]
    busy = sum(part.busy * length(part) for part in seen)
    figures = (
        Measurement(name="work.busy_seconds", value=round(busy, 1), unit="s"),
        Measurement(name="work.clock", value=median(part.clock_busy for part in seen), unit="MHz"),
        *measured("work.clock_drift", clock),
        *measured("work.rate_drift", pace),
    )
    evidence = (at(telemetry, gpu, "util_gpu, clock_sm, power", "; ".join(f.said for f in findings)),)
    if findings:
        first = findings[0]
        return failed(
            "; ".join(finding.said for finding in findings[:3]),
            first.remedy,
            first.action,
            evidence=evidence,
            measurements=figures,
        )
    for name in ("clock_sm", "util_gpu", "power"):
        values(gpu, name)  # one that cannot be believed leaves open what was not found wrong
    if not told:
        raise MissingEvidence("the card does not say its clock")
    drifts = "".join(f"; {each.what} drifted by {each.said}" for each in (clock, pace) if each is not None)
    return ok(
        f"utilisation, clock and power agree in {len(seen)} parts of {len({part.key for part in seen})} "
        f"loads{drifts}",
        evidence=evidence,
        measurements=figures,
    )


def _slow(commands: Commands) -> str:
    return (
        "compare with the other cards under the same load; check application "
        f"clocks{typed(commands.show_clocks)} and the BMC's power readings; if nothing limits this card, "
        "replace it"
    )


def _clock(gpu: GpuTelemetry, seen: Sequence[Slice], commands: Commands) -> Iterator[Finding]:
    """A clock that falls, or is low, with nothing said to hold it back; or falls under the same load."""
    most = limit(gpu, "clock_sm_max")
    free = track([part for part in seen if part.free >= FREE_TIME], lambda part: part.clock_free)
    freely = "no throttle reason was reported"
    rules = [
        (free, free.first, FELL_SHARE, "SM", f"in its first minutes, and {freely}"),
        (free, most, LOW_SHARE, "SM", f"at most, and {freely}"),
    ]
    for workload in dict.fromkeys(part.workload for part in seen):
        same = track([part for part in seen if part.workload == workload], lambda part: part.clock_busy)
        rules.append((same, same.first, WORN_SHARE, "SM", f"in the first minutes of {workload}"))
    if believed(gpu, "clock_memory") is not None:
        memory = track(seen, lambda part: part.clock_memory)
        best = max(limit(gpu, "clock_memory_max") or 0.0, memory.first or 0.0)
        rules.append((memory, best or None, MEMORY_SHARE, "memory", "at most"))
    for through, measure, share, which, words in rules:
        low = through.below(None if measure is None else share * measure)
        if low is not None and measure is not None:
            begin, end, seconds, value = low
            yield Finding(
                said=f"the {which} clock was down to {value:.0f} MHz for {seconds:.0f} s between {begin:.1f} "
                f"s and {end:.1f} s; it was {measure:.0f} MHz {words}",
                remedy=_slow(commands),
                action=Action.RETEST,
            )
            return


def _capped(gpu: GpuTelemetry, seen: Sequence[Slice]) -> Iterator[Finding]:
    """A power cap that binds far below the limit that the card names."""
    default = limit(gpu, "power_limit")
    if default is None or believed(gpu, "power") is None:
        return
    capped = track([part for part in seen if part.capped >= FREE_TIME], lambda part: part.power_capped)
    low = capped.below(CAP_SHARE * default)
    if low is not None:
        begin, end, seconds, value = low
        yield Finding(
            said=f"the power cap held the SM clock back at {value:.0f} W for {seconds:.0f} s between "
            f"{begin:.1f} s and {end:.1f} s, but the card reports a limit of {default:.0f} W",
            remedy="find out what caps the card below its limit (a management agent, the BMC, a power brake) "
            "and run again; if nothing does, its power sensor is wrong: replace it",
            action=Action.FIX_CONFIG,
        )


def _set(gpu: GpuTelemetry, seen: Sequence[Slice], commands: Commands) -> Iterator[Finding]:
    """Application clocks that somebody left set."""
    most = limit(gpu, "clock_sm_max")
    if most is None:
        return
    busy = sum(part.busy * length(part) for part in seen)
    held = [part for part in seen if part.set_share > 0 and (part.clock_busy or most) < SET_CLOCK * most]
    seconds = sum(part.set_share * length(part) for part in held)
    if seconds >= LEAST_SECONDS and seconds > SET_SHARE * busy:
        clock = median(part.clock_busy for part in held)
        yield Finding(
            said=f"a setting held the SM clock at {clock:.0f} MHz for {seconds:.0f} of {busy:.0f} s of "
            f"GPU work; its maximum is {most:.0f} MHz",
            remedy=f"reset it{typed(commands.default_clocks, gpu.index)}, also in the start-up scripts of "
            "guest and host, and run again",
            action=Action.FIX_CONFIG,
        )


def _beside(
    case: Case, telemetry: GuestTelemetry, gpu: GpuTelemetry, seen: Sequence[Slice]
) -> Iterator[Finding]:
    """A card that is far from the others of its model under the same load, in guests of as many GPUs."""
    for workload in dict.fromkeys(part.workload for part in seen):
        own = _effort(gpu, workload)
        others = [
            _effort(other, workload)
            for guest in case.evidence.guests
            if guest.telemetry is not None and len(guest.telemetry.gpus) == len(telemetry.gpus)
            for other in guest.telemetry.gpus
            if other.name == gpu.name and (guest.telemetry.guest, other.index) != (telemetry.guest, gpu.index)
        ]
        uses = [each[1] for each in others if each[1] is not None]
        used = bool(uses) and statistics.median(uses) >= USED_PERCENT
        for place, (name, unit, share) in enumerate(_COMPARED):
            theirs = [value for each in others if (value := each[place]) is not None]
            mine = own[place]
            if mine is None or len(theirs) < LEAST_PEERS:
                continue
            middle = statistics.median(theirs)
            if mine < share * middle and (unit == "MHz" or used):
                yield Finding(
                    said=f"{name} under {workload}: {mine:.0f} {unit}, and {middle:.0f} {unit} on the "
                    f"{len(theirs)} other {gpu.name}",
                    remedy="swap the card with one of the others and run again: if the card stays slow, "
                    "replace it; if the slot does, check its power and cooling",
                    action=Action.RETEST,
                )
                return


_COMPARED = (("SM clock", "MHz", PEER_SHARE), ("use", "%", PEER_USE_SHARE), ("power", "W", PEER_USE_SHARE))


def _effort(gpu: GpuTelemetry, workload: str) -> tuple[float | None, float | None, float | None]:
    """Medians of clock while it computed, use and power under one load, of at least LEAST_SECONDS."""
    parts = [part for part in gpu.slices if part.workload == workload and part.samples]
    if sum(map(length, parts)) < LEAST_SECONDS:
        return None, None, None
    clock = median(part.clock_busy for part in parts) if believed(gpu, "clock_sm") else None
    used = median(part.util_gpu for part in parts) if believed(gpu, "util_gpu") else None
    power = median(part.power for part in parts) if believed(gpu, "power") else None
    return clock, used, power


CHECKS = (
    Check(
        id="gpu.work",
        title="Do the GPU's utilisation, clock and power fit the load?",
        why="A card that idles or slows down without an error still gives right answers.",
        scope=Scope.GUEST_GPU,
        phase=Phase.AFTERWARDS,
        needs=(Observable.CARD,),
        judge=_work,
    ),
)
