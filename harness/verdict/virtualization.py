"""What virtualisation costs: a guest's figures against those of the bare machine, per measurement.

How a ratio is made and weighed: ``harness.verdict.ratio``.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from harness.model.evidence import GuestEvidence, Reference, ReferenceValue
from harness.model.inventory import VirtualizationSpec
from harness.model.outcome import SubjectKind, Verdict
from harness.verdict.ratio import LEAST_RUNS, NOT_ABOVE_ZERO, Compared, Finding, values_of, weighed


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost(Compared):
    """One measurement of a guest against the bare machine's."""

    guest: float | None = None
    """Median, as ``bare``."""
    bare: float | None = None

    @property
    def open(self) -> bool:
        """Whether something that was to be compared was not, so that nothing is shown of it. A figure of the
        whole machine is not to be: a guest is a part of it."""
        unlike = self.finding is Finding.NOT_COMPARABLE and self.device is not None
        return unlike or self.finding in (Finding.UNDECIDED, Finding.TOO_FEW)


def unfit(reference: Reference, subject: SubjectKind, machine_id: str | None) -> str:
    """Why a bare run says nothing of guests of this kind on this machine; empty when it does."""
    hardware = SubjectKind.HARDWARE
    if reference.problems:
        return f"bare run {reference.run} cannot be trusted: {reference.problems[0]}"
    if reference.verdict == Verdict.NO_GO.value:
        return f"bare run {reference.run} ended {reference.verdict}, so it is no reference"
    if subject is hardware and (reference.standin or reference.subject is not hardware):
        return f"bare run {reference.run} says nothing about hardware: it was recorded on a stand-in or lab"
    if machine_id is None or reference.machine_id != machine_id:
        return f"bare run {reference.run} is of another machine ({reference.host})"
    return ""


def costs(
    guest: GuestEvidence,
    workload: str,
    reference: Reference,
    spec: VirtualizationSpec,
    *,
    parameters: dict[str, int | float | str | bool],
) -> tuple[Cost, ...]:
    """Each figure of one workload of a guest beside the bare machine's, and the bare machine's of the guest's
    GPUs that the guest did not measure; empty when neither measured a rate."""
    bare = [value for value in reference.values if value.workload == workload]
    same_load = reference.parameters.get(workload, {}) == parameters
    same_size = guest.plan is not None and len(guest.plan.vcpupin) == reference.cpus
    measured = [value for value in values_of(guest) if value.workload == workload]
    found = [
        _cost(None, Finding.NOT_COMPARABLE, spec.floor, other, detail="the guest did not measure this")
        for other in bare
        if other.device in guest.gpus and _counterpart(other, measured) is None
    ]
    for mine in measured:
        floor = spec.floors.get(mine.name, spec.floor)
        other = _counterpart(mine, bare)
        why = "" if other is not None else "the bare-metal run did not measure this"
        if mine.device is None and not same_size:
            why = "a value of the whole machine, of which this guest has only part"
        why = why if same_load else "the loads' parameters differ"
        if other is None or why:
            found.append(_cost(mine, Finding.NOT_COMPARABLE, floor, detail=why))
        elif min(len(mine.values), len(other.values)) < max(LEAST_RUNS, spec.least_runs):
            found.append(_cost(mine, Finding.TOO_FEW, floor, other))
        else:
            found.append(_compared(mine, other, floor))
    return tuple(found)


def _counterpart(mine: ReferenceValue, others: list[ReferenceValue]) -> ReferenceValue | None:
    """The other side's figure of the same GPU; of the whole machine only when both are of the whole."""
    return next(
        (
            other
            for other in others
            if (other.name, other.unit, other.engine, other.device)
            == (mine.name, mine.unit, mine.engine, mine.device)
        ),
        None,
    )


def _cost(
    mine: ReferenceValue | None,
    finding: Finding,
    floor: float,
    other: ReferenceValue | None = None,
    *,
    ratio: float | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    detail: str = "",
) -> Cost:
    named = mine or other
    assert named is not None  # noqa: S101  a cost is of one side at least
    return Cost(
        name=named.name,
        unit=named.unit,
        device=named.device,
        finding=finding,
        floor=floor,
        guest=statistics.median(mine.values) if mine else None,
        bare=statistics.median(other.values) if other else None,
        ratio=ratio,
        low=bounds[0],
        high=bounds[1],
        runs=(len(mine.values) if mine else 0, len(other.values) if other else 0),
        detail=detail,
    )


def _compared(mine: ReferenceValue, other: ReferenceValue, floor: float) -> Cost:
    found = weighed(mine.values, other.values, mine.unit, floor)
    if found is None:
        return _cost(mine, Finding.NOT_COMPARABLE, floor, other, detail=NOT_ABOVE_ZERO)
    return _cost(mine, found.finding, floor, other, ratio=found.value, bounds=(found.low, found.high))
