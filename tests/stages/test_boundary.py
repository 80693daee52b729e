"""The boundary: a broken stage becomes evidence once, and nothing else is swallowed."""

from __future__ import annotations

import pytest

from harness.errors import CommandTimeout, ProvisionError
from harness.stages.boundary import Stopped, stage, stage_error
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


@pytest.mark.parametrize("other", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupts_and_our_own_defects_pass(recorder, other) -> None:
    """They belong to the session, which tells them apart."""
    with pytest.raises(other), stage(recorder, "burn"):
        raise other
    assert evidence(recorder).errors == ()


def test_the_time_of_a_stage_is_recorded_however_it_ends(recorder) -> None:
    with pytest.raises(Stopped), stage(recorder, "plan"):
        raise ProvisionError("x")
    with stage(recorder, "discover"):
        pass
    assert set(evidence(recorder).seconds) == {"plan", "discover"}
