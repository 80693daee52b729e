"""What neighbours cost: the figures of a guest beside others against those of guests like it that ran alone.

Both are of one run. A guest is like another that asked for the same, was given a share of the host of the
same size, and has GPUs of the same models; so its loads have the same parameters too, which are the profile's
but for what a model decides (``harness.workloads.applicable.fitted``). A GPU is compared with itself where it
was measured alone, else with all of its model. How a ratio is made and weighed: ``harness.verdict.ratio``.

That two guests of a group were under load in the same seconds is the run's work: their loads' clocks are
those of their own kernels, so nothing here can tell.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, replace

from harness.model.evidence import Evidence, GuestEvidence, ReferenceValue
from harness.model.inventory import DisturbanceSpec
from harness.model.outcome import Measurement
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts
from harness.verdict.ratio import LEAST_RUNS, NOT_ABOVE_ZERO, Compared, Finding, ratio, values_of, weighed

PREFIX = "disturbance."
"""What the names of ratios begin with, before the measurement's own."""
_RAN = ("done", "failed", "timeout")
"""Ends of a load that was there and disturbed its neighbours, however it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance(Compared):
    """One measurement of a guest beside others, against the same alone."""

    guest: str
    workload: str
    beside: float | None = None
    """Median, as ``alone``."""
    alone: float | None = None

    @property
    def undecided(self) -> bool:
        """Whether more rounds could decide it."""
        return self.finding in (Finding.TOO_FEW, Finding.UNDECIDED)


def beside_others(evidence: Evidence) -> tuple[GuestEvidence, ...]:
    """The guests that lived beside others, in the run's order."""
    sizes = Counter(guest.group for guest in evidence.guests if guest.group)
    return tuple(guest for guest in evidence.guests if sizes[guest.group] > 1)


def neighbours(guest: GuestEvidence, evidence: Evidence) -> tuple[GuestEvidence, ...]:
    """The other guests of its group; empty for a guest that lived alone."""
    others = (other for other in evidence.guests if other is not guest)
    return tuple(other for other in others if guest.group and other.group == guest.group)


def counterparts(guest: GuestEvidence, evidence: Evidence) -> tuple[GuestEvidence, ...]:
    """The guests that lived alone and had asked for the same: GPUs, vCPUs and memory."""
    wish = replace(guest.request, name="")
    return tuple(
        other
        for other in evidence.guests
        if replace(other.request, name="") == wish and not neighbours(other, evidence) and other is not guest
    )


def disturbances(evidence: Evidence, spec: DisturbanceSpec) -> tuple[Disturbance, ...]:
    """Each rate and time of the loads that both a guest beside others and a guest like it alone were to run.

    Empty when no guest had neighbours, or none of those has a counterpart. What one side did not measure is
    listed as not comparable; fewer values than the profile demands have a ratio without an interval.
    """
    return tuple(
        found
        for guest in beside_others(evidence)
        for workload in dict.fromkeys(guest.workloads)
        for found in _of_load(guest, workload, evidence, spec)
    )


def not_compared(found: tuple[Disturbance, ...]) -> tuple[Disturbance, ...]:
    """Of each load of each guest of which no figure at all could be compared, the first figure."""
    compared = {(one.guest, one.workload) for one in found if one.finding is not Finding.NOT_COMPARABLE}
    firsts: dict[tuple[str, str], Disturbance] = {}
    for one in found:
        if (one.guest, one.workload) not in compared:
            firsts.setdefault((one.guest, one.workload), one)
    return tuple(firsts.values())


def as_measurement(one: Disturbance) -> Measurement:
    """The ratio as a measurement of the guest's GPU or load, held to its floor where enough values decide."""
    place = one.device if one.device is not None else one.workload
    return Measurement(
        name=f"{PREFIX}{one.name}",
        value=one.ratio,
        unit="1",
        lower=None if one.low is None else one.floor,
        subject=f"{one.guest}/{place}",
    )


