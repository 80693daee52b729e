"""Clocks and rates that fall over a run: judged by the interval of the fall, not by its middle."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checks.registry import run_checks
from harness.checks.watching.drift import Drift, drift, drifting, rates, slower, worn
from harness.model.evidence import GuestEvidence
from harness.model.outcome import Measurement, Outcome
from harness.model.pci import PciAddress
from tests.faults import clean

ROUNDS = 24


def _noisy(level: Callable[[float], float], noise: float, seed: int = 1) -> list[tuple[float, float]]:
    chance = random.Random(seed)  # noqa: S311 - a seed
    return [(60.0 * n, level(n / ROUNDS) * (1.0 + chance.gauss(0.0, noise))) for n in range(ROUNDS + 1)]


def _of(points: list[tuple[float, float]]) -> Drift:
    found = drift("it", points)
    assert found is not None
    return found


def test_a_steady_figure_does_not_drift() -> None:
    found = _of(_noisy(lambda _: 100.0, 0.02))
    assert not found.fell
    assert found.low < 0.0 < found.high


def test_one_that_falls_for_certain_is_found_with_its_interval() -> None:
    found = _of(_noisy(lambda share: 100.0 * (1.0 - 0.2 * share), 0.01))
    assert found.fell
    assert found.low <= -0.2 <= found.high
    assert found.value == pytest.approx(-0.2, abs=0.02)


def test_one_that_may_have_fallen_is_not() -> None:
    found = _of(_noisy(lambda share: 100.0 * (1.0 - 0.12 * share), 0.08))
    assert found.low < -0.1 < found.high
    assert not found.fell


def test_one_that_rises_is_not() -> None:
    assert not _of(_noisy(lambda share: 100.0 * (1.0 + share), 0.01)).fell


def test_single_slow_rounds_make_no_slope() -> None:
    points = _noisy(lambda _: 100.0, 0.005)
    points[-1], points[-2] = (points[-1][0], 20.0), (points[-2][0], 20.0)
    assert not _of(points).fell


def test_a_moment_or_a_few_values_have_no_drift() -> None:
    assert drift("it", [(float(n), 100.0 - n) for n in range(20)]) is None
    assert drift("it", [(60.0 * n, 100.0 - n) for n in range(5)]) is None


def _gpu(guest: GuestEvidence, place: int) -> PciAddress:
    assert guest.plan is not None
    return guest.plan.gpus[place].host


def _guest(level: Callable[[float], float], **changes: object) -> GuestEvidence:
    """A guest of the clean run whose last GPU's hashing goes on in rounds at these rates."""
    guest = next(g for g in clean.evidence().guests if g.request.gpus > 1)
    card = str(_gpu(guest, -1))
    result = next(r for r in guest.results if r.workload == "hashing")
    results = tuple(
        replace(
            result,
            key=f"hashing-{n}",
            round=n + 1,
            started=10.0 + at,
            ended=60.0 + at,
            measurements=(Measurement(name="hashing.md5.rate", value=rate, unit="GH/s", subject=card),),
            **changes,
        )
        for n, (at, rate) in enumerate(_noisy(level, 0.01))
    )
    return replace(guest, results=results)


def _falling(share: float) -> float:
    return 20.0 * (1.0 - 0.25 * share)


def _halved(share: float) -> float:
    return 20.0 if share < 0.5 else 14.0


def test_rates_are_those_of_the_gpu_alone() -> None:
    guest = _guest(_falling)
    assert rates(guest, _gpu(guest, 0)) == ()
    (rate,) = rates(guest, _gpu(guest, -1))
    assert (rate.name, rate.workload, len(rate.rounds)) == ("hashing.md5.rate", "hashing", ROUNDS + 1)


def test_what_the_processor_computed_says_nothing_of_the_gpu() -> None:
    guest = _guest(_falling, engine="cpu")
    assert rates(guest, _gpu(guest, -1)) == ()


@pytest.mark.parametrize(("level", "found"), [(_falling, True), (_halved, True), (lambda _: 20.0, False)])
def test_a_rate_that_falls_slowly_or_at_once_is_found(level: Callable[[float], float], found: bool) -> None:
    guest = _guest(level)
    seen = rates(guest, _gpu(guest, -1))
    assert bool([*drifting(slower(seen)), *worn(seen)]) is found


def test_a_card_whose_rate_falls_fails_with_the_interval_and_its_neighbours_do_not() -> None:
    evidence = clean.evidence()
    guest = _guest(_falling)
    changed = replace(evidence, guests=tuple(guest if g.name == guest.name else g for g in evidence.guests))
    _, cells = run_checks(changed, clean.profile(), clean.HOST)
    said = [c for c in cells if c.check == "gpu.work" and c.outcome is not Outcome.PASS]
    assert [str(_gpu(guest, -1)) in c.subject for c in said] == [True]
    assert "hashing.md5.rate of hashing drifted by -2" in said[0].reason
