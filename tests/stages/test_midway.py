"""The middle of a burn comes once, beside a load if one runs then."""

from __future__ import annotations

import pytest

from harness.stages.guest.midway import Midway
from tests.fakes import FakeClock


@pytest.mark.parametrize(("loads", "at"), [(1, 1), (2, 1), (3, 2), (8, 4)])
def test_half_of_the_loads_is_the_middle_of_a_burn_without_a_time(loads: int, at: int) -> None:
    called: list[int] = []
    started: list[int] = []
    midway = Midway(lambda: called.append(len(started)), FakeClock(), seconds=0.0, loads=loads)
    for number in range(loads):
        started.append(number)
        midway.load_starts()
        midway.pass_by()
        midway.pass_by()
    assert called == [at]


def test_half_of_the_time_is_the_middle_of_a_burn_however_often_its_loads_come_round() -> None:
    clock = FakeClock()
    called: list[float] = []
    midway = Midway(lambda: called.append(clock.monotonic()), clock, seconds=100.0, loads=2)
    begun = clock.monotonic()
    for _ in range(12):
        midway.load_starts()
        midway.pass_by()
        clock.sleep(9.0)
    assert [at - begun for at in called] == [54.0]
