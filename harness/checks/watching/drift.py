"""How a figure changed over a run, with the interval of that: clocks through parts of loads, rates through
rounds.

The slope is Theil and Sen's, the median of those between all pairs of values, so that single slow rounds do
not make one. Only a change whose whole interval is beyond what is allowed is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.checks.watching.parts import FELL_SHARE, FIRST_SECONDS, FREE_TIME, Finding, track
from harness.model.evidence import GuestEvidence
from harness.model.outcome import Action, Measurement
from harness.model.pci import PciAddress
from harness.model.telemetry import Slice
from harness.verdict.ratio import LESS_IS_BETTER, RATES, weighed
from harness.verdict.ratio import Finding as Weighed

DRIFT_SHARE = 0.10
"""Of what it began with: a clock or rate may fall by that through a run, with nothing said to hold it back. A
card that warms up loses a few percent (SC'22, arXiv 2208.11035), and no more with the hours."""
CONFIDENCE = 0.95
LEAST_POINTS, LEAST_SECONDS = 6, 60.0
"""With fewer the interval says nothing, and in less time a card is still warming up."""
MOST_POINTS = 500
"""Of more, evenly drawn, the slopes between all pairs would take seconds and say the same."""
LEAST_ROUNDS = 3
"""On either side, where late rounds are laid beside the first ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Change from the first to the last value, as a share of what it was at first; negative: it fell."""

    what: str
    value: float
    low: float
    high: float
    """Bounds, 95 % confidence."""
    start: float
    end: float
    count: int

    @property
    def fell(self) -> bool:
        """Whether it fell by more than is allowed, for certain."""
        return self.high < -DRIFT_SHARE

    @property
    def said(self) -> str:
        """In words."""
        return f"{100 * self.value:+.1f} % ({100 * self.low:+.1f} to {100 * self.high:+.1f} %)"


def drift(what: str, points: Sequence[tuple[float, float]]) -> Drift | None:
    """How these values changed over their times (seconds); None where they are too few or too close."""
    taken = sorted(points)[:: -(-len(points) // MOST_POINTS) or 1]
    if len(taken) < LEAST_POINTS or taken[-1][0] - taken[0][0] < LEAST_SECONDS:
        return None
    from scipy.stats import theilslopes  # noqa: PLC0415  listing checks must not pay for it

    times, values = zip(*taken, strict=True)
    found = theilslopes(values, times, alpha=CONFIDENCE)
    level = float(found.intercept + found.slope * times[0])
    if level <= 0:
        return None
    share = (times[-1] - times[0]) / level
    return Drift(
        what=what,
        value=float(found.slope) * share,
        low=float(found.low_slope) * share,
        high=float(found.high_slope) * share,
        start=times[0],
        end=times[-1],
        count=len(taken),
    )


def clocks(seen: Sequence[Slice]) -> Drift | None:
    """Of the SM clock while nothing was said to hold it back: then it is the card's own, whatever ran."""
    free = track([part for part in seen if part.free >= FREE_TIME], lambda part: part.clock_free)
    return drift("the SM clock", [(part.start, value) for part, value in free.parts])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One rate of a load on one GPU, round by round; more is better."""

    name: str
    workload: str
    unit: str
    rounds: tuple[tuple[float, float], ...]
    """When a round began, in seconds, and its rate."""


def rates(guest: GuestEvidence, device: PciAddress | None) -> tuple[Rate, ...]:
    """What the loads of a guest measured on that GPU; what the processor computed says nothing of it."""
    alone = guest.request.gpus == 1
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for result in guest.results:
        if result.status != "done" or result.engine == "cpu" or result.started is None:
            continue
        if any(not answer.ok for answer in result.answers):
            continue  # the speed of a wrong answer is worth nothing
        for each in result.measurements:
            ours = each.subject == str(device) if each.subject else alone
            if not ours or each.value is None or each.value <= 0:
                continue
            if each.unit in (*RATES, *LESS_IS_BETTER):
                value = 1.0 / each.value if each.unit in LESS_IS_BETTER else each.value
                key = (result.workload, each.name, each.unit)
                found.setdefault(key, []).append((result.started, value))
    return tuple(
        Rate(name=name, workload=workload, unit=unit, rounds=tuple(sorted(rounds)))
        for (workload, name, unit), rounds in found.items()
    )


def slower(found: Sequence[Rate]) -> Drift | None:
    """The rate that fell most over the rounds."""
    return _worst([drift(f"{rate.name} of {rate.workload}", rate.rounds) for rate in found])


def _worst(found: Sequence[Drift | None]) -> Drift | None:
    return min((each for each in found if each is not None), key=lambda each: each.high, default=None)


_LOOK = (
    "look at clocks, power and temperature in the same minutes; if nothing holds this card back and the "
    "others keep their pace, replace it"
)


def drifting(*found: Drift | None) -> Iterator[Finding]:
    """Those that fell for certain."""
    for each in found:
        if each is not None and each.fell:
            yield Finding(
                said=f"{each.what} drifted by {each.said} from {each.start:.1f} s to {each.end:.1f} s",
                remedy=_LOOK,
                action=Action.RETEST,
            )


def worn(found: Sequence[Rate]) -> Iterator[Finding]:
    """A rate whose late rounds are behind those of its first minutes: a step down, which is no slope."""
    for rate in found:
        first = rate.rounds[0][0]
        early = tuple(value for at, value in rate.rounds if at < first + FIRST_SECONDS)
        early = early if len(early) >= LEAST_ROUNDS else tuple(v for _, v in rate.rounds[:LEAST_ROUNDS])
        late = tuple(v for _, v in rate.rounds[max(len(early), 2 * len(rate.rounds) // 3) :])
        if len(early) < LEAST_ROUNDS or len(late) < LEAST_ROUNDS:
            continue
        ratio = weighed(late, early, "1/s", FELL_SHARE)
        if ratio is not None and ratio.finding is Weighed.LOSES:
            yield Finding(
                said=f"{rate.name} of {rate.workload} was down to {ratio.value:.2f} ({ratio.low:.2f} to "
                f"{ratio.high:.2f}) of its first minutes in the last {len(late)} of {len(rate.rounds)} "
                f"rounds, from {rate.rounds[-len(late)][0]:.1f} s on",
                remedy=_LOOK,
                action=Action.RETEST,
            )
            return


def measured(name: str, found: Drift | None) -> tuple[Measurement, ...]:
    """The drift and its bounds in percent; nothing where there is none."""
    if found is None:
        return ()
    return (
        Measurement(name=name, value=round(100 * found.value, 2), unit="%"),
        Measurement(name=f"{name}_low", value=round(100 * found.low, 2), unit="%"),
        Measurement(
            name=f"{name}_high", value=round(100 * found.high, 2), unit="%", lower=-100 * DRIFT_SHARE
        ),
    )
