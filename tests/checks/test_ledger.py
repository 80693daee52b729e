"""The ledger: only what was asked counts, and no answer gets better by asking again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks.engine import planned
from harness.checks.ledger import worst
from harness.checks.registry import CHECKS, run_checks
from harness.model.evidence import Asked, Evidence, LedgerRow
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import CheckResult, CoverageCell, Outcome, Severity, SubjectKind, Verdict
from harness.verdict import decide
from tests.faults import clean

PASS, FAIL, SKIP, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.SKIP, Outcome.ERROR
CHECK, SLOT = "gpu.config_space", "gpu1"
USERS = "user.test_my_driver"


def rows(profile: Profile, host: HostFile = clean.HOST) -> tuple[LedgerRow, ...]:
    """Everything collected, as by the shipped suites."""
    guests = clean.evidence().guests
    return tuple(
        LedgerRow(check=each.check, slot=each.slot, test=f"test_x[{each.slot}-{each.check}]")
        for each in planned(CHECKS, profile, host, guests)
    )


def all_asked(whole: tuple[LedgerRow, ...]) -> tuple[Asked, ...]:
    return tuple(Asked(check=row.check, slot=row.slot, outcome=PASS) for row in whole)


def a_session(profile: Profile | None = None) -> Evidence:
    """The clean run as a test session left it: all was collected, all was asked, all passed."""
    whole = rows(profile or clean.profile())
    return replace(clean.evidence(), ledger=whole, asked=all_asked(whole))


def cells(
    evidence: Evidence, profile: Profile | None = None, host: HostFile = clean.HOST
) -> dict[tuple[str, str], CoverageCell]:
    _, found = run_checks(evidence, profile or clean.profile(), host)
    return {(cell.check, cell.slot): cell for cell in found}


def results(evidence: Evidence, profile: Profile | None = None) -> dict[tuple[str, str], CheckResult]:
    found, _ = run_checks(evidence, profile or clean.profile(), clean.HOST)
    return {(result.check, result.subject): result for result in found}


def verdict(evidence: Evidence, profile: Profile | None = None) -> Verdict:
    found, whole = run_checks(evidence, profile or clean.profile(), clean.HOST)
    now = "2026-11-22T00:10:00.000Z"
    return decide(found, whole, (), subject_kind=SubjectKind.HARDWARE, now=now).verdict


def changed(evidence: Evidence, **fields: object) -> Evidence:
    """One row of the ledger, changed."""
    assert evidence.ledger is not None
    found = [
        replace(row, **fields) if (row.check, row.slot) == (CHECK, SLOT) else row  # type: ignore[arg-type]
        for row in evidence.ledger
    ]
    return replace(evidence, ledger=tuple(found))


def answered(evidence: Evidence, *outcomes: Outcome | None, check: str = CHECK, slot: str = SLOT) -> Evidence:
    """One test's answers, in this order, in the place of what it said."""
    others = tuple(a for a in evidence.asked if (a.check, a.slot) != (check, slot))
    said = tuple(
        Asked(check=check, slot=slot, outcome=outcome, message=f"answer {number}")
        for number, outcome in enumerate(outcomes, start=1)
    )
    return replace(evidence, asked=(*others, *said))


def test_a_session_that_asked_everything_is_judged_by_the_evidence() -> None:
    assert run_checks(a_session(), clean.profile(), clean.HOST) == run_checks(
        clean.evidence(), clean.profile(), clean.HOST
    )
    assert verdict(a_session()) is Verdict.GO


def test_evidence_without_a_ledger_is_judged_as_it_is() -> None:
    """A record that no test session made: nobody collected anything, so nobody left anything out."""
    evidence = clean.evidence()
    assert evidence.ledger is None
    assert {cell.outcome for cell in cells(evidence).values()} == {PASS}


def test_an_empty_ledger_is_a_session_that_collected_nothing() -> None:
    found = cells(replace(clean.evidence(), ledger=()))
    assert {cell.outcome for cell in found.values()} == {None}
    assert {cell.reason for cell in found.values()} == {
        "no test was collected for it: it was deselected, or its suite was not run"
    }
    assert results(replace(clean.evidence(), ledger=())) == {}


def test_what_was_left_out_is_missing_though_the_evidence_is_there() -> None:
    left_out = answered(changed(a_session(), deselected=True))
    cell = cells(left_out)[CHECK, SLOT]
    assert (cell.outcome, cell.reason) == (None, "deselected")
    assert (CHECK, cell.subject) not in results(left_out)
    assert verdict(left_out) is Verdict.INCONCLUSIVE


