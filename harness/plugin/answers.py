"""What pytest showed of each test, into the record; and what the record knows better, back to pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import pytest

from harness.model.evidence import Asked
from harness.model.outcome import CoverageCell, Outcome, Severity
from harness.model.record import RunRecord
from harness.plugin.collection import Asks, asks
from harness.verdict.colour import Colour, carried_by, colour
from reports.parts.text import clean

_BATCH = 50
"""Passes that are written at once: each write waits for the disk. A killed session asks them again, of the
same evidence; what failed, and what a user's test said, is written before the next test begins."""
_RANK = {Colour.PASSED: 0, Colour.SKIPPED: 1, Colour.XFAILED: 2, Colour.ERROR: 3, Colour.FAILED: 4}
_OUTCOMES = {
    Colour.PASSED: Outcome.PASS,
    Colour.FAILED: Outcome.FAIL,
    Colour.XFAILED: Outcome.FAIL,
    Colour.ERROR: None,
}
_MESSAGE = 2000
CARRIED = "shakedown_carried"
"""Attribute of a report: its test failed, and a waiver or the profile carries that."""


@dataclass(slots=True)
class _Shown:
    """One test, as its reports come in: the worst counts, and one whose body never ran did not pass."""

    colour: Colour | None = None
    message: str = "the test was not run"
    carried: bool = False

    def hear(self, report: pytest.TestReport) -> None:
        found = _colour(report)
        if found is None or (self.colour is not None and _RANK[found] <= _RANK[self.colour]):
            return
        self.colour = found
        self.message = _message(report) if found is not Colour.PASSED else ""
        self.carried = getattr(report, CARRIED, False)


class Answers:
    """Listens to the reports of a session. ``write`` stores answers durably."""

    def __init__(self, items: Iterable[pytest.Item], write: Callable[[list[Asked]], None]) -> None:
        self._asks: dict[str, Asks] = {
            item.nodeid: found for item in items if (found := asks(item)) is not None
        }
        self._write = write
        self._waiting: list[Asked] = []
        self._shown: dict[str, _Shown] = {}
        self._last: dict[str, Colour] = {}
        self._over = False
        self.others_failed = False
        """Whether a test that is not about the candidate failed."""

    def heard(self, report: pytest.TestReport) -> None:
        """One report of one test; a test that is tried again answers again."""
        if self._over:
            return
        asked = self._asks.get(report.nodeid)
        if asked is None:
            self.others_failed = self.others_failed or report.outcome == "failed"
            return
        shown = self._shown.setdefault(report.nodeid, _Shown())
        shown.hear(report)
        if report.when == "teardown":
            del self._shown[report.nodeid]
            self._last[report.nodeid] = shown.colour or Colour.ERROR
            answer = _answer(asked, shown, report.nodeid)
            self._waiting.append(answer)
            if asked.own or answer.outcome is Outcome.FAIL or len(self._waiting) >= _BATCH:
                self.flush()

    def flush(self) -> None:
        """Write down what was said since the last time."""
        waiting, self._waiting = self._waiting, []
        self._write(waiting)

    def correct(self, record: RunRecord, config: pytest.Config) -> None:
        """Tell pytest what its colours do not say yet: what later evidence or an earlier attempt changed, and
        cells that only the host knew of (a GPU more than was expected)."""
        self._over = True
        cells = {(cell.check, cell.slot): cell for cell in record.decision.coverage}
        for test, shown in self._last.items():
            asked = self._asks[test]
            cell = cells.get((asked.check, asked.slot))
            if cell is not None and colour(cell) is not shown and not _authors_own(asked, cell, shown):
                words = f"the record says {_word(cell)}: {cell.reason or 'it passed'}"
                _report(config, test, "teardown", "failed", words=clean(words), cell=cell)
        tests = {each.check: test for test, each in self._asks.items() if test in self._last}
        planned = {(row.check, row.slot) for row in record.evidence.ledger or ()}
        for key, cell in cells.items():
            if key not in planned and cell.check in tests:
                _late(config, tests[cell.check], cell, record)


def _authors_own(asked: Asks, cell: CoverageCell, shown: Colour) -> bool:
    """A user's test that its author skips or expects to fail, and that no profile demands."""
    return asked.own and cell.severity is Severity.ADVISORY and shown in (Colour.SKIPPED, Colour.XFAILED)


def _colour(report: pytest.TestReport) -> Colour | None:
    """What this report makes of its test; None: nothing. ``rerun`` is a failure that is tried again."""
    expected = getattr(report, "wasxfail", None)
    if report.outcome in ("failed", "rerun"):
        return Colour.FAILED if report.when == "call" else Colour.ERROR
    if report.outcome == "skipped":
        return Colour.XFAILED if expected is not None else Colour.SKIPPED
    return Colour.PASSED if report.when == "call" else None


def _message(report: pytest.TestReport) -> str:
    expected = getattr(report, "wasxfail", None)
    if expected is not None:
        return str(expected)[:_MESSAGE]
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])[:_MESSAGE]
    crash = getattr(report.longrepr, "reprcrash", None)
    said = str(crash.message if crash is not None else report.longrepr or "")
    return said.removeprefix("Failed: ")[:_MESSAGE]


def _answer(asked: Asks, shown: _Shown, test: str) -> Asked:
    outcome = _OUTCOMES.get(shown.colour or Colour.ERROR)
    if asked.own and (
        shown.colour is Colour.SKIPPED or (shown.colour is Colour.XFAILED and not shown.carried)
    ):
        outcome = Outcome.SKIP  # its author's own decision proves nothing, either way
    return Asked(
        check=asked.check,
        slot=asked.slot,
        outcome=outcome,
        message=shown.message,
        test=test,
        not_applicable=shown.colour is Colour.SKIPPED and not asked.own,
    )


def _word(cell: CoverageCell) -> str:
    return cell.outcome.value if cell.outcome is not None else "MISSING"


def _late(config: pytest.Config, beside: str, cell: CoverageCell, record: RunRecord) -> None:
    """A test that nobody could collect, since its subject was not known: shown as the others of its check."""
    name = f"{beside.partition('[')[0]}[{cell.slot}-{cell.check}]"
    words = clean(f"{cell.check} on {cell.subject}: {cell.reason or _word(cell)}")
    match colour(cell):
        case Colour.PASSED:
            _report(config, name, "call", "passed", words="", cell=cell)
        case Colour.XFAILED:
            reason = f"{carried_by(cell, record.waivers)}: {words}"
            _report(config, name, "call", "skipped", words=words, cell=cell, wasxfail=reason)
        case Colour.FAILED:
            _report(config, name, "call", "failed", words=words, cell=cell)
        case _:
            _report(config, name, "setup", "failed", words=words, cell=cell)
    _report(config, name, "teardown", "passed", words="", cell=cell)


def _report(
    config: pytest.Config,
    test: str,
    when: Literal["setup", "call", "teardown"],
    outcome: Literal["passed", "failed", "skipped"],
    *,
    words: str,
    cell: CoverageCell,
    wasxfail: str = "",
) -> None:
    path = test.partition("::")[0]
    report = pytest.TestReport(
        nodeid=test,
        location=(path, None, test.partition("::")[2]),
        keywords={},
        outcome=outcome,
        longrepr=(path, 0, words) if outcome == "skipped" else words or None,
        when=when,
        user_properties=[("check", cell.check), ("subject", clean(cell.subject))],
    )
    if wasxfail:
        report.wasxfail = wasxfail
    config.hook.pytest_runtest_logreport(report=report)
