"""Coverage: covered time and gaps make up the load, and fewer samples never cover more."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.evidence import WorkloadResult
from harness.model.telemetry import Gap, LoadWindow
from harness.telemetry.gpu.gaps import coverage, under_load, union, windows

moments = st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 2))
times = st.lists(moments, max_size=40).map(sorted)
loads = st.lists(st.tuples(moments, moments), max_size=5).map(
    lambda pairs: union(LoadWindow(workload="w", key="k", start=min(p), end=max(p)) for p in pairs)
)
gaps = st.floats(0.01, 20, allow_nan=False)


@given(times, loads, gaps)
def test_covered_time_and_gaps_make_up_the_load(
    at: list[float], load: tuple[tuple[float, float], ...], longest: float
) -> None:
    found = coverage(at, load, longest)
    assert found.load == pytest.approx(sum(end - start for start, end in load))
    assert found.covered + sum(gap.seconds for gap in found.gaps) == pytest.approx(found.load, abs=1e-6)
    for gap in found.gaps:
        assert gap.seconds > 0
        assert any(start <= gap.start and gap.end <= end for start, end in load)
    ordered = [moment for gap in found.gaps for moment in (gap.start, gap.end)]
    assert ordered == sorted(ordered)


@given(times, loads, gaps, st.randoms(use_true_random=False))
def test_samples_that_are_lost_never_raise_coverage(
    at: list[float], load: tuple[tuple[float, float], ...], longest: float, chance: random.Random
) -> None:
    fewer = [moment for moment in at if chance.random() < 0.7]
    assert coverage(fewer, load, longest).covered <= coverage(at, load, longest).covered + 1e-9


@given(times, loads, gaps)
def test_the_seconds_of_single_samples_add_up_to_what_is_covered(
    at: list[float], load: tuple[tuple[float, float], ...], longest: float
) -> None:
    weights = under_load(at, load, longest)
    assert len(weights) == len(at)
    covered = coverage(at, load, longest).covered
    assert sum(weight for weight in weights if weight > 0) == pytest.approx(covered, abs=1e-6)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ([], [(10.0, 20.0)]),
        ([15.0], [(10.0, 20.0)]),
        ([9.0, 11.0, 13.0, 15.0, 17.0, 19.0, 21.0], []),
        ([10.0, 12.0, 18.0, 20.0], [(12.0, 18.0)]),
        ([12.0, 14.0], [(10.0, 12.0), (14.0, 20.0)]),
        ([9.0, 21.0], [(10.0, 20.0)]),
        ([1.0, 2.0, 30.0, 31.0], [(10.0, 20.0)]),
    ],
)
def test_nothing_is_interpolated(at: list[float], expected: list[tuple[float, float]]) -> None:
    found = coverage(at, ((10.0, 20.0),), 2.0)
    assert found.gaps == tuple(Gap(start=start, end=end) for start, end in expected)


def test_loads_that_overlap_are_one_time_under_load() -> None:
    pairs = [(5.0, 9.0), (1.0, 3.0), (2.0, 4.0), (7.0, 8.0), (9.0, 9.0)]
    found = union(LoadWindow(workload="w", key="k", start=start, end=end) for start, end in pairs)
    assert found == ((1.0, 4.0), (5.0, 9.0))


def test_the_window_of_a_load_is_when_it_ran() -> None:
    def result(**values: float | None) -> WorkloadResult:
        return WorkloadResult(workload="tensor", guest="g", engine="cuda", key="k", status="done", **values)  # type: ignore[arg-type]

    known = result(started=10.0, ended=20.0)
    only_length = result(started=10.0, ended=None, seconds=5.0)
    unknown = [result(), result(started=10.0), result(started=10.0, ended=9.0)]
    found = windows([known, only_length, *unknown])
    assert [(w.start, w.end) for w in found] == [(10.0, 20.0), (10.0, 15.0)]