def _of_load(
    guest: GuestEvidence, workload: str, evidence: Evidence, spec: DisturbanceSpec
) -> list[Disturbance]:
    others = [other for other in counterparts(guest, evidence) if workload in other.workloads]
    if not others:
        return []
    facts = evidence.facts
    alike = [other for other in others if _kind(other, facts) == _kind(guest, facts)]
    mine = _of(guest, workload)
    alone = [value for other in alike or others for value in _of(other, workload)]
    why = "" if alike else "alone it had a different share of the host, or another GPU model"
    why = _idle(guest, evidence) or why
    if why:
        here = [_row(guest, value, spec, beside=value.values, detail=why) for value in mine]
        return here or [_row(guest, value, spec, alone=value.values, detail=why) for value in alone]
    measured = {_figure(value) for value in mine}
    lost = {_figure(value): value for value in alone if _figure(value) not in measured}
    return [_held(guest, value, alone, facts, spec) for value in mine] + [
        _row(guest, value, spec, alone=value.values, detail="not measured beside neighbours")
        for value in lost.values()
    ]


def _of(guest: GuestEvidence, workload: str) -> list[ReferenceValue]:
    return [value for value in values_of(guest) if value.workload == workload]


def _idle(guest: GuestEvidence, evidence: Evidence) -> str:
    """Who of its neighbours was no load to it; empty when each was."""
    idle = [
        other.name
        for other in neighbours(guest, evidence)
        if not any(result.status in _RAN for result in other.results)
    ]
    return f"its neighbour {', '.join(idle)} ran no load" if idle else ""


def _kind(guest: GuestEvidence, facts: HostFacts | None) -> tuple[object, ...]:
    """What decides how fast a guest is when nobody disturbs it, beyond what it asked for."""
    plan = guest.plan
    share = None if plan is None else (len(plan.vcpupin), len(plan.cells))
    return share, Counter(_model(gpu, facts) for gpu in guest.gpus)


def _model(gpu: PciAddress, facts: HostFacts | None) -> str:
    """``vendor:device``; a GPU that the facts do not hold is of a model of its own."""
    known = None if facts is None else facts.device(gpu)
    return str(gpu) if known is None else known.id


def _figure(value: ReferenceValue) -> tuple[object, ...]:
    return value.name, value.unit, value.engine, value.device is None


def _held(
    guest: GuestEvidence,
    mine: ReferenceValue,
    alone: list[ReferenceValue],
    facts: HostFacts | None,
    spec: DisturbanceSpec,
) -> Disturbance:
    """One figure against all values that the same was measured to have alone."""
    same = [value for value in alone if _figure(value) == _figure(mine)]
    chosen = [value for value in same if value.device == mine.device]
    detail = ""
    if not chosen and mine.device is not None:
        model = _model(mine.device, facts)
        chosen = [value for value in same if value.device and _model(value.device, facts) == model]
        detail = "alone on other GPUs of its model"
    if not chosen:
        return _row(guest, mine, spec, beside=mine.values, detail="not measured alone")
    values = tuple(number for value in chosen for number in value.values)
    return _row(guest, mine, spec, beside=mine.values, alone=values, detail=detail)


def _row(
    guest: GuestEvidence,
    about: ReferenceValue,
    spec: DisturbanceSpec,
    *,
    beside: tuple[float, ...] = (),
    alone: tuple[float, ...] = (),
    detail: str,
) -> Disturbance:
    """The figure as far as its values go: weighed, as a mere ratio, or not comparable."""
    floor = spec.floors.get(about.name, spec.floor)
    value = ratio(beside, alone, about.unit)
    enough = min(len(beside), len(alone)) >= max(LEAST_RUNS, spec.least_runs)
    held = weighed(beside, alone, about.unit, floor) if enough else None
    finding = Finding.NOT_COMPARABLE if value is None else Finding.TOO_FEW
    if value is None and beside and alone:
        detail = NOT_ABOVE_ZERO
    return Disturbance(
        guest=guest.name,
        workload=about.workload,
        name=about.name,
        unit=about.unit,
        device=about.device if about.device in guest.gpus else None,
        finding=finding if held is None else held.finding,
        floor=floor,
        beside=statistics.median(beside) if beside else None,
        alone=statistics.median(alone) if alone else None,
        ratio=value,
        low=None if held is None else held.low,
        high=None if held is None else held.high,
        runs=(len(beside), len(alone)),
        detail=detail,
    )
