"""Neighbours as a check: a loss is a FAIL, a PASS needs figures that decide, and anything else is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks.registry import run_checks
from harness.config.files import load_host, load_profile
from harness.errors import ConfigError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.inventory import DisturbanceSpec, Profile
from harness.model.outcome import CheckResult, Measurement, Outcome, Severity
from tests.verdict.test_disturbance import GPUS, NEIGHBOUR, RATE, a_guest, a_run, beside

PROFILE = replace(load_profile("smoke"), checks={"tenants.disturbance": Severity.BLOCKER})
ALONE = a_guest("alone", 100.0, 100.0, 100.0)


def judged(run: Evidence, spec: DisturbanceSpec | None = None) -> tuple[CheckResult | None, str]:
    """The result, if there is one, and why the cell is no PASS."""
    profile: Profile = replace(PROFILE, disturbance=spec or PROFILE.disturbance)
    results, (cell,) = run_checks(run, profile, load_host("lab"))
    assert cell.subject == "host"
    assert (cell.outcome is None) == (not results)
    return (results[0] if results else None), cell.reason


def pair(*values: float | None) -> tuple[GuestEvidence, GuestEvidence]:
    return beside(*values), NEIGHBOUR


def test_a_guest_that_keeps_its_speed_passes() -> None:
    result, _ = judged(a_run(ALONE, *pair(95.0, 95.0, 95.0)))
    assert result is not None
    assert result.outcome is Outcome.PASS
    assert "1 measurements hold beside neighbours; the lowest: left, pcie.h2d on 0000:41:00.0: 0.950" in (
        result.message
    )
    assert "no equal guest ran alone" not in result.message


def test_a_guest_that_does_not_fails_with_its_load_figure_ratio_floor_and_neighbours() -> None:
    result, _ = judged(a_run(ALONE, *pair(50.0, 50.0, 50.0)))
    assert result is not None
    assert result.outcome is Outcome.FAIL
    for words in ("left beside right", RATE, "0.500 of that alone", "at least 0.9"):
        assert words in result.message
    assert "PCIe switch" in result.remedy
    assert result.measurements == (
        Measurement(name="disturbance.pcie.h2d", value=0.5, unit="1", lower=0.9, subject="left/0000:41:00.0"),
    )


def test_one_figure_that_is_lost_fails_whatever_else_is_missing() -> None:
    d2h = a_guest("more", 1.0, name="pcie.d2h").results
    slow = beside(50.0, 50.0, 50.0)
    result, _ = judged(a_run(ALONE, replace(slow, results=(*slow.results, *d2h)), NEIGHBOUR))
    assert result is not None
    assert result.outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (a_run(), "no guest of this run had neighbours"),
        (a_run(ALONE, a_guest("b", 1.0, gpu=GPUS[1])), "no guest of this run had neighbours"),
        (a_run(*pair(1.0)), "no guest equal to left, right ran alone"),
        (a_run(ALONE, *pair()), "left, pcie (pcie.h2d: not measured beside neighbours)"),
        (a_run(a_guest("alone"), *pair(1.0)), "left, pcie (pcie.h2d: not measured alone)"),
        (a_run(a_guest("alone"), *pair()), "no common load measured a rate"),
        (a_run(ALONE, *pair(95.0)), "1 values beside, 3 alone"),
        (a_run(ALONE, *pair(50.0)), "too few values to decide"),
        (a_run(ALONE, *pair(80.0, 90.0, 100.0)), "95 % between 0.800 and 1.000, at least 0.9"),
        (
            a_run(ALONE, beside(95.0, 95.0, 95.0), replace(NEIGHBOUR, results=())),
            "its neighbour right ran no load",
        ),
    ],
)
def test_what_was_not_compared_or_not_well_enough_is_missing(run, why) -> None:
    result, reason = judged(run)
    assert result is None
    assert why in reason


def test_a_load_of_which_nothing_was_compared_hides_behind_no_other() -> None:
    vram = a_guest("more", 5.0, 5.0, 5.0, name="vram.bandwidth", workload="vram").results
    both = [replace(guest, workloads=("pcie", "vram")) for guest in (ALONE, beside(99.0, 99.0, 99.0))]
    _, reason = judged(a_run(replace(both[0], results=(*both[0].results, *vram)), both[1], NEIGHBOUR))
    assert "nothing to compare for left, vram (vram.bandwidth: not measured beside" in reason


def test_a_guest_that_the_profile_gives_no_counterpart_is_named_and_hinders_nobody() -> None:
    wider = replace(NEIGHBOUR, request=replace(NEIGHBOUR.request, gpus=2))
    result, _ = judged(a_run(ALONE, beside(99.0, 99.0, 99.0), wider))
    assert result is not None
    assert result.outcome is Outcome.PASS
    assert result.message.endswith("no equal guest ran alone: right")


def test_a_floor_that_meets_no_figure_guards_nothing() -> None:
    run = a_run(ALONE, *pair(99.0, 99.0, 99.0))
    result, _ = judged(run, DisturbanceSpec(floors={"pcie.h2d": 0.95}))
    assert result is not None
    assert result.outcome is Outcome.PASS
    result, _ = judged(run, DisturbanceSpec(floors={"pcie.both": 0.95}))
    assert result is not None
    assert (result.outcome, "pcie.both" in result.message) == (Outcome.ERROR, True)


def test_a_profile_sets_the_floors_and_no_other_mode_asks(tmp_path) -> None:
    path = tmp_path / "p.yaml"
    text = "name: p\nbased_on: {}\nchecks: {{tenants.disturbance: blocker}}\n"
    path.write_text(
        text.format("smoke") + "disturbance: {floor: 0.8, floors: {pcie.h2d: 1}, least_runs: 5}\n"
    )
    spec = load_profile(path).disturbance
    assert spec == DisturbanceSpec(floor=0.8, floors={"pcie.h2d": 1.0}, least_runs=5)
    path.write_text(text.format("bare"))
    with pytest.raises(ConfigError, match="cannot be asked in attach mode bare"):
        load_profile(path)