def test_what_was_not_reached_is_missing_though_the_evidence_is_there() -> None:
    """``-x``, Ctrl-C, a killed controller."""
    cell = cells(answered(a_session()))[CHECK, SLOT]
    assert (cell.outcome, cell.reason) == (None, "the session ended before this check ran")
    assert verdict(answered(a_session())) is Verdict.INCONCLUSIVE


def test_a_place_without_a_test_is_missing_where_its_check_has_others() -> None:
    evidence = a_session()
    assert evidence.ledger is not None
    known = tuple(row for row in evidence.ledger if row.check != CHECK)
    found = cells(replace(evidence, ledger=known, asked=all_asked(known)))
    assert found[CHECK, SLOT].outcome is None
    assert "no test was collected for it" in found[CHECK, SLOT].reason


def _broken(evidence: Evidence | None = None, *, number: int = 1) -> Evidence:
    """One of the GPUs reads as all ones: it fell off the bus."""
    evidence = evidence or a_session()
    assert evidence.facts is not None
    gpu = [d for d in evidence.facts.pci_devices if d.id == "1234:11e8"][number]
    devices = tuple(replace(d, config_ok=False) if d == gpu else d for d in evidence.facts.pci_devices)
    facts = replace(evidence.facts, pci_devices=devices)
    return replace(evidence, facts=facts, facts_after=facts)


def test_a_failure_that_was_left_out_on_purpose_is_not_known() -> None:
    assert cells(_broken())[CHECK, SLOT].outcome is FAIL
    cell = cells(answered(changed(_broken(), deselected=True)))[CHECK, SLOT]
    assert (cell.outcome, cell.reason) == (None, "deselected")


def test_a_failure_whose_question_never_came_is_no_less_a_failure() -> None:
    broken = answered(_broken())
    assert cells(broken)[CHECK, SLOT].outcome is FAIL
    assert results(broken)[CHECK, cells(broken)[CHECK, SLOT].subject].outcome is FAIL
    assert verdict(broken) is Verdict.NO_GO


@pytest.mark.parametrize("said", [(FAIL, PASS), (PASS, FAIL), (FAIL, None, PASS), (FAIL,)])
def test_a_failure_stays_one_however_often_it_passes(said: tuple[Outcome | None, ...]) -> None:
    """``--reruns``, a second session, a flaky link."""
    evidence = answered(a_session(), *said)
    cell = cells(evidence)[CHECK, SLOT]
    assert cell.outcome is FAIL
    assert cell.reason == f"answer {said.index(FAIL) + 1}"
    assert results(evidence)[CHECK, cell.subject].remedy
    assert verdict(evidence) is Verdict.NO_GO


@pytest.mark.parametrize("said", [(None, PASS), (PASS, None), (None,)])
def test_an_error_is_no_pass_whatever_came_after_it(said: tuple[Outcome | None, ...]) -> None:
    evidence = answered(a_session(), *said)
    cell = cells(evidence)[CHECK, SLOT]
    assert (cell.outcome, cell.reason) == (None, f"answer {said.index(None) + 1}")
    assert (CHECK, cell.subject) not in results(evidence)
    assert verdict(evidence) is Verdict.INCONCLUSIVE


def test_a_test_that_passed_does_not_better_what_the_evidence_says() -> None:
    """It was asked before the card fell off the bus."""
    assert cells(answered(_broken(), PASS))[CHECK, SLOT].outcome is FAIL
    gone = replace(a_session(), facts=None)
    assert cells(gone)[CHECK, SLOT].outcome is None


ANSWERS = st.lists(st.sampled_from([PASS, FAIL, ERROR, None]), min_size=1, max_size=6)
_RANKS = {PASS: 0, ERROR: 2, None: 2, FAIL: 3}


@given(ANSWERS)
def test_the_worst_of_all_answers_stands_in_any_order(said: list[Outcome | None]) -> None:
    outcome = cells(answered(a_session(), *said))[CHECK, SLOT].outcome
    assert _RANKS[outcome] == max(_RANKS[each] for each in said)
    found = worst(Asked(check="c", slot="s", outcome=each, message=str(n)) for n, each in enumerate(said))
    first = next(n for n, each in enumerate(said) if _RANKS[each] == _RANKS[outcome])
    assert found.message == str(first), "of equals the first: it is what was seen first"


