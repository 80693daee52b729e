"""The ledger of a test session: only what was asked counts, and a verdict never gets better by asking again.

A run writes down which tests were collected before it asks anything, and what each of them said. A cell whose
test was left out (``-k``), or never reached (``-x``, Ctrl-C, a killed controller), is missing, whatever the
evidence could tell. Of several answers, and of what the evidence says in the end, the worst stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from harness.checks.base import USER
from harness.checks.engine import NO_SLOT, NO_SUBJECT
from harness.model.evidence import Asked, Evidence, LedgerRow
from harness.model.inventory import Profile
from harness.model.outcome import SERIOUSNESS, Action, CheckResult, CoverageCell, Outcome, Severity

_Key = tuple[str, str]
"""Check and slot."""

_DESELECTED = "deselected"
_UNASKED = "the session ended before this check ran"
_UNCOLLECTED = "no test was collected for it: it was deselected, or its suite was not run"


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What was collected and said, by check and slot."""

    rows: dict[_Key, LedgerRow]
    """One that was to be asked, where there is any."""
    said: dict[_Key, Asked]
    """The worst answer to each."""
    silent: set[_Key]
    """Two tests of users' have one name, and one of them never answered."""
    slots: dict[str, list[str]] = field(default_factory=dict)

    def gap(self, check: str, slot: str) -> str:
        """Why nobody asked this; empty when somebody did.

        A subject that only the host knew of (a GPU more than expected) is asked with the others of its check.
        """
        row = self.rows.get((check, slot))
        if row is None:
            planned = self.slots.get(check, [])
            return (
                next((why for each in planned if (why := self.gap(check, each))), "")
                if planned
                else _UNCOLLECTED
            )
        if (check, slot) in self.said and (check, slot) not in self.silent:
            return ""
        if row.deselected:
            return _DESELECTED if row.test else _UNCOLLECTED
        return _UNASKED


def account(
    results: tuple[CheckResult, ...], cells: tuple[CoverageCell, ...], evidence: Evidence, profile: Profile
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """Results and cells as the ledger leaves them, and those of users' own tests.

    Evidence without a ledger was not gathered by a test session: it is judged as it is.
    """
    if evidence.ledger is None:
        return results, cells + _demanded_in_vain(profile, ())
    ledger = _read(evidence, profile)
    kept = {(result.check, result.subject): result for result in results}
    settled = [_settle(ledger, cell, kept.get((cell.check, cell.subject))) for cell in cells]
    own = tuple(_own(ledger, profile))
    whole = [*settled, *own, *((None, cell) for cell in _demanded_in_vain(profile, [c for _, c in own]))]
    return tuple(result for result, _ in whole if result is not None), tuple(cell for _, cell in whole)


def worst(answers: Iterable[Asked]) -> Asked:
    """The one that counts; of equals the first."""
    return max(answers, key=lambda asked: SERIOUSNESS[asked.outcome])


def _read(evidence: Evidence, profile: Profile) -> _Ledger:
    rows: dict[_Key, LedgerRow] = {}
    due: dict[_Key, set[str]] = {}
    for row in evidence.ledger or ():
        key = (row.check, row.slot)
        if key not in rows or not row.deselected:
            rows[key] = row
        if row.check.startswith(USER) and (not row.deselected or row.check in profile.checks):
            due.setdefault(key, set()).add(row.test)
    said: dict[_Key, Asked] = {}
    heard: dict[_Key, set[str]] = {}
    for asked in evidence.asked:
        key = (asked.check, asked.slot)
        said[key] = worst((said[key], asked)) if key in said else asked
        heard.setdefault(key, set()).add(asked.test)
    silent = {key for key, tests in due.items() if len(tests) > 1 and tests - heard.get(key, set())}
    ledger = _Ledger(rows, said, silent)
    for check, slot in rows:
        ledger.slots.setdefault(check, []).append(slot)
    return ledger


def _settle(
    ledger: _Ledger, cell: CoverageCell, result: CheckResult | None
) -> tuple[CheckResult | None, CoverageCell]:
    gap = ledger.gap(cell.check, cell.slot)
    if gap:
        # What broke before its question came is no less broken; what was left out on purpose is not known.
        if cell.outcome is Outcome.FAIL and gap not in (_DESELECTED, _UNCOLLECTED):
            return result, cell
        return None, replace(cell, outcome=None, reason=gap)
    asked = ledger.said.get((cell.check, cell.slot))
    if asked is None or SERIOUSNESS[asked.outcome] <= SERIOUSNESS[cell.outcome]:
        return result, cell
    return _as_said(asked, cell)


def _as_said(asked: Asked, cell: CoverageCell) -> tuple[CheckResult | None, CoverageCell]:
    """The cell as its test left it."""
    reason = "" if asked.outcome is Outcome.PASS else asked.message or "its test does not say why"
    said = replace(cell, outcome=asked.outcome, reason=reason)
    if asked.outcome is None:
        return None, said
    return (
        CheckResult(
            check=cell.check,
            subject=cell.subject,
            outcome=asked.outcome,
            message=asked.message or "the test passed",
            remedy="" if asked.outcome is Outcome.PASS else "read the test's output, and run it again",
            action=Action.NONE if asked.outcome is Outcome.PASS else Action.RETEST,
        ),
        said,
    )


def _own(ledger: _Ledger, profile: Profile) -> Iterable[tuple[CheckResult | None, CoverageCell]]:
    """Users' own tests. One that no profile names is required as well: who runs it wants to know. Left out,
    or skipped by its own decision, it is not missed unless the profile demands it."""
    for (check, slot), row in ledger.rows.items():
        if not check.startswith(USER):
            continue
        demanded = profile.checks.get(check)
        cell = CoverageCell(
            check=check, subject=slot, slot=slot, severity=demanded or Severity.BLOCKER, outcome=None
        )
        asked = ledger.said.get((check, slot))
        if asked is not None and (asked.outcome is Outcome.FAIL or not ledger.gap(check, slot)):
            if demanded is None and asked.outcome is Outcome.SKIP:
                cell = replace(cell, severity=Severity.ADVISORY)
            yield _as_said(asked, cell)
        elif demanded is not None or not row.deselected:
            yield None, replace(cell, reason=ledger.gap(check, slot))


def _demanded_in_vain(profile: Profile, own: Iterable[CoverageCell]) -> tuple[CoverageCell, ...]:
    there = {cell.check for cell in own}
    return tuple(
        CoverageCell(
            check=check,
            subject=NO_SUBJECT,
            slot=NO_SLOT,
            severity=severity,
            outcome=None,
            reason=f"the profile requires {check.removeprefix(USER)}, but no test of that name was collected",
        )
        for check, severity in profile.checks.items()
        if check.startswith(USER) and check not in there
    )
