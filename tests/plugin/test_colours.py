"""Record, terminal and both JUnit files say the same of every cell, whatever its outcome."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.plugin.sessions import HOST, junit, prepare, suites

pytestmark = [
    pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a bare run claims this machine: it needs root"),
]

WAIVER = """
waivers:
  - {id: no-cards, check: host.gpu_count, owner: Ada Example, reason: a test, expires: 2099-01-01}
"""
PROFILE = """
name: short
attach: bare
guests: [{gpus: 0, workloads: [hashing, p2p]}]
workload_parameters: {hashing: {tool: john}}
limits: {hashing.candidate_rate: {lower: 1.0e+18, reason: nothing is that fast}}
checks:
  host.gpu_count: blocker          # fails, waived
  host.noise: advisory
  gpu.link: blocker                # missing: the host file does not say which to expect
  gpu.model_known: advisory        # missing or an error, and only advisory
  workload.answer: blocker         # passes; p2p is not applicable without two GPUs of NVIDIA's
  workload.limits: LIMITS
  workload.expected: blocker       # an error: of no model
  telemetry.coverage: blocker
  run.no_errors: blocker
  run.no_interventions: blocker
"""
TERMINAL = {"passed": "PASSED", "failure": "FAILED", "error": "ERROR", "skipped": "XFAIL|SKIPPED"}
WANTED = {"PASS": "passed", "FAIL": "failure", "ERROR": "error", "MISSING": "error", "CARRIED": "skipped"}


def outcome(cell) -> str:
    if cell["outcome"] is None:
        return "MISSING"
    carried = cell["waived_by"] or cell["severity"] == "advisory"
    return "CARRIED" if cell["outcome"] == "FAIL" and carried else cell["outcome"]


@pytest.fixture(scope="module", params=["blocker", "advisory"])
def said(request, tmp_path_factory):
    where = tmp_path_factory.mktemp("colours")
    here = sorted(path.name for path in Path("/sys/bus/pci/devices").glob("*"))
    if len(here) < 2:
        pytest.skip("fewer than two PCI functions on this machine")
    # Functions that this machine really has, but no GPUs of NVIDIA's: p2p is planned, and has nothing to do.
    host = HOST.replace("0000:f1:00.0", here[0]).replace("0000:f2:00.0", here[1])
    host = host.replace("expected_gpus: 2", "expected_gpus: 3")
    prepare(where, host=f"{host}waivers: [./waiver.yaml]\n", profile=PROFILE.replace("LIMITS", request.param))
    (where / "waiver.yaml").write_text(WAIVER)
    return suites(where, "-v", "-rA", "--junitxml=pytest.xml"), where, request.param


def test_every_kind_of_outcome_is_there(said) -> None:
    session, _where, severity = said
    found = {outcome(cell) for cell in session.cells().values()}
    assert found == {"PASS", "ERROR", "MISSING", "CARRIED"} | ({"FAIL"} if severity == "blocker" else set())
    assert any(asked["not_applicable"] for asked in session.record["evidence"]["asked"])


def test_both_files_agree_with_the_record_cell_by_cell(said) -> None:
    session, where, _severity = said
    wanted = {key: WANTED[outcome(cell)] for key, cell in session.cells().items()}
    ours, pytests = junit(session.run / "junit.xml"), junit(where / "pytest.xml")
    idle = {key for key, what in ours.items() if key not in wanted}
    assert {key[0] for key in idle} == {"workload.answer", "workload.limits", "workload.expected"}
    assert all(ours[key] == "skipped" for key in idle)
    assert {key: what for key, what in ours.items() if key not in idle} == wanted
    assert pytests == wanted


def test_the_terminal_says_the_same(said) -> None:
    session, _where, _severity = said
    for cell in session.cells().values():
        name = cell["check"] if cell["slot"] == "host" else f"{cell['slot']}-{cell['check']}"
        shown = re.findall(rf"\[{re.escape(name)}\] (\w+)", session.out)
        assert shown, (name, session.out[-4000:])
        assert re.fullmatch(TERMINAL[WANTED[outcome(cell)]], shown[0]), (name, shown)


def test_verdict_and_exit_status_are_those_of_the_record(said) -> None:
    session, _where, severity = said
    assert (session.verdict, session.status) == (
        ("NO_GO", 1) if severity == "blocker" else ("INCONCLUSIVE", 3)
    )
    assert f"{session.verdict}  here (standin)" in session.out
    assert "waived by no-cards (Ada Example)" in session.out