@given(st.lists(st.sampled_from([PASS, FAIL, ERROR, None]), max_size=4), st.booleans(), st.booleans())
def test_there_is_no_go_where_anything_was_not_asked_or_did_not_pass(
    said: list[Outcome | None], deselected: bool, there: bool
) -> None:
    evidence = answered(changed(a_session(), deselected=deselected), *said)
    if not there:
        assert evidence.ledger is not None
        left = tuple(row for row in evidence.ledger if (row.check, row.slot) != (CHECK, SLOT))
        others = tuple(row for row in left if row.check != CHECK)
        evidence = replace(evidence, ledger=others, asked=all_asked(others))
    whole = there and bool(said) and set(said) == {PASS}
    assert (verdict(evidence) is Verdict.GO) is whole


def test_a_load_that_there_was_nothing_to_ask_of_is_not_missed() -> None:
    """Its engine is one that the GPU model is declared to lack: there is no cell for it in the end."""
    evidence = a_session()
    assert evidence.ledger is not None
    row = LedgerRow(check="workload.answer", slot="g1-stream", test="test_x[g1-stream]")
    nothing = Asked(check=row.check, slot=row.slot, outcome=None, not_applicable=True)
    asked = replace(evidence, ledger=(*evidence.ledger, row), asked=(*evidence.asked, nothing))
    assert verdict(asked) is Verdict.GO


MORE = replace(clean.HOST, expected_gpus=2)
"""The host file says two; the host has four."""


def _with_more(*, deselected: bool = False, unasked: bool = False) -> Evidence:
    whole = rows(clean.profile(), MORE)
    mine = [row for row in whole if row.check == CHECK]
    assert [row.slot for row in mine] == ["gpu0", "gpu1"]
    ledger = tuple(replace(row, deselected=True) if deselected and row == mine[1] else row for row in whole)
    asked = all_asked(tuple(row for row in whole if not ((deselected or unasked) and row == mine[1])))
    return replace(clean.evidence(), ledger=ledger, asked=asked)


def test_a_gpu_beyond_the_expected_ones_is_asked_with_the_others_of_its_check() -> None:
    found = cells(_with_more(), host=MORE)
    assert [found[CHECK, f"gpu{n}"].outcome for n in range(4)] == [PASS] * 4


def test_a_gpu_beyond_the_expected_ones_can_fail() -> None:
    found = cells(_broken(_with_more(), number=3), host=MORE)
    assert [found[CHECK, f"gpu{n}"].outcome for n in range(4)] == [PASS, PASS, PASS, FAIL]


@pytest.mark.parametrize("how", ["deselected", "unasked"])
def test_a_gpu_beyond_the_expected_ones_is_missing_where_one_of_the_others_is(how: str) -> None:
    found = cells(_with_more(**{how: True}), host=MORE)
    assert [found[CHECK, f"gpu{n}"].outcome for n in range(4)] == [PASS, None, None, None]


def demanding(severity: Severity | None = Severity.BLOCKER) -> Profile:
    """The clean profile, and perhaps a test of a user's own."""
    profile = clean.profile()
    return profile if severity is None else replace(profile, checks={**profile.checks, USERS: severity})


def with_users(
    *outcomes: Outcome | None, deselected: bool = False, slot: str = "host", evidence: Evidence | None = None
) -> Evidence:
    """A session in which a user's own test was collected, and said so much."""
    evidence = evidence or a_session()
    assert evidence.ledger is not None
    row = LedgerRow(check=USERS, slot=slot, test="tests/test_own.py::test_my_driver", deselected=deselected)
    collected = replace(evidence, ledger=(*evidence.ledger, row))
    return answered(collected, *outcomes, check=USERS, slot=slot)


@pytest.mark.parametrize("severity", [None, Severity.BLOCKER])
@pytest.mark.parametrize(
    ("said", "outcome", "word"),
    [
        ((PASS,), PASS, Verdict.GO),
        ((FAIL,), FAIL, Verdict.NO_GO),
        ((FAIL, PASS), FAIL, Verdict.NO_GO),
        ((None,), None, Verdict.INCONCLUSIVE),
        ((None, PASS), None, Verdict.INCONCLUSIVE),
        ((), None, Verdict.INCONCLUSIVE),
    ],
)
def test_a_users_test_counts_like_a_check_whether_it_is_demanded_or_not(
    severity, said, outcome, word
) -> None:
    """Who runs it wants to know."""
    profile, evidence = demanding(severity), with_users(*said)
    cell = cells(evidence, profile)[USERS, "host"]
    assert (cell.outcome, cell.severity, cell.subject) == (outcome, Severity.BLOCKER, "host")
    assert (cell.reason == "") is (outcome is PASS)
    assert verdict(evidence, profile) is word


