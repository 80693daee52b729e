"""What every test run says at its end: what it left out, how to run that, and each test that skipped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings

from tests.skips import HARDWARE, LICENCE

# Time limits for single examples say more about a shared machine than about the code.
settings.register_profile("shakedown", deadline=None)
settings.load_profile("shakedown")

LEFT_OUT = pytest.StashKey[Counter[str]]()
_LEFT_OUT = "shakedown left out"
MOST_SKIPS = "SHAKEDOWN_MOST_SKIPS"
"""Variable: more skips than that end a run that passed with status 1 (``.ci/run`` sets it)."""
HOW_TO_RUN = {
    "lab": "./shakedown test -e full        boots the emulated host; the smoke part: -e lab",
    "rehearsal": "./shakedown test -e lab         every load on this machine, without a VM",
    "fuzz": "./shakedown test -e fuzz        ten minutes of changed captures",
    "slow": "./shakedown test -e full        more than ten seconds each",
    "hardware": "pytest -m hardware              on a machine with a GPU host to spare",
}
"""Marker to the command that runs it, by the first that a test carries."""


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what a marker expression left out."""
    for item in items:
        counts = item.config.stash.setdefault(LEFT_OUT, Counter())
        counts[next((name for name in HOW_TO_RUN if item.get_closest_marker(name)), "other")] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Each process of a run that is spread over some leaves out the same tests: what one says is told."""
    counts = getattr(node, "workeroutput", {}).get(_LEFT_OUT)
    if counts is not None:
        node.config.stash[LEFT_OUT] = Counter(counts)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run that skips more than it may has not passed."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_LEFT_OUT] = dict(session.config.stash.get(LEFT_OUT, Counter()))
        return
    most, skipped = os.environ.get(MOST_SKIPS, ""), _skipped(session.config)
    if most and exitstatus == 0 and len(skipped) > int(most):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skipped(config: pytest.Config) -> list[pytest.TestReport]:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    return list(reporter.stats.get("skipped", ())) if reporter is not None else []


def _skips(reporter: pytest.TerminalReporter) -> None:
    """Every test that skipped, by its reason: what an installation would spare comes first."""
    reasons: dict[str, list[str]] = {}
    for report in _skipped(reporter.config):
        said = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons.setdefault(said.removeprefix("Skipped: "), []).append(report.nodeid)
    if not reasons:
        return
    most = os.environ.get(MOST_SKIPS)
    limit = f", at most {most} may" if most else ""
    reporter.section(f"skipped: {sum(map(len, reasons.values()))}{limit}")
    for reason in sorted(reasons, key=lambda text: (text.startswith((LICENCE, HARDWARE)), text)):
        reporter.write_line(f"skipped: {reason}")
        for name in dict.fromkeys(name.partition("[")[0] for name in reasons[reason]):
            number = sum(each.partition("[")[0] == name for each in reasons[reason])
            reporter.write_line(f"  {name}{f' ({number} of its cases)' if number > 1 else ''}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line for each kind of test that did not run: a green run says what it does not cover."""
    _skips(terminalreporter)
    counts = config.stash.get(LEFT_OUT, Counter())
    if not counts:
        return
    terminalreporter.section("left out of this run")
    for name, number in counts.items():
        how = HOW_TO_RUN.get(name, "chosen by -k or -m on the command line")
        terminalreporter.write_line(f"{number:5d} {name:9s} {how}")
