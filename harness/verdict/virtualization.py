"""What virtualisation costs: a guest's figures against those of the bare machine, per measurement.

The ratio is that of the medians, turned so that more is better. With its bootstrap interval three answers are
possible: clearly enough, clearly too little, or not yet decided.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import StrEnum

from harness.model.evidence import GuestEvidence, Reference, ReferenceValue
from harness.model.inventory import VirtualizationSpec
from harness.model.outcome import SubjectKind, Verdict
from harness.model.pci import PciAddress

LESS_IS_BETTER = ("s", "ms", "us", "ns")
"""Units of times: the guest's must not be longer."""
RATES = ("1/s", "GB/s", "MB/s", "TFLOP/s", "GFLOP/s", "GH/s", "MH/s", "H/s", "Gbit/s")
"""Units of rates. Anything else (counts, shares, temperatures) is no cost of virtualisation."""

_CONFIDENCE = 0.95
_RESAMPLES = 2000
_SEED = 20260101


class Finding(StrEnum):
    """What can be said of one measurement."""

    KEEPS = "keeps"
    LOSES = "loses"
    UNDECIDED = "undecided"
    """The interval holds the floor: more rounds are needed."""
    TOO_FEW = "too few runs"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One measurement of a guest against the bare machine's."""

    name: str
    unit: str
    device: PciAddress | None
    """The GPU on the candidate host; None for a figure of the whole guest."""
    finding: Finding
    floor: float
    guest: float | None = None
    """Median, as ``bare``."""
    bare: float | None = None
    ratio: float | None = None
    """Above 1: the guest does better."""
    low: float | None = None
    high: float | None = None
    """Bounds of the ratio, 95 % confidence (percentile bootstrap)."""
    runs: tuple[int, int] = (0, 0)
    """Values of the guest and of the bare machine."""
    detail: str = ""

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
        return f"bare run {reference.run} ended {reference.verdict}: that machine was not well"
    if subject is hardware and (reference.standin or reference.subject is not hardware):
        return f"bare run {reference.run} says nothing of hardware: a stand-in or lab recorded it"
    if machine_id is None or reference.machine_id != machine_id:
        return f"bare run {reference.run} is of another machine ({reference.host})"
    return ""


def reference_values(guest: GuestEvidence) -> tuple[ReferenceValue, ...]:
    """Every rate and time that the loads of a guest or bare machine measured, by load, name and GPU."""
    host_side = {str(inside): host for host, inside in guest.inside.items()}
    found: dict[tuple[str, str, str, str, PciAddress | None], list[float]] = {}
    for result in guest.results:
        if result.status != "done" or any(not answer.ok for answer in result.answers):
            continue  # the speed of a wrong answer is worth nothing
        for measurement in result.measurements:
            if measurement.value is None or measurement.unit not in (*RATES, *LESS_IS_BETTER):
                continue
            if measurement.subject and measurement.subject not in host_side:
                continue  # a pair of GPUs, or a GPU that nobody knows
            device = host_side[measurement.subject] if measurement.subject else None
            key = (result.workload, result.engine, measurement.name, measurement.unit, device)
            found.setdefault(key, []).append(measurement.value)
    return tuple(
        ReferenceValue(workload=w, engine=e, name=n, unit=u, device=d, values=tuple(values))
        for (w, e, n, u, d), values in found.items()
    )


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
    measured = [value for value in reference_values(guest) if value.workload == workload]
    found = [
        _cost(None, Finding.NOT_COMPARABLE, spec.floor, other, detail="the guest has no such figure")
        for other in bare
        if other.device in guest.gpus and _counterpart(other, measured) is None
    ]
    for mine in measured:
        floor = spec.floors.get(mine.name, spec.floor)
        other = _counterpart(mine, bare)
        why = "" if other is not None else "the bare run has no such figure"
        if mine.device is None and not same_size:
            why = "a figure of the whole machine, of which this guest has a part"
        why = why if same_load else "the loads' parameters differ"
        if other is None or why:
            found.append(_cost(mine, Finding.NOT_COMPARABLE, floor, detail=why))
        elif min(len(mine.values), len(other.values)) < spec.least_runs:
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
    above, below = (other, mine) if mine.unit in LESS_IS_BETTER else (mine, other)
    if min(*above.values, *below.values) <= 0:
        return _cost(mine, Finding.NOT_COMPARABLE, floor, other, detail="a figure that is not above zero")
    ratio = statistics.median(above.values) / statistics.median(below.values)
    low, high = _interval(above.values, below.values, ratio)
    if low >= floor:
        finding = Finding.KEEPS
    elif high < floor:
        finding = Finding.LOSES
    else:
        finding = Finding.UNDECIDED
    return _cost(mine, finding, floor, other, ratio=ratio, bounds=(low, high))


def _interval(above: tuple[float, ...], below: tuple[float, ...], ratio: float) -> tuple[float, float]:
    """Bootstrap interval of the ratio of medians; the ratio itself where nothing varies.

    The percentile method, since BCa is undefined for the few and often equal values of a short run. The seed
    is fixed: a record judged again must say the same.
    """
    if len(set(above)) == len(set(below)) == 1:
        return ratio, ratio
    import numpy as np  # noqa: PLC0415  listing checks must not pay for it
    from scipy.stats import bootstrap  # noqa: PLC0415

    def medians(a: object, b: object, axis: int = -1) -> object:
        return np.median(np.asarray(a), axis=axis) / np.median(np.asarray(b), axis=axis)

    result = bootstrap(
        (np.array(above), np.array(below)),
        medians,
        confidence_level=_CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)
