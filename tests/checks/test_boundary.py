"""A defect in one check is that check's ERROR, in words; every other check is asked all the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.checks import engine
from harness.checks.base import Case, Check, Phase, Scope, Subject
from harness.model.inventory import VirtualizationSpec
from harness.model.outcome import CheckResult, Measurement, Outcome, Severity
from tests.faults import clean


def fine(_case: Case, subject: Subject) -> CheckResult:
    return CheckResult(check="", subject=subject.name, outcome=Outcome.PASS, message="well")


def divides(_case: Case, _subject: Subject) -> CheckResult:
    raise ZeroDivisionError("division by zero")


def recurses(case: Case, subject: Subject) -> CheckResult:
    return recurses(case, subject)


def fills(_case: Case, _subject: Subject) -> CheckResult:
    raise MemoryError


def asserts(_case: Case, _subject: Subject) -> CheckResult:
    raise AssertionError


def measures(value: float) -> Callable[[Case, Subject], CheckResult]:
    def judge(case: Case, subject: Subject) -> CheckResult:
        return replace(
            fine(case, subject), measurements=(Measurement(name="m", value=value, unit="1", lower=1.0),)
        )

    return judge


def check(name: str, judge: Callable[[Case, Subject], CheckResult], scope: Scope = Scope.HOST) -> Check:
    return Check(id=name, title="t", why="w", scope=scope, phase=Phase.READINESS, judge=judge)


BROKEN = [divides, recurses, fills, asserts, measures(math.nan), measures(math.inf), measures(-math.inf)]


@pytest.mark.parametrize("judge", BROKEN)
def test_it_is_an_error_and_the_next_check_is_asked(judge: Callable[[Case, Subject], CheckResult]) -> None:
    checks = (check("a.broken", judge), check("a.fine", fine))
    profile = replace(clean.profile(), checks={"a.broken": Severity.BLOCKER, "a.fine": Severity.BLOCKER})
    results, cells = engine.run(checks, clean.evidence(), profile, clean.HOST)
    assert [result.outcome for result in results] == [Outcome.ERROR, Outcome.PASS]
    assert [cell.outcome for cell in cells] == [Outcome.ERROR, Outcome.PASS]
    assert "internal error of Shakedown" in results[0].message
    assert "report it" in results[0].remedy
    result, cell = engine.ask(checks[0], "host", clean.evidence(), profile, clean.HOST)
    assert result is not None
    assert cell is not None
    assert (result.outcome, cell.outcome) == (Outcome.ERROR, Outcome.ERROR)


@pytest.mark.parametrize("scope", [Scope.GPU, Scope.GUEST, Scope.GUEST_GPU, Scope.GUEST_WORKLOAD])
def test_evidence_that_hides_the_subjects_is_an_error_of_the_checks_about_them(scope: Scope) -> None:
    """A record that no run of ours could have written: the guests' field holds something else."""
    wrong = replace(clean.evidence(), guests=(None,), facts=replace(clean.facts(), pci_devices=(None,)))  # type: ignore[arg-type]
    checks = (check("a.about", fine, scope), check("a.fine", fine))
    profile = replace(clean.profile(), checks={"a.about": Severity.BLOCKER, "a.fine": Severity.BLOCKER})
    results, cells = engine.run(checks, wrong, profile, clean.HOST)
    assert [result.outcome for result in results] == [Outcome.ERROR, Outcome.PASS]
    assert len(cells) == 2


@pytest.mark.parametrize("least", [1, 0, -5])
def test_one_value_decides_nothing_whatever_a_profile_says(least: int) -> None:
    from harness.verdict.ratio import LEAST_RUNS

    assert max(LEAST_RUNS, VirtualizationSpec(least_runs=least).least_runs) == 2