def test_an_advisory_test_of_a_user_turns_nothing_red() -> None:
    profile = demanding(Severity.ADVISORY)
    cell = cells(with_users(FAIL), profile)[USERS, "host"]
    assert (cell.outcome, cell.severity) == (FAIL, Severity.ADVISORY)
    assert verdict(with_users(FAIL), profile) is Verdict.GO


@pytest.mark.parametrize(("severity", "word"), [(None, Verdict.GO), (Severity.BLOCKER, Verdict.INCONCLUSIVE)])
def test_a_users_test_that_skips_itself_is_missed_where_it_is_demanded(severity, word) -> None:
    profile, evidence = demanding(severity), with_users(SKIP)
    cell = cells(evidence, profile)[USERS, "host"]
    assert cell.outcome is SKIP
    assert cell.reason == "answer 1"
    assert verdict(evidence, profile) is word


def test_a_users_test_that_skipped_and_failed_is_a_failure() -> None:
    assert verdict(with_users(SKIP, FAIL)) is Verdict.NO_GO
    assert verdict(with_users(FAIL, SKIP), demanding()) is Verdict.NO_GO


@pytest.mark.parametrize(("severity", "word"), [(None, Verdict.GO), (Severity.BLOCKER, Verdict.INCONCLUSIVE)])
def test_a_users_test_that_was_left_out_is_missed_where_it_is_demanded(severity, word) -> None:
    profile, evidence = demanding(severity), with_users(deselected=True)
    found = cells(evidence, profile)
    assert ((USERS, "host") in found) is (severity is not None)
    if severity is not None:
        assert (found[USERS, "host"].outcome, found[USERS, "host"].reason) == (None, "deselected")
    assert verdict(evidence, profile) is word


@pytest.mark.parametrize("ledger", [True, False])
def test_a_users_test_that_is_demanded_and_was_never_collected_is_missing(ledger: bool) -> None:
    evidence = a_session() if ledger else clean.evidence()
    (cell,) = (c for (check, _), c in cells(evidence, demanding()).items() if check == USERS)
    assert (cell.outcome, cell.slot, cell.severity) == (None, "none", Severity.BLOCKER)
    assert "the profile requires" in cell.reason
    assert "test_my_driver" in cell.reason
    assert "was collected" in cell.reason
    assert verdict(evidence, demanding()) is Verdict.INCONCLUSIVE


def test_a_users_test_is_asked_in_each_of_its_places() -> None:
    evidence = with_users(PASS, slot="4gpu-gpu0")
    evidence = with_users(FAIL, slot="4gpu-gpu1", evidence=evidence)
    found = cells(evidence, demanding())
    assert found[USERS, "4gpu-gpu0"].outcome is PASS
    assert found[USERS, "4gpu-gpu1"].outcome is FAIL
    assert verdict(evidence, demanding()) is Verdict.NO_GO


def test_two_tests_of_one_name_do_not_answer_for_each_other() -> None:
    """Two files of a user with one ``test_my_driver`` each, of which the second was never reached."""
    evidence = with_users(PASS)
    assert evidence.ledger is not None
    other = LedgerRow(check=USERS, slot="host", test="tests/test_other.py::test_my_driver")
    evidence = replace(evidence, ledger=(*evidence.ledger, other))
    assert verdict(evidence, demanding()) is not Verdict.GO


def test_a_resumed_run_adds_to_its_ledger_and_keeps_what_was_said() -> None:
    """The first life left a question open, or failed it; the second one asks again."""
    whole = rows(clean.profile())
    first = answered(a_session())
    again = replace(first, ledger=(*whole, *whole), asked=(*first.asked, *all_asked(whole)))
    assert verdict(again) is Verdict.GO
    failed = answered(a_session(), FAIL)
    again = replace(failed, ledger=(*whole, *whole), asked=(*failed.asked, *all_asked(whole)))
    assert verdict(again) is Verdict.NO_GO


def test_what_the_first_life_left_out_and_the_second_asked_is_asked() -> None:
    whole = rows(clean.profile())
    first = answered(changed(a_session(), deselected=True))
    assert first.ledger is not None
    for ledger in ((*first.ledger, *whole), (*whole, *first.ledger)):
        again = replace(first, ledger=ledger, asked=(*first.asked, *all_asked(whole)))
        assert verdict(again) is Verdict.GO
