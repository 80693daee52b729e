"""Every fault of evidence is seen by the check that must see it, and by no other."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import harness.faults
from harness.checks.registry import CHECKS, run_checks
from harness.config.files import list_names, load_profile
from harness.faults.base import Fault
from harness.faults.registry import FAULTS
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome, Severity, SubjectKind, Verdict
from harness.verdict import decide
from tests.faults import clean


def outcomes(evidence: Evidence) -> dict[str, set[Outcome | None]]:
    """Check id to everything that it said other than PASS."""
    _, cells = run_checks(evidence, clean.profile(), clean.HOST)
    found: dict[str, set[Outcome | None]] = {}
    for cell in cells:
        if cell.outcome is not Outcome.PASS:
            found.setdefault(cell.check, set()).add(cell.outcome)
    return found


def test_clean_evidence_passes_every_check_and_is_go() -> None:
    results, cells = run_checks(clean.evidence(), clean.profile(), clean.HOST)
    wrong = [(c.check, c.subject, c.outcome, c.reason) for c in cells if c.outcome is not Outcome.PASS]
    assert wrong == []
    assert {c.check for c in cells} == {check.id for check in CHECKS if not check.on_demand}
    decision = decide(results, cells, (), subject_kind=SubjectKind.HARDWARE, now="2026-11-22T00:10:00.000Z")
    assert decision.verdict is Verdict.GO


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_trips_its_check_and_nothing_else(fault: Fault) -> None:
    found = outcomes(fault.corrupt(clean.evidence()))
    assert fault.outcome in found.get(fault.must_trip, set())
    assert set(found) == {fault.must_trip, *fault.also}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_fault_never_leaves_go_when_its_check_is_a_blocker(fault: Fault) -> None:
    profile = clean.profile()
    results, cells = run_checks(fault.corrupt(clean.evidence()), profile, clean.HOST)
    decision = decide(results, cells, (), subject_kind=SubjectKind.HARDWARE, now="2026-11-22T00:10:00.000Z")
    blockers = {c for c in (fault.must_trip, *fault.also) if profile.checks[c] is Severity.BLOCKER}
    assert (decision.verdict is Verdict.GO) == (not blockers)


@pytest.mark.parametrize("name", list_names("profiles"))
def test_every_blocker_of_a_profile_has_a_fault(name: str) -> None:
    tripped = {fault.must_trip for fault in FAULTS}
    blockers = {c for c, severity in load_profile(name).checks.items() if severity is Severity.BLOCKER}
    assert blockers - tripped == set()


def test_faults_have_names_of_their_own_and_known_checks() -> None:
    ids = [fault.id for fault in FAULTS]
    assert len(ids) == len(set(ids))
    known = {check.id for check in CHECKS}
    assert {c for f in FAULTS for c in (f.must_trip, *f.also)} <= known


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_failure_says_what_to_do(fault: Fault) -> None:
    results, _ = run_checks(fault.corrupt(clean.evidence()), clean.profile(), clean.HOST)
    for result in results:
        if result.outcome is Outcome.FAIL:
            assert len(result.remedy) > 20
            assert result.message
            assert result.action.value != "NONE"


def test_each_module_of_faults_is_listed() -> None:
    folder = Path(harness.faults.__file__).parent
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"harness.faults.{path.stem}") if path.stem != "__init__" else None
        for fault in getattr(module, "FAULTS", ()):
            assert fault in FAULTS
