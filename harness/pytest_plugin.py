"""Pytest plugin: ``pytest suites --candidate NAME --profile NAME`` is one run of one phase.

Without ``--candidate`` it adds options, a marker and fixtures, and changes nothing. With it, the session's
exit status is the verdict's (0, 1 or 3); pytest's own usage and internal errors stay its own.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.candidate import Candidate, Connect, Said

_RECORD: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()
_CANDIDATE: pytest.StashKey[Candidate] = pytest.StashKey()
_DECIDABLE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the suites."""
    group = parser.getgroup("shakedown", "Shakedown: qualify a candidate host")
    group.addoption("--candidate", metavar="NAME", help="host file in inventory/hosts, or its path")
    group.addoption("--profile", metavar="NAME", default="smoke", help="what to demand (default: smoke)")
    group.addoption("--runs", metavar="DIR", default="runs", help="where run directories are made")


def pytest_configure(config: pytest.Config) -> None:
    """The marker that parametrises a test over checks."""
    config.addinivalue_line(
        "markers", "checks(*patterns): run the test once for each check whose id matches a pattern"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check, or each readiness question: a new check needs no new suite."""
    marker = metafunc.definition.get_closest_marker("checks")
    if marker is not None and "check" in metafunc.fixturenames:
        from harness.checks import CHECK_IDS  # noqa: PLC0415  ordinary pytest runs must not pay for it

        ids = [i for i in CHECK_IDS if any(fnmatch.fnmatchcase(i, pattern) for pattern in marker.args)]
        metafunc.parametrize("check", ids)
    if "question" in metafunc.fixturenames:
        from harness.checks.services import QUESTIONS  # noqa: PLC0415  as above

        metafunc.parametrize("question", [question.key for question in QUESTIONS])


@pytest.fixture(scope="session")
def candidate_connection() -> Connect | None:
    """How the candidate is reached; a conftest may override it. None: as its host file says."""
    return None


@pytest.fixture(scope="session")
def candidate(request: pytest.FixtureRequest, candidate_connection: Connect | None) -> Candidate:
    """The candidate host of this session, discovered; tests are skipped without ``--candidate``."""
    config = request.config
    name = config.getoption("--candidate")
    if name is None:
        pytest.skip("no candidate host: give --candidate NAME")
    from harness.candidate import open_candidate  # noqa: PLC0415  as above
    from harness.errors import ConfigError  # noqa: PLC0415

    runs = Path(config.getoption("--runs"))
    try:
        opened = open_candidate(name, config.getoption("--profile"), runs=runs, connect=candidate_connection)
    except ConfigError as error:
        pytest.exit(str(error), returncode=int(pytest.ExitCode.USAGE_ERROR))
    config.stash[_CANDIDATE] = opened
    return opened  # closed in pytest_sessionfinish, which gives the verdict


@pytest.fixture(scope="session")
def infra(candidate: Candidate) -> Any:
    """A testinfra host over the candidate's transport, so that what it asks is in the transcripts."""
    from harness.backends.testinfra_backend import infra_host  # noqa: PLC0415  as above

    if candidate.transport is None:
        pytest.skip("the candidate could not be reached")
    return infra_host(candidate.transport)


@pytest.fixture
def require(candidate: Candidate) -> Any:
    """``require(check)`` fails the test where the check fails unwaived, and skips it where nobody knows.

    The verdict does not rest on the test's colour: a missing check is INCONCLUSIVE whatever pytest prints.
    """

    def demand(check: str) -> None:
        said = candidate.said(check)
        failed = [s for s in said if _failed(s)]
        if failed:
            pytest.fail("\n".join(s.words for s in failed), pytrace=False)
        open_ = [s for s in said if s.cell.outcome != "PASS"]
        if open_:
            pytest.skip("; ".join(_why(s) for s in open_))

    return demand


def _failed(said: Said) -> bool:
    required = said.cell.severity == "blocker" and not said.cell.waived_by
    return said.cell.outcome in ("FAIL", "ERROR") and required


def _why(said: Said) -> str:
    if said.cell.waived_by:
        return f"waived by {said.cell.waived_by}: {said.words}"
    outcome = said.cell.outcome or "not known yet"
    return f"{said.cell.severity} {outcome}: {said.words}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give the verdict and make it the exit status, when there is a candidate."""
    config = session.config
    if config.getoption("--candidate", None) is None or config.getoption("collectonly", False):
        return
    opened = config.stash.get(_CANDIDATE, None)
    if opened is None:
        if exitstatus in _DECIDABLE:  # no test asked for the candidate, so nothing was proven
            config.stash[_RECORD] = ("INCONCLUSIVE: no test looked at the candidate",)
            session.exitstatus = 3
        return
    from harness.candidate import exit_status, summary  # noqa: PLC0415  as above

    interrupted = exitstatus not in _DECIDABLE
    try:
        record = opened.close(interrupted=interrupted)
    finally:
        opened.abandon()
    config.stash[_RECORD] = summary(record, opened.recorder.path)
    if not interrupted:
        failed = exitstatus == pytest.ExitCode.TESTS_FAILED
        session.exitstatus = exit_status(record.decision.verdict, tests_failed=failed)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The verdict, below pytest's own lines."""
    lines = config.stash.get(_RECORD, ())
    if lines:
        terminalreporter.section("verdict")
        for line in lines:
            # Host text may hold control characters: it is shown, never sent to the terminal.
            terminalreporter.write_line(line.encode("unicode_escape").decode("ascii"))
