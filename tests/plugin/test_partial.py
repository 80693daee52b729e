"""A part of a run is useful and never GO; what was asked once is never made better by asking again."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.plugin.sessions import CANDIDATE, prepare, session, suites

pytestmark = [
    pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a bare run claims this machine: it needs root"),
]


@pytest.fixture
def where(tmp_path):
    prepare(tmp_path)
    return tmp_path


def test_the_whole_profile_is_go(where) -> None:
    said = suites(where)
    assert (said.verdict, said.status) == ("GO", 0), said.out


@pytest.mark.parametrize("choice", [("-k", "answer"), ("-m", "burnin"), ("--deselect", "burnin")])
def test_what_was_left_out_is_missing_and_never_go(where, choice) -> None:
    if choice[0] == "--deselect":
        choice = ("-k", "not no_errors")
    said = suites(where, *choice)
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3), said.out
    out = [cell for cell in said.cells().values() if cell["outcome"] is None]
    assert out
    assert {cell["reason"] for cell in out} == {"deselected"}
    assert any(cell["outcome"] == "PASS" for cell in said.cells().values())


def test_a_part_of_the_folders_says_that_the_rest_was_not_collected(where) -> None:
    from tests.plugin.sessions import ROOT

    said = session(where, str(ROOT / "suites" / "burnin"), *CANDIDATE)
    assert said.verdict == "INCONCLUSIVE"
    reasons = {c["check"]: c["reason"] for c in said.cells().values() if c["outcome"] is None}
    assert "no test was collected for it" in reasons["run.no_errors"]


def test_an_early_end_leaves_the_rest_unasked(where) -> None:
    (where / "test_own.py").write_text("def test_own(candidate):\n    assert False\n")
    said = suites(where, "test_own.py", "-x")
    assert (said.verdict, said.status) == ("NO_GO", 1), said.out
    cells = said.cells()
    assert cells["user.test_own", "host"]["outcome"] == "FAIL"
    assert "the session ended before this check ran" in {c["reason"] for c in cells.values()}
    assert said.record["evidence"]["interrupted"] is False


def test_a_test_that_fails_and_then_passes_stays_failed(where) -> None:
    """As plugins that try again make of it: each attempt is an answer, and the worst one counts."""
    (where / "conftest.py").write_text(
        "import pytest\n"
        "from _pytest.runner import runtestprotocol\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    if item.name != 'test_flaky': return None\n"
        "    for attempt in range(2):\n"
        "        for report in runtestprotocol(item, nextitem=nextitem, log=False):\n"
        "            if report.failed and attempt == 0: report.outcome = 'rerun'\n"
        "            item.ihook.pytest_runtest_logreport(report=report)\n"
        "    return True\n"
    )
    (where / "test_own.py").write_text(
        "TRIES = []\ndef test_flaky(candidate):\n    TRIES.append(1)\n    assert len(TRIES) > 1\n"
    )
    said = suites(where, "test_own.py")
    assert said.cells()["user.test_flaky", "host"]["outcome"] == "FAIL", said.out
    assert (said.verdict, said.status) == ("NO_GO", 1)
    assert "the record says FAIL" in said.out  # pytest alone would call it passed


def test_judging_again_says_the_same_of_a_part(where) -> None:
    import sys

    said = suites(where, "-k", "answer")
    again = session(where, "judge", str(said.run), "--json", command=(sys.executable, "-P", "-m", "harness"))
    answer = json.loads(again.out)
    assert (answer["verdict"], answer["agrees"], again.status) == ("INCONCLUSIVE", True, 3)
