"""Whether work and effort agree: use, clock and power of a GPU belong together while a load runs.

Judged against the card's own first minutes, the other cards of the run under the same load, and the card's
limits. What a load computed is judged elsewhere; here a card is caught that gives right answers too slowly,
or whose answers somebody else computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.checks.answers import failed, ok
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.watching.watched import at, believed, card, limit, values
from harness.model.outcome import Action, CheckResult, Measurement
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, Slice
from harness.workloads.registry import specs

COMPUTING = tuple(one.name for one in specs() if one.keeps_gpus_busy)
"""Loads that keep the GPU's processors busy. The others use copy engines and codecs, which ``util_gpu`` does
not count, or the host."""
IDLE_PERCENT = 5.0
"""Use below which the processors of a card did nothing under a load that keeps them busy."""
IDLE_RISE = 0.05
"""Of the power limit: a card that draws less than that above idle does nothing."""
IDLE_SECONDS, IDLE_SHARE = 30.0, 0.2
"""A load may prepare or verify on the host for that long, or for that share of its time, whichever is
longer."""
FELL_SHARE = 0.85
"""Of its first minutes' clock, with nothing said to hold it back: steps of a clock are 1 % and a hot card
loses a few (SC'22, arXiv 2208.11035: 8 % between cards of one model)."""
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
LEAST_PEERS = 2
"""Of two cards nobody knows which one is right."""
CAP_SHARE = 0.7
"""Of the power limit: a cap that binds does so at the limit, and power is an average of a second."""
FREE_TIME = 0.05
"""Share of a part's samples from which their median says something."""
USED_PERCENT = 50.0
SET_SHARE, SET_CLOCK = 0.5, 0.9
"""Share of its busy time for which a setting holds a card's clock below that share of its maximum."""
LEAST_SECONDS = 5.0
"""Less than this in all is a moment, not a state."""
FIRST_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One disagreement."""

    said: str
    remedy: str
    action: Action


def _work(case: Case, subject: Subject) -> CheckResult:
    telemetry, gpu = card(case, subject)
    if not gpu.slices:
        raise MissingEvidence(
            "no load was recorded in parts, so work and effort cannot be laid beside each other"
        )
    seen = [part for part in gpu.slices if part.samples]
    if not seen:
        raise MissingEvidence("no load of this GPU was sampled")
    clocks = believed(gpu, "clock_sm") is not None
    findings = [
        *_idle(gpu, telemetry),
        *(_clock(gpu, seen) if clocks else ()),
        *_capped(gpu, seen),
        *(_set(gpu, seen) if clocks else ()),
        *(_beside(case, telemetry, gpu, seen) if clocks else ()),
    ]
    busy = sum(part.busy * _length(part) for part in seen)
    measured = (
        Measurement(name="work.busy_seconds", value=round(busy, 1), unit="s"),
        Measurement(name="work.clock", value=_median(part.clock_busy for part in seen), unit="MHz"),
    )
    evidence = (at(telemetry, gpu, "util_gpu, clock_sm, power", "; ".join(f.said for f in findings)),)
    if findings:
        first = findings[0]
        return failed(
            "; ".join(finding.said for finding in findings[:3]),
            first.remedy,
            first.action,
            evidence=evidence,
            measurements=measured,
        )
    for name in ("clock_sm", "util_gpu", "power"):
        values(gpu, name)  # one that cannot be believed leaves open what was not found wrong
    if not clocks:
        raise MissingEvidence("the card does not say its clock")
    return ok(
        f"use, clock and power agree in {len(seen)} parts of {len({part.key for part in seen})} loads",
        evidence=evidence,
        measurements=measured,
    )


def _length(part: Slice) -> float:
    return part.end - part.start


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _idle_percent(workload: str, telemetry: GuestTelemetry) -> float:
    """Use below which a card did nothing under that load; 0 where nobody can say.

    A stand-in is as busy as its scenario says, whatever runs beside it: there, no use at all is none.
    """
    return IDLE_PERCENT if workload in COMPUTING else 0.5 if telemetry.standin else 0.0


def _idle(gpu: GpuTelemetry, telemetry: GuestTelemetry) -> Iterator[Finding]:
    if believed(gpu, "util_gpu") is None:
        return
    most = limit(gpu, "power_limit") or 0.0
    powers = believed(gpu, "power") is not None and gpu.idle_power is not None

    def idle(part: Slice) -> bool:
        if part.util_gpu_max is None or part.util_gpu_max >= _idle_percent(part.workload, telemetry):
            return False
        return (
            not powers
            or part.power_max is None
            or part.power_max < (gpu.idle_power or 0.0) + IDLE_RISE * most
        )

    loads: dict[str, list[Slice]] = {}
    for part in gpu.slices:
        if part.samples and _idle_percent(part.workload, telemetry):
            loads.setdefault(part.key, []).append(part)
    for parts in loads.values():
        lasted = sum(map(_length, parts))
        doing_nothing = [part for part in parts if idle(part)]
        seconds = sum(map(_length, doing_nothing))
        allowed = 0.5 * lasted if lasted < IDLE_SECONDS else max(IDLE_SECONDS, IDLE_SHARE * lasted)
        if lasted >= LEAST_SECONDS and (seconds > allowed or len(doing_nothing) == len(parts)):
            first = doing_nothing[0]
            yield Finding(
                said=f"the GPU did nothing for {seconds:.0f} of {lasted:.0f} s of {first.workload}, first "
                "from "
                f"{first.start:.1f} s to {first.end:.1f} s (use at most {first.util_gpu_max:g} %)",
                remedy="look in the load's output on which device it computed; if it was this one, its "
                "driver does "
                "not count: restart the guest and run again",
                action=Action.RETEST,
            )
            return


@dataclass(frozen=True, slots=True, kw_only=True)
class _Track:
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
        seconds = sum(_length(part) for part, _ in low)
        if seconds < LEAST_SECONDS:
            return None
        return low[0][0].start, low[-1][0].end, seconds, min(value for _, value in low)


def _track(parts: Sequence[Slice], figure: Callable[[Slice], float | None]) -> _Track:
    known = ((part, figure(part)) for part in parts)
    return _Track(parts=tuple((part, value) for part, value in known if value is not None))


_SLOW = (
    "compare with the other cards under the same load; look for application clocks (nvidia-smi -q -d CLOCK) "
    "and for "
    "what the BMC says of power; if nothing holds this card back, replace it"
)


def _clock(gpu: GpuTelemetry, seen: Sequence[Slice]) -> Iterator[Finding]:
    """A clock that falls, or is low, with nothing said to hold it back; or falls under the same load."""
    most = limit(gpu, "clock_sm_max")
    free = _track([part for part in seen if part.free >= FREE_TIME], lambda part: part.clock_free)
    freely = "nothing was said to hold it back"
    rules = [
        (free, free.first, FELL_SHARE, f"in its first minutes, and {freely}"),
        (free, most, LOW_SHARE, f"at most, and {freely}"),
    ]
    for workload in dict.fromkeys(part.workload for part in seen):
        same = _track([part for part in seen if part.workload == workload], lambda part: part.clock_busy)
        rules.append((same, same.first, WORN_SHARE, f"in the first minutes of {workload}"))
    if believed(gpu, "clock_memory") is not None:
        memory = _track(seen, lambda part: part.clock_memory)
        best = max(limit(gpu, "clock_memory_max") or 0.0, memory.first or 0.0)
        rules.append((memory, best or None, MEMORY_SHARE, "at most, and this is the memory's"))
    for track, measure, share, words in rules:
        low = track.below(None if measure is None else share * measure)
        if low is not None and measure is not None:
            begin, end, seconds, value = low
            yield Finding(
                said=f"the clock was down to {value:.0f} MHz for {seconds:.0f} s between {begin:.1f} s and "
                f"{end:.1f} s; "
                f"it was {measure:.0f} MHz {words}",
                remedy=_SLOW,
                action=Action.RETEST,
            )
            return


def _capped(gpu: GpuTelemetry, seen: Sequence[Slice]) -> Iterator[Finding]:
    """A power cap that binds far below the limit that the card names."""
    default = limit(gpu, "power_limit")
    if default is None or believed(gpu, "power") is None:
        return
    capped = _track([part for part in seen if part.capped >= FREE_TIME], lambda part: part.power_capped)
    low = capped.below(CAP_SHARE * default)
    if low is not None:
        begin, end, seconds, value = low
        yield Finding(
            said=f"the power cap held the clock back at {value:.0f} W for {seconds:.0f} s between "
            f"{begin:.1f} s and "
            f"{end:.1f} s, and the card names a limit of {default:.0f} W",
            remedy="find out what caps the card below its limit (a management agent, the BMC, a power "
            "brake) and run "
            "again; if nothing does, its power sensor is wrong: replace it",
            action=Action.FIX_CONFIG,
        )


def _set(gpu: GpuTelemetry, seen: Sequence[Slice]) -> Iterator[Finding]:
    """Application clocks that somebody left set."""
    most = limit(gpu, "clock_sm_max")
    if most is None:
        return
    busy = sum(part.busy * _length(part) for part in seen)
    held = [part for part in seen if part.set_share > 0 and (part.clock_busy or most) < SET_CLOCK * most]
    seconds = sum(part.set_share * _length(part) for part in held)
    if seconds >= LEAST_SECONDS and seconds > SET_SHARE * busy:
        clock = _median(part.clock_busy for part in held)
        yield Finding(
            said=f"a setting held the clock at {clock:.0f} MHz for {seconds:.0f} of {busy:.0f} s in which "
            "the GPU "
            f"computed; its maximum is {most:.0f} MHz",
            remedy=f"reset it (nvidia-smi -i {gpu.index} -rac; -rgc) where guest or host starts, and run "
            "again",
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
            if mine < share * middle and (name == "clock" or used):
                yield Finding(
                    said=f"{name} under {workload}: {mine:.0f} {unit}, and {middle:.0f} {unit} on the "
                    f"{len(theirs)} "
                    f"other {gpu.name}",
                    remedy="swap the card with one of the others and run again: if it stays behind, replace "
                    "it; if "
                    "the place does, look at its power and cooling",
                    action=Action.RETEST,
                )
                return


_COMPARED = (("clock", "MHz", PEER_SHARE), ("use", "%", PEER_USE_SHARE), ("power", "W", PEER_USE_SHARE))


def _effort(gpu: GpuTelemetry, workload: str) -> tuple[float | None, float | None, float | None]:
    """Medians of clock while it computed, use and power under one load, of at least LEAST_SECONDS."""
    parts = [part for part in gpu.slices if part.workload == workload and part.samples]
    if sum(map(_length, parts)) < LEAST_SECONDS:
        return None, None, None
    clock = _median(part.clock_busy for part in parts) if believed(gpu, "clock_sm") else None
    used = _median(part.util_gpu for part in parts) if believed(gpu, "util_gpu") else None
    power = _median(part.power for part in parts) if believed(gpu, "power") else None
    return clock, used, power


CHECKS = (
    Check(
        id="gpu.work",
        title="Do use, clock and power of the GPU fit the load?",
        why="A card that idles, or slows down without a word, still gives right answers.",
        scope=Scope.GUEST_GPU,
        phase=Phase.AFTERWARDS,
        judge=_work,
    ),
)
