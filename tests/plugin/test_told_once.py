"""A stage that broke is told once with its cause and not tried again; what misses it names it."""

from __future__ import annotations

import re
import socket
import sys
from xml.etree import ElementTree as ET

import pytest

from tests.plugin.sessions import ROOT, session

SHAKEDOWN = (sys.executable, "-P", "-m", "harness")

HOST = """
name: refusing
ssh: {address: 127.0.0.1, port: PORT, connect_timeout_seconds: 2.0}
expected_gpus: 4
"""


@pytest.fixture
def where(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "host.yaml").write_text(HOST.replace("PORT", str(port)))
    (tmp_path / "test_own.py").write_text("def test_own(guest):\n    assert guest\n")
    return tmp_path


def test_a_host_that_refuses_is_told_once_and_every_test_is_an_error_that_names_it(where) -> None:
    said = session(where, str(ROOT / "suites"), "test_own.py", "--candidate", "./host.yaml")
    assert (said.status, said.verdict) == (3, "INCONCLUSIVE")
    errors = said.out.partition("= ERRORS =")[2].partition("= verdict =")[0]
    # Whole with the first test, and once more as what the check of the run's errors says.
    assert len(re.findall("remedy: check that sshd runs", errors)) == 2
    first = "test_readiness[host.no_foreign_domains]"
    assert (
        len(
            re.findall(
                r"host failed for the host, see \S*readiness/test_readiness.py::" + re.escape(first), errors
            )
        )
        > 300
    )
    assert len(list((said.run / "transcripts").glob("*connect*"))) == 1, "it was tried again"
    # Nothing was skipped, and nothing but the absence of help passed.
    assert re.search(r"\b1 passed, \d+ errors? in", said.out)


def test_words_of_a_host_never_reach_the_terminal_as_they_are(where) -> None:
    text = (where / "host.yaml").read_text().replace("127.0.0.1", "127.0.0.1\\u202e")
    (where / "host.yaml").write_text(text.replace("address: ", 'address: "').replace(", port", '", port'))
    said = session(where, str(ROOT / "suites"), "--candidate", "./host.yaml")
    assert "\u202e" not in said.out


def test_every_way_to_read_the_run_tells_the_cause_once_with_a_count(where) -> None:
    said = session(where, str(ROOT / "suites"), "--candidate", "./host.yaml", "--profile", "nightly")
    cells = said.record["decision"]["coverage"]
    count = f"{sum(cell['outcome'] != 'PASS' for cell in cells)} checks could not be judged because of it"
    # One line of the terminal's closing words, of the judge's, one entry of the others.
    closing = said.out.partition("= verdict =")[2].partition("= short test summary")[0]
    assert closing.count("connection refused: ssh") == 1
    assert count in said.out
    judged = session(where, "judge", str(said.run), command=SHAKEDOWN).out
    assert (judged.count("connection refused: ssh"), len(judged.splitlines())) == (1, 6)
    assert count in judged
    every = session(where, "judge", str(said.run), "--all", command=SHAKEDOWN).out
    assert len(every.splitlines()) == 6 + sum(cell["outcome"] != "PASS" for cell in cells)
    page = (said.run / "report.html").read_text()
    assert page.count('<article class="finding') == 1
    assert f"<details><summary>{count}" in page
    assert f"<details><summary>{count}" in (said.run / "report.md").read_text()
    suite = ET.parse(said.run / "junit.xml").getroot()[0]  # noqa: S314  our own file
    errors = [case for case in suite.iter("testcase") if case.find("error") is not None]
    assert (errors[0].get("classname"), errors[-1].get("classname")) == ("stage", "verdict")
    # The cases between only name the cause.
    named = [str(case.find("error").get("message")) for case in errors[1:-1]]
    assert named
    assert all("not judged because of: stage host failed" in message for message in named)
    assert count in errors[0].find("error").text
    for text in (said.out, judged, every, page):
        assert "TransportError" not in text
        assert "find out why" not in text
