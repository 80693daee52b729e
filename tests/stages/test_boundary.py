"""The boundary: a broken stage, or a defect of our own, becomes evidence once; nothing else is swallowed."""

from __future__ import annotations

import pytest

from harness.cleanups import add
from harness.errors import CommandTimeout, ProvisionError, RecordError
from harness.stages.boundary import Stopped, contained, recorded, stage, stage_error
from tests.stages.stand_ins import a_recorder, evidence


@pytest.fixture
def recorder(tmp_path):
    opened = a_recorder(tmp_path)
    yield opened
    opened.close()


def test_a_harness_error_is_recorded_once_and_stops_what_builds_on_it(recorder) -> None:
    with pytest.raises(Stopped), stage(recorder, "provision", subject="g1"):
        raise ProvisionError("no room", remedy="make room", host="h", transcript="transcripts/0001.txt")
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind, error.subject) == ("provision", "ProvisionError", "g1")
    assert (error.message, error.remedy, error.host) == ("no room", "make room", "h")
    assert error.transcript == "transcripts/0001.txt"


def test_a_stop_from_further_in_is_not_recorded_again(recorder) -> None:
    with pytest.raises(Stopped), stage(recorder, "outer"), stage(recorder, "inner"):
        raise CommandTimeout("too slow")
    assert [e.stage for e in evidence(recorder).errors] == ["inner"]


def test_the_stage_an_error_names_itself_is_kept() -> None:
    assert stage_error(ProvisionError("x", stage="deeper"), "outer").stage == "deeper"
    assert stage_error(ProvisionError("x"), "outer").stage == "outer"


def test_what_failed_behind_the_cause_is_recorded_behind_it() -> None:
    error = ProvisionError("QEMU refused", remedy="see its log")
    add(error, ProvisionError("the directory stays"))
    made = stage_error(error, "provision")
    assert made.message == "QEMU refused; the cleanup failed too: the directory stays"
    assert made.remedy == "see its log"


@pytest.mark.parametrize("other", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupts_and_our_own_defects_pass(recorder, other) -> None:
    """They belong to ``contained`` and to the session, which tell them apart."""
    with pytest.raises(other), stage(recorder, "burn"):
        raise other
    assert evidence(recorder).errors == ()


@pytest.mark.parametrize("other", [KeyboardInterrupt, SystemExit, RecordError])
def test_what_ends_a_run_is_let_through_by_all(recorder, other) -> None:
    """A run that cannot write must not go on blind."""
    with pytest.raises(other), contained(recorder, "burn"):
        raise other("enough")
    assert evidence(recorder).errors == ()


def test_a_broken_stage_is_contained_with_its_subject(recorder) -> None:
    with contained(recorder, "release", subject="1gpu"):
        raise ProvisionError("no such domain", remedy="look")
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind, error.subject, error.remedy) == (
        "release", "ProvisionError", "1gpu", "look",
    )  # fmt: skip


def test_what_is_recorded_further_in_is_contained_and_not_recorded_again(recorder) -> None:
    reached = []
    with contained(recorder, "outer"), recorded(recorder, "inner", subject="g1"):
        raise CommandTimeout("too slow")
    reached.append(True)
    assert [(e.stage, e.subject) for e in evidence(recorder).errors] == [("inner", "g1")]
    assert reached


def test_a_defect_of_our_own_becomes_evidence_with_its_traceback(recorder) -> None:
    with contained(recorder, "burn", subject="1gpu"):
        raise ZeroDivisionError("division by zero")
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind, error.subject) == ("harness", "ZeroDivisionError", "1gpu")
    assert "bug in Shakedown" in error.remedy
    text = (recorder.path / error.transcript).read_text()
    assert "ZeroDivisionError" in text


def test_two_defects_keep_two_tracebacks(recorder) -> None:
    for defect in (ZeroDivisionError("first"), LookupError("second")):
        with contained(recorder, "burn"):
            raise defect
    first, second = (recorder.path / error.transcript for error in evidence(recorder).errors)
    assert "first" in first.read_text()
    assert "second" in second.read_text()


def test_a_defect_over_hostile_text_is_contained_like_any_other(recorder) -> None:
    with contained(recorder, "burn"):
        raise ValueError("what the host said: \udcff\x1b[31m")
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind) == ("harness", "ValueError")


def test_the_time_of_a_stage_is_recorded_however_it_ends(recorder) -> None:
    with pytest.raises(Stopped), stage(recorder, "plan"):
        raise ProvisionError("x")
    with stage(recorder, "discover"):
        pass
    assert set(evidence(recorder).seconds) == {"plan", "discover"}
