"""Two sides of one figure as a ratio: which measurements can be compared, and what the ratio decides.

The ratio is that of the medians, turned so that more is better. With its bootstrap interval three answers are
possible: clearly enough, clearly too little, or not yet decided.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum

from harness.model.evidence import GuestEvidence, ReferenceValue
from harness.model.pci import PciAddress

LESS_IS_BETTER = ("s", "ms", "us", "ns")
"""Units of times: shorter is better."""
RATES = ("1/s", "GB/s", "MB/s", "TFLOP/s", "GFLOP/s", "GH/s", "MH/s", "H/s", "Gbit/s")
"""Units of rates. Anything else (counts, shares, temperatures) says nothing of speed."""
NOT_ABOVE_ZERO = "a value that is not above zero"
"""Why there is no ratio of two figures that both sides have."""

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
class Ratio:
    """A ratio with its interval, held to a floor."""

    value: float
    """Above 1: this side does better than the other."""
    low: float
    high: float
    """Bounds, 95 % confidence (percentile bootstrap)."""
    finding: Finding
    """KEEPS, LOSES or UNDECIDED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of a guest against the same elsewhere."""

    name: str
    unit: str
    device: PciAddress | None
    """The guest's GPU on the candidate host; None for a figure of the whole guest."""
    finding: Finding
    floor: float
    ratio: float | None = None
    """Above 1: the guest does better; 1: as well. None when there is nothing to compare."""
    low: float | None = None
    high: float | None = None
    """Bounds of the ratio, 95 % confidence (percentile bootstrap); None with too few values."""
    runs: tuple[int, int] = (0, 0)
    """Values of the guest, and of what it is compared with."""
    detail: str = ""
    """Why it cannot be compared, or what else is to be known of the comparison."""


def values_of(guest: GuestEvidence) -> tuple[ReferenceValue, ...]:
    """Every rate and time that the loads of a guest or bare machine measured, by load, name and GPU."""
    cards = {str(host): host for host in guest.gpus}
    found: dict[tuple[str, str, str, str, PciAddress | None], list[float]] = {}
    for result in guest.results:
        if result.status != "done" or any(not answer.ok for answer in result.answers):
            continue  # the speed of a wrong answer is worth nothing
        for measurement in result.measurements:
            value = measurement.value
            if value is None or not math.isfinite(value):
                continue
            if measurement.unit not in (*RATES, *LESS_IS_BETTER):
                continue
            if measurement.subject and measurement.subject not in cards:
                continue  # a pair of GPUs, or a GPU that nobody knows
            device = cards[measurement.subject] if measurement.subject else None
            key = (result.workload, result.engine, measurement.name, measurement.unit, device)
            found.setdefault(key, []).append(value)
    return tuple(
        ReferenceValue(workload=w, engine=e, name=n, unit=u, device=d, values=tuple(values))
        for (w, e, n, u, d), values in found.items()
    )


LEAST_RUNS = 2
"""Values that either side must have, whatever a profile says: one has no interval, so it decides nothing."""


def ratio(mine: tuple[float, ...], other: tuple[float, ...], unit: str) -> float | None:
    """The ratio of the medians, above 1 where this side does better; None when it cannot be said.

    That is so without a value on either side, and with one that is not above zero: no rate and no time is.
    """
    if not mine or not other or min(*mine, *other) <= 0:
        return None
    above, below = _turned(mine, other, unit)
    found = statistics.median(above) / statistics.median(below)
    return found if math.isfinite(found) else None


def weighed(mine: tuple[float, ...], other: tuple[float, ...], unit: str, floor: float) -> Ratio | None:
    """The ratio with its interval against the least that it must be; None as of ``ratio``."""
    value = ratio(mine, other, unit)
    if value is None:
        return None
    low, high = _interval(*_turned(mine, other, unit), value)
    if low >= floor:
        finding = Finding.KEEPS
    elif high < floor:
        finding = Finding.LOSES
    else:
        finding = Finding.UNDECIDED
    return Ratio(value=value, low=low, high=high, finding=finding)


def _turned(
    mine: tuple[float, ...], other: tuple[float, ...], unit: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What stands above and below the line, so that more is better."""
    return (other, mine) if unit in LESS_IS_BETTER else (mine, other)


def _interval(above: tuple[float, ...], below: tuple[float, ...], value: float) -> tuple[float, float]:
    """Bootstrap interval of the ratio of medians; the ratio itself where nothing varies.

    The percentile method, since BCa is undefined for the few and often equal values of a short run. The seed
    is fixed: a record judged again must say the same.
    """
    if len(set(above)) == len(set(below)) == 1:
        return value, value
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
