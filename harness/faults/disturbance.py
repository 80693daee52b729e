"""Guests that cost each other speed, and runs that cannot tell whether they do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.errors import ConfigError
from harness.faults.base import Fault
from harness.model.evidence import Evidence, WorkloadResult
from harness.verdict.disturbance import beside_others
from harness.verdict.ratio import LESS_IS_BETTER, RATES

_SHARE = 0.8
"""Of its speed that a disturbed guest keeps: well below the floor beside neighbours, and above what a GPU's
model has to reach, which such a guest may still do."""


def _beside(
    evidence: Evidence, change: Callable[[tuple[WorkloadResult, ...]], tuple[WorkloadResult, ...]]
) -> Evidence:
    """The evidence with the results of the guests that lived beside others changed."""
    names = {guest.name for guest in beside_others(evidence)}
    if not names:
        raise ConfigError("no guest of this evidence had neighbours, so nothing can disturb it")
    guests = tuple(
        replace(guest, results=change(guest.results)) if guest.name in names else guest
        for guest in evidence.guests
    )
    return replace(evidence, guests=guests)


def _slowed(results: tuple[WorkloadResult, ...]) -> tuple[WorkloadResult, ...]:
    """Rates at a share of what they were, times longer by as much."""
    factors = dict.fromkeys(RATES, _SHARE) | dict.fromkeys(LESS_IS_BETTER, 1 / _SHARE)
    return tuple(
        replace(
            result,
            measurements=tuple(
                m if m.value is None else replace(m, value=m.value * factors.get(m.unit, 1.0))
                for m in result.measurements
            ),
        )
        for result in results
    )


def _once(results: tuple[WorkloadResult, ...]) -> tuple[WorkloadResult, ...]:
    return tuple(result for result in results if result.round == 1)


FAULTS = (
    Fault(
        id="disturbed-by-neighbours",
        title="Guests are slower while their neighbours are loaded",
        must_trip="tenants.disturbance",
        corrupt=lambda e: _beside(e, _slowed),
    ),
    Fault(
        id="one-round-beside-neighbours",
        title="Guests beside others measured one round only, which is too few",
        must_trip="tenants.disturbance",
        corrupt=lambda e: _beside(e, _once),
        outcome=None,
    ),
    Fault(
        id="nobody-beside-anybody",
        title="Guests that should run at the same time ran one after the other",
        must_trip="tenants.disturbance",
        corrupt=lambda e: replace(e, guests=tuple(replace(guest, group="") for guest in e.guests)),
        outcome=None,
    ),
)
