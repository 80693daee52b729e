"""The verdict follows DESIGN §1 to the letter, and nothing passes by not running."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.model.evidence import StageError
from harness.model.inventory import Waiver
from harness.model.outcome import CheckResult, CoverageCell, Outcome, Severity, SubjectKind, Verdict
from harness.verdict import NO_SUBJECT, decide

NOW = "2026-03-10T12:00:00.000Z"
RANK = {Verdict.GO: 3, Verdict.GO_WITH_WAIVERS: 2, Verdict.INCONCLUSIVE: 1, Verdict.NO_GO: 0}


def result(check: str, outcome: Outcome, subject: str = "host", message: str = "") -> CheckResult:
    return CheckResult(
        check=check, subject=subject, outcome=outcome, message=message or f"{check} said {outcome.value}"
    )


def cell(
    check: str,
    subject: str = "host",
    severity: Severity = Severity.BLOCKER,
    outcome: Outcome | None = None,
    reason: str = "",
) -> CoverageCell:
    return CoverageCell(check=check, subject=subject, severity=severity, outcome=outcome, reason=reason)


def waiver(check_id: str, **changes: object) -> Waiver:
    values: dict[str, object] = {
        "id": f"w-{check_id}",
        "check": check_id,
        "owner": "lab team",
        "reason": "known",
        "expires": "2026-03-10",
    }
    return Waiver(**(values | changes))  # type: ignore[arg-type]


def verdict_of(results, planned, waivers=(), **more):
    more.setdefault("subject_kind", SubjectKind.LAB)
    more.setdefault("now", NOW)
    return decide(tuple(results), tuple(planned), tuple(waivers), **more)


def test_all_required_checks_passing_is_go():
    decision = verdict_of([result("a", Outcome.PASS), result("b", Outcome.PASS)], [cell("a"), cell("b")])
    assert decision.verdict is Verdict.GO
    assert decision.reasons == ()
    assert [c.outcome for c in decision.coverage] == [Outcome.PASS, Outcome.PASS]


def test_nothing_planned_is_never_go():
    decision = verdict_of([result("a", Outcome.PASS)], [])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "no check was required" in decision.reasons[0]


def test_only_advisory_checks_planned_is_never_go():
    assert verdict_of([result("a", Outcome.PASS)], [cell("a", severity=Severity.ADVISORY)]).verdict is (
        Verdict.INCONCLUSIVE
    )


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.SKIP, None])
def test_a_required_check_without_a_real_answer_is_inconclusive(outcome):
    results = [result("b", Outcome.PASS)] + ([result("a", outcome)] if outcome else [])
    decision = verdict_of(results, [cell("a", reason="facts are missing"), cell("b")])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons[0].startswith("a on host")
    if outcome is None:
        assert "facts are missing" in decision.reasons[0]


def test_a_planned_outcome_without_a_result_counts_as_missing():
    """A cell that claims PASS by itself is not evidence."""
    decision = verdict_of([], [cell("a", outcome=Outcome.PASS)])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.coverage[0].outcome is None


def test_a_required_fail_wins_over_missing_and_interrupted():
    decision = verdict_of([result("a", Outcome.FAIL)], [cell("a"), cell("b")], interrupted=True)
    assert decision.verdict is Verdict.NO_GO
    assert decision.reasons[0].startswith("a on host failed")
    assert "the run was interrupted" in decision.reasons


def test_an_interrupted_run_with_all_checks_passing_is_inconclusive():
    assert verdict_of([result("a", Outcome.PASS)], [cell("a")], interrupted=True).verdict is (
        Verdict.INCONCLUSIVE
    )


def test_a_stage_error_is_inconclusive_and_named():
    error = StageError(stage="provision", kind="ProvisionError", message="no space left")
    decision = verdict_of([result("a", Outcome.PASS)], [cell("a")], errors=(error,))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons == ("stage provision failed: no space left",)


def test_a_waived_fail_is_go_with_waivers():
    decision = verdict_of([result("a", Outcome.FAIL)], [cell("a")], [waiver("a")])
    assert decision.verdict is Verdict.GO_WITH_WAIVERS
    assert decision.waivers_used == ("w-a",)
    assert decision.coverage[0].waived_by == "w-a"
    assert decision.waivers_unused == ()


def test_one_waived_and_one_unwaived_subject_is_no_go():
    planned = [cell("a", "0000:41:00.0"), cell("a", "0000:81:00.0")]
    results = [result("a", Outcome.FAIL, c.subject) for c in planned]
    decision = verdict_of(results, planned, [waiver("a", subject="0000:41:*")])
    assert decision.verdict is Verdict.NO_GO
    assert [c.waived_by for c in decision.coverage] == ["w-a", ""]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"expires": "2026-03-09"}, "expired"),
        ({"expires": "soon"}, "not a date"),
        ({"owner": "  "}, "owner"),
        ({"reason": ""}, "reason"),
        ({"subject_kinds": (SubjectKind.HARDWARE,)}, "hardware"),
        ({"subject": "guest*"}, "matches no planned check"),
        ({"check": "b"}, "matches no planned check"),
    ],
)
def test_a_waiver_that_does_not_hold_carries_nothing_and_is_listed(changes, why):
    decision = verdict_of([result("a", Outcome.FAIL)], [cell("a")], [waiver("a", **changes)])
    assert decision.verdict is Verdict.NO_GO
    assert decision.waivers_used == ()
    assert why in decision.waivers_unused[0]


def test_a_waiver_still_holds_on_the_day_of_its_expiry_in_utc():
    late = "2026-03-10T23:59:59+00:00"
    assert verdict_of([result("a", Outcome.FAIL)], [cell("a")], [waiver("a")], now=late).verdict is (
        Verdict.GO_WITH_WAIVERS
    )
    westward = "2026-03-10T20:30:00-05:00"  # already the 11th in UTC
    assert verdict_of([result("a", Outcome.FAIL)], [cell("a")], [waiver("a")], now=westward).verdict is (
        Verdict.NO_GO
    )


def test_an_unreadable_end_of_run_voids_every_waiver():
    decision = verdict_of([result("a", Outcome.FAIL)], [cell("a")], [waiver("a")], now="yesterday")
    assert decision.verdict is Verdict.NO_GO


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.SKIP, None])
def test_missing_skipped_and_errored_checks_are_never_waived(outcome):
    results = [result("a", outcome)] if outcome else []
    decision = verdict_of(results, [cell("a")], [waiver("a")])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert "never waived" in decision.waivers_unused[0]


def test_a_waiver_does_not_carry_an_error_beside_the_fail():
    decision = verdict_of([result("a", Outcome.FAIL), result("a", Outcome.ERROR)], [cell("a")], [waiver("a")])
    assert decision.verdict is Verdict.INCONCLUSIVE


def test_a_waiver_for_a_passing_check_is_reported_as_unneeded():
    decision = verdict_of([result("a", Outcome.PASS)], [cell("a")], [waiver("a")])
    assert decision.verdict is Verdict.GO
    assert "no longer needed" in decision.waivers_unused[0]


def test_duplicate_results_the_worst_wins_in_any_order():
    for pair in ([Outcome.PASS, Outcome.FAIL], [Outcome.FAIL, Outcome.PASS]):
        assert verdict_of([result("a", o) for o in pair], [cell("a")]).verdict is Verdict.NO_GO


def test_a_cell_planned_twice_is_a_blocker_if_either_says_so():
    planned = [cell("a", severity=Severity.ADVISORY), cell("a")]
    decision = verdict_of([result("a", Outcome.FAIL)], planned)
    assert decision.verdict is Verdict.NO_GO
    assert len(decision.coverage) == 1


def test_results_that_were_not_planned_are_shown_and_never_help():
    decision = verdict_of([result("a", Outcome.PASS), result("x", Outcome.FAIL)], [cell("b")])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons[-1].startswith("not planned, no effect on the verdict: x on host failed")


def test_an_advisory_fail_is_reported_and_does_not_decide():
    planned = [cell("a"), cell("b", severity=Severity.ADVISORY)]
    decision = verdict_of([result("a", Outcome.PASS), result("b", Outcome.FAIL)], planned, [waiver("b")])
    assert decision.verdict is Verdict.GO
    assert decision.reasons[0].startswith("advisory: b on host failed")
    assert "advisory" in decision.waivers_unused[0]


def test_a_required_check_with_no_subject_at_all_is_missing():
    """Zero GPUs is not a healthy set of GPUs."""
    decision = verdict_of([result("a", Outcome.PASS)], [cell("a")], required=["a", "gpu.reset"])
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.coverage[-1].check == "gpu.reset"
    assert decision.coverage[-1].subject == NO_SUBJECT


CHECKS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.sampled_from(["host", "g1", "g1/0000:41:00.0"])
CELLS = st.lists(st.builds(cell, CHECKS, SUBJECTS, st.sampled_from(list(Severity))), max_size=6)
RESULTS = st.lists(st.builds(result, CHECKS, st.sampled_from(list(Outcome)), SUBJECTS), max_size=8)
WAIVERS = st.lists(st.builds(waiver, CHECKS, subject=st.sampled_from(["*", "g1*", "host"])), max_size=3)


@given(CELLS, RESULTS, WAIVERS, RESULTS)
@settings(max_examples=300, deadline=None)
def test_adding_a_fail_never_improves_the_verdict(planned, results, waivers, more):
    before = verdict_of(results, planned, waivers).verdict
    fails = [result(r.check, Outcome.FAIL, r.subject) for r in more]
    after = verdict_of([*results, *fails], planned, waivers).verdict
    # A FAIL may answer what was missing (INCONCLUSIVE to GO_WITH_WAIVERS by a waiver that names it); it
    # never makes a host GO, and never lifts a verdict where every cell had its answer.
    answered = {(r.check, r.subject) for r in results}
    if all((c.check, c.subject) in answered for c in planned):
        assert RANK[after] <= RANK[before]
    assert after is not Verdict.GO or before is Verdict.GO


@given(CELLS, RESULTS, WAIVERS, st.data())
@settings(max_examples=300, deadline=None)
def test_removing_all_evidence_of_a_cell_never_makes_a_host_pass(planned, results, waivers, data):
    """Whatever is taken away, a host that did not pass does not pass, and one that passed can only lose."""
    before = verdict_of(results, planned, waivers).verdict
    gone = data.draw(st.sets(st.tuples(CHECKS, SUBJECTS)))
    left = [r for r in results if (r.check, r.subject) not in gone]
    after = verdict_of(left, planned, waivers).verdict
    assert after.exit_status != 0 or RANK[after] <= RANK[before]
    required = {(c.check, c.subject) for c in planned if c.severity is Severity.BLOCKER}
    if gone & required:
        assert after.exit_status != 0


@given(CELLS, RESULTS, WAIVERS)
@settings(max_examples=200, deadline=None)
def test_go_means_every_required_cell_has_only_passes(planned, results, waivers):
    decision = verdict_of(results, planned, waivers)
    required = [c for c in decision.coverage if c.severity is Severity.BLOCKER]
    if decision.verdict is Verdict.GO:
        assert required
        assert all(c.outcome is Outcome.PASS for c in required)
    if decision.verdict is Verdict.GO_WITH_WAIVERS:
        assert all(c.outcome is Outcome.PASS or c.waived_by for c in required)
    assert len({(c.check, c.subject) for c in decision.coverage}) == len(decision.coverage)
