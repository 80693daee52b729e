"""Looking again: at least once, once more at the end, and never longer than asked."""

from __future__ import annotations

import pytest

from harness.polling import wait_for
from tests.fakes import FakeClock


@pytest.mark.parametrize(("found_at", "looks"), [(0, 1), (3, 4), (10, 11)])
def test_it_ends_as_soon_as_something_is_there(found_at: int, looks: int) -> None:
    clock, asked = FakeClock(), []
    began = clock.monotonic()

    def look() -> str | None:
        asked.append(clock.monotonic() - began)
        return "there" if asked[-1] >= found_at else None

    assert wait_for(look, seconds=10, every=1, clock=clock) == "there"
    assert len(asked) == looks


def test_after_its_time_it_has_looked_once_more_and_found_nothing() -> None:
    clock, paused = FakeClock(), []
    began = clock.monotonic()
    asked: list[float] = []
    found = wait_for(
        lambda: asked.append(clock.monotonic() - began),
        seconds=2.5,
        every=1,
        clock=clock,
        waiting=lambda: paused.append(1),
    )
    assert found is None
    assert asked == [0, 1, 2, 3]
    assert len(paused) == 3


def test_without_time_it_looks_once() -> None:
    asked: list[int] = []
    assert wait_for(lambda: asked.append(1), seconds=0, every=1) is None
    assert asked == [1]
