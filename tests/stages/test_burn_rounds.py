"""Rounds of a burn: as many as the check of its length wants to see, whatever the machine is busy with."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.evidence import WorkloadResult
from harness.model.outcome import Outcome
from harness.stages.guest.burn import another_round
from tests.checks.test_telemetry_checks import burnt

LOAD = WorkloadResult(workload="hashing", guest="g", engine="cpu", key="k", status="done")


def _played(due: float, seconds: float, before: float, after: float) -> list[tuple[float, float]]:
    """Loads of so many seconds, each started ``before`` seconds late and heard of ``after`` seconds later."""
    clock, results = 0.0, []
    while not results or another_round(results, clock, due):
        started = clock + before
        clock = started + seconds + after
        results.append(dataclasses.replace(LOAD, started=1000.0 + started, ended=1000.0 + started + seconds))
    return [(r.started or 0.0, r.ended or 0.0) for r in results]


@pytest.mark.parametrize("due", [20.0, 100.0, 14400.0])
@pytest.mark.parametrize(("before", "after"), [(0.1, 0.1), (3.0, 1.0), (0.5, 4.0)])
def test_a_busy_machine_ends_no_burn_early(due: float, before: float, after: float) -> None:
    """The seconds before the first load and after the last one are none of the burn."""
    windows = _played(due, 30.0, before, after)
    assert windows[-1][1] - windows[0][0] >= due
    assert windows[-2:][0][1] - windows[0][0] < due + 30.0 + before + after
    assert burnt(*windows, due=due)[0] is Outcome.PASS


@given(
    due=st.floats(1.0, 2000.0),
    seconds=st.floats(1.0, 300.0),
    before=st.floats(0.0, 60.0),
    after=st.floats(0.0, 60.0),
)
def test_however_long_loads_and_their_starts_take_it_lasts_as_long_as_demanded(
    due: float, seconds: float, before: float, after: float
) -> None:
    windows = _played(due, seconds, before, after)
    assert windows[-1][1] - windows[0][0] >= due


def test_idle_time_between_loads_is_still_told() -> None:
    """More rounds do not make up for a card that was left idle in between."""
    assert burnt(*_played(100.0, 5.0, 2.0, 2.0), due=100.0)[0] is Outcome.ERROR


def test_without_a_demand_there_is_one_round() -> None:
    assert len(_played(0.0, 5.0, 1.0, 1.0)) == 1


@pytest.mark.parametrize(
    ("times", "spent", "more"),
    [
        ((None, None), 99.0, True),
        ((None, None), 100.0, False),
        ((5.0, 5.0), 100.0, True),
        ((5.0, 5.0), 549.0, True),
        ((5.0, 5.0), 550.0, False),
        ((0.0, 500.0), 99.0, True),
    ],
)
def test_clocks_that_stand_still_or_run_ahead_decide_nothing_alone(
    times: tuple[float | None, float | None], spent: float, more: bool
) -> None:
    result = dataclasses.replace(LOAD, started=times[0], ended=times[1])
    assert another_round([result], spent, 100.0) is more
