"""What every Clock does."""

from __future__ import annotations

import re

import pytest

from harness.backends.clock import SystemClock
from harness.ports import Clock
from tests.fakes import FakeClock


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_sleeping_moves_the_monotonic_clock_by_at_least_that_long(clock: Clock) -> None:
    before = clock.monotonic()
    clock.sleep(0.02)
    assert clock.monotonic() - before >= 0.02
    clock.sleep(-1)
    assert clock.monotonic() - before < 5


def test_now_is_utc_with_milliseconds(clock: Clock) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", clock.now())
