"""A cause is told once: which cells belong to what broke, and which speak for themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.model.evidence import Evidence, GuestEvidence, StageError
from harness.model.guest import GuestRequest
from harness.model.outcome import CoverageCell, Outcome, Severity, SubjectKind
from harness.verdict.causes import causes, own_reasons
from harness.verdict.decide import decide
from tests.placement import hosts

HOST = StageError(stage="host", kind="TransportError", message="no route to it", host="rack12")
IMAGE = StageError(stage="image", kind="ImageError", message="no space")
BOOT = StageError(stage="boot", kind="BootError", message="it fell silent", subject="2gpu")


def cell(check: str, subject: str, reason: str, outcome: Outcome | None = None) -> CoverageCell:
    return CoverageCell(
        check=check, subject=subject, severity=Severity.BLOCKER, outcome=outcome, reason=reason
    )


def guest(name: str, **others: object) -> GuestEvidence:
    return replace(GuestEvidence(name=name, request=GuestRequest(name=name, gpus=1), workloads=()), **others)


def evidence(*errors: StageError, **others: object) -> Evidence:
    blank = Evidence(
        host="rack12",
        subject=SubjectKind.HARDWARE,
        profile="p",
        run="r",
        started_at="",
        ended_at=None,
        errors=errors,
        guests=(guest("1gpu"), guest("2gpu")),
    )
    return replace(blank, **others)


def told(of: Evidence, *cells: CoverageCell) -> list[tuple[str, list[str]]]:
    return [(c.error.message, [x.check for x in c.cells]) for c in causes(of, cells)]


def test_a_host_that_was_never_reached_explains_all_that_was_to_be_asked() -> None:
    cells = (cell("a", "host", "not discovered"), cell("b", "1gpu/tensor", "nothing ran"))
    assert told(evidence(HOST), *cells) == [("no route to it", ["a", "b"])]


def test_what_somebody_left_out_broke_by_nothing() -> None:
    cells = (cell("a", "host", "deselected"), cell("b", "host", "no test was collected for it: ..."))
    assert told(evidence(HOST), *cells) == [("no route to it", [])]


def test_a_guest_that_broke_explains_its_own_cells_and_no_neighbours() -> None:
    here = evidence(BOOT, facts=hosts.lab_like(), guests=(guest("1gpu", reached=True), guest("2gpu")))
    cells = (
        cell("a", "1gpu/x", "no result"),
        cell("b", "2gpu/x", "no result"),
        cell("c", "host", "not said"),
    )
    assert told(here, *cells) == [("it fell silent", ["b"])]


def test_a_guest_that_died_is_told_as_such_and_explains_what_it_left_open() -> None:
    before = StageError(stage="observe", kind="ParseError", message="not read", subject="2gpu")
    words = "2gpu died: its kernel panicked; its console ends: x"
    death = StageError(stage="guest", kind="GuestDied", message=words, subject="2gpu")
    here = evidence(before, death, facts=hosts.lab_like(), guests=(guest("2gpu", reached=True),))
    cells = (cell("a", "2gpu/x", "no result"), cell("b", "2gpu", "placement: not read"))
    assert told(here, *cells) == [("not read", ["b"]), (words, ["a"])]
    (cause,) = causes(here, cells)[1:]
    assert (cause.title, cause.reason) == ("guest 2gpu died", words)


def test_a_host_that_ended_explains_all_that_is_open_and_no_cause_of_its_own() -> None:
    """Guests that were reached too: what they had not told by then, nobody can ask any more."""
    end = StageError(stage="host", kind="HostEnded", message="its QEMU ended (signal SEGV)", host="lab")
    reached = (guest("1gpu", reached=True, started=True), guest("2gpu"))
    here = evidence(BOOT, end, facts=hosts.lab_like(), guests=reached)
    cells = (
        cell("a", "1gpu/x", "no result"),
        cell("b", "2gpu/x", "no result"),
        cell("c", "host", "not looked at again"),
        cell("d", "host", "deselected"),
    )
    assert told(here, *cells) == [("it fell silent", ["b"]), (end.message, ["a", "c"])]


def test_what_kept_all_guests_from_being_had_explains_them_and_not_the_host() -> None:
    here = evidence(IMAGE, facts=hosts.lab_like())
    cells = (cell("a", "1gpu/x", "no result"), cell("b", "2gpu", "no result"), cell("c", "host", "not said"))
    assert told(here, *cells) == [("no space", ["a", "b"])]


def test_a_cell_belongs_to_the_cause_that_it_names() -> None:
    cells = (
        cell("a", "2gpu", "image failed: no space"),
        cell("b", "host", "x broke: no space", Outcome.ERROR),
    )
    assert told(evidence(BOOT, IMAGE, facts=hosts.lab_like()), *cells) == [
        ("it fell silent", []),
        ("no space", ["a", "b"]),
    ]


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.PASS, Outcome.SKIP])
def test_what_has_an_answer_needs_no_cause(outcome) -> None:
    assert told(evidence(HOST), cell("a", "host", "no route to it", outcome)) == [("no route to it", [])]


def test_an_interrupted_run_explains_what_nobody_else_does_and_twice_the_same_is_once() -> None:
    here = evidence(HOST, HOST, interrupted=True, facts=hosts.lab_like())
    cells = (cell("a", "host", "the session ended before this check ran"),)
    assert told(here, *cells) == [("no route to it", []), ("the run was interrupted", ["a"])]


def test_every_reason_is_told_by_a_cause_or_by_itself() -> None:
    """Nothing that the decision says is lost: a cause with its cells, or the reason as it stands."""
    cells = (cell("a", "host", "not discovered"), cell("b", "host", "deselected"))
    decision = decide(
        (), cells, (), subject_kind=SubjectKind.HARDWARE, now="2026-11-30T00:00:00Z", errors=(HOST,)
    )
    found = causes(evidence(HOST), decision.coverage)
    assert own_reasons(decision, found) == ("b on host is missing: deselected",)
    assert found[0].count == "1 check could not be judged because of it, 1 of them required"
