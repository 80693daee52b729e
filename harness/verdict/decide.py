"""From check results to one word on a host. Pure: the same values give the same verdict, anywhere.

The rule (DESIGN §1), in this order: a required FAIL without waiver is NO_GO; a required check that is
missing, skipped, errored or interrupted is INCONCLUSIVE; a waived FAIL is GO_WITH_WAIVERS; else GO. What is
required is what was *planned*; an empty plan proves nothing and is INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.model.evidence import StageError
from harness.model.inventory import Waiver
from harness.model.outcome import (
    SERIOUSNESS,
    CheckResult,
    CoverageCell,
    Decision,
    Outcome,
    Severity,
    SubjectKind,
    Verdict,
)
from harness.verdict.waivers import WaiverStatus, covers, examine

GUEST_DIED = "GuestDied"
"""The kind of error (``harness.errors``) that a guest's death is: told as such, not as a broken stage."""
NO_SUBJECT = "(no subject)"
"""Subject of the cell that stands for a required check which nothing was planned for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One planned cell with its outcome, the words for it and the waivers that matched it."""

    cell: CoverageCell
    message: str

    @property
    def required(self) -> bool:
        return self.cell.severity is Severity.BLOCKER

    @property
    def where(self) -> str:
        return f"{self.cell.check} on {self.cell.subject}"


def decide(
    results: tuple[CheckResult, ...],
    planned: tuple[CoverageCell, ...],
    waivers: tuple[Waiver, ...],
    *,
    subject_kind: SubjectKind,
    now: str,
    errors: tuple[StageError, ...] = (),
    interrupted: bool = False,
    required: Iterable[str] = (),
) -> Decision:
    """The verdict on ``planned`` cells given ``results``, with reasons, ledger and use of waivers.

    ``now`` is the end of the run (UTC, ISO 8601), against which waivers expire. ``required`` names the
    checks that must have at least one planned cell (the profile's blockers): one without any is missing.
    Only ``check``, ``subject``, ``severity`` and ``reason`` of a planned cell are read; its outcome comes
    from ``results`` alone. Several results for one cell: the worst wins. Results that were not planned are
    named among the reasons and decide nothing.
    """
    cells = _with_required(_unique(planned), required)
    statuses = tuple(examine(waiver, subject_kind=subject_kind, now=now) for waiver in waivers)
    judged = tuple(_judge(cell, results, statuses) for cell in cells)
    used = _used(judged)
    failed = tuple(j for j in judged if j.required and j.cell.outcome is Outcome.FAIL)
    refused = [f"{j.where} failed: {j.message}" for j in failed if not j.cell.waived_by]
    carried = [
        f"{j.where} failed, waived by {j.cell.waived_by}: {j.message}" for j in failed if j.cell.waived_by
    ]
    unknown = _unknown(judged, errors, interrupted)
    notes = _notes(judged, results)
    if refused:
        verdict = Verdict.NO_GO
    elif unknown:
        verdict = Verdict.INCONCLUSIVE
    elif carried:
        verdict = Verdict.GO_WITH_WAIVERS
    else:
        verdict = Verdict.GO
    return Decision(
        verdict=verdict,
        reasons=(*refused, *unknown, *carried, *notes),
        coverage=tuple(j.cell for j in judged),
        waivers_used=used,
        waivers_unused=_unused(statuses, judged, used),
    )


def _unique(planned: tuple[CoverageCell, ...]) -> tuple[CoverageCell, ...]:
    """One cell for each check and subject; planned both ways, it is a blocker."""
    cells: dict[tuple[str, str], CoverageCell] = {}
    for cell in planned:
        key = (cell.check, cell.subject)
        known = cells.get(key)
        if known is None:
            cells[key] = cell
        elif cell.severity is Severity.BLOCKER and known.severity is not Severity.BLOCKER:
            cells[key] = replace(known, severity=Severity.BLOCKER)
    return tuple(cells.values())


def _with_required(cells: tuple[CoverageCell, ...], required: Iterable[str]) -> tuple[CoverageCell, ...]:
    planned = {cell.check for cell in cells}
    absent = tuple(check for check in dict.fromkeys(required) if check not in planned)
    return cells + tuple(
        CoverageCell(
            check=check,
            subject=NO_SUBJECT,
            severity=Severity.BLOCKER,
            outcome=None,
            reason="the profile requires it, but there was nothing to check",
        )
        for check in absent
    )


def _judge(
    cell: CoverageCell, results: tuple[CheckResult, ...], statuses: tuple[WaiverStatus, ...]
) -> _Judged:
    mine = [r for r in results if r.check == cell.check and r.subject == cell.subject]
    blank = replace(cell, outcome=None, waived_by="")
    if not mine or cell.subject == NO_SUBJECT:
        reason = cell.reason or "no result was recorded"
        return _Judged(cell=replace(blank, reason=reason), message=reason)
    mine.sort(key=lambda r: -SERIOUSNESS[r.outcome])
    waiver = next((s.waiver.id for s in statuses if not s.void and _names(s, cell)), "")
    worst = mine[0]
    if worst.outcome is Outcome.FAIL and waiver and cell.severity is Severity.BLOCKER:
        # A waiver carries the FAIL only: an ERROR or SKIP beside it still leaves the cell unproven.
        rest = next((r for r in mine if r.outcome in (Outcome.ERROR, Outcome.SKIP)), None)
        if rest is None:
            return _Judged(
                cell=replace(blank, outcome=Outcome.FAIL, waived_by=waiver, reason=worst.message),
                message=worst.message,
            )
        worst = rest
    reason = "" if worst.outcome is Outcome.PASS else worst.message
    return _Judged(cell=replace(blank, outcome=worst.outcome, reason=reason), message=worst.message)


def _names(status: WaiverStatus, cell: CoverageCell) -> bool:
    return covers(status.waiver, cell.check, cell.subject)


def _unknown(judged: tuple[_Judged, ...], errors: tuple[StageError, ...], interrupted: bool) -> list[str]:
    """Every reason why the evidence does not reach a verdict."""
    reasons = ["the run was interrupted"] if interrupted else []
    reasons += [stage_broke(error) for error in errors]
    if not any(j.required for j in judged):
        reasons.append("no check was required, so nothing was proven")
    reasons += [left_open(j.cell) for j in judged if j.required and j.cell.outcome in _OPEN]
    return reasons


_OPEN = {None: "is missing", Outcome.ERROR: "could not be judged", Outcome.SKIP: "was skipped"}


def stage_broke(error: StageError) -> str:
    """The reason that a broken stage is, or a guest that died."""
    if error.kind == GUEST_DIED:
        return error.message
    return f"stage {error.stage or '?'} failed: {error.message}"


def left_open(cell: CoverageCell) -> str:
    """The reason that a required cell is of which nothing is known; a cell that passed or failed has none."""
    return f"{cell.check} on {cell.subject} {_OPEN[cell.outcome]}: {cell.reason}"


def _notes(judged: tuple[_Judged, ...], results: tuple[CheckResult, ...]) -> list[str]:
    """What decides nothing but should be read: advisory failures and failures nobody planned."""
    advisory = [
        f"advisory: {j.where} failed: {j.message}"
        for j in judged
        if not j.required and j.cell.outcome is Outcome.FAIL
    ]
    keys = {(j.cell.check, j.cell.subject) for j in judged}
    stray = [
        f"not planned, no effect on the verdict: {r.check} on {r.subject} failed: {r.message}"
        for r in results
        if (r.check, r.subject) not in keys and r.outcome is Outcome.FAIL
    ]
    return advisory + stray


def _used(judged: tuple[_Judged, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(j.cell.waived_by for j in judged if j.cell.waived_by))


def _unused(
    statuses: tuple[WaiverStatus, ...], judged: tuple[_Judged, ...], used: tuple[str, ...]
) -> tuple[str, ...]:
    lines = []
    for status in statuses:
        if status.waiver.id in used and not status.void:
            continue
        lines.append(f"{status.waiver.id}: {status.void or _idle(status, judged)}")
    return tuple(lines)


def _idle(status: WaiverStatus, judged: tuple[_Judged, ...]) -> str:
    mine = [j for j in judged if _names(status, j.cell)]
    if not mine:
        return "it matches no planned check"
    if not any(j.required for j in mine):
        return "the check is advisory in this profile: no waiver is needed"
    if all(j.cell.outcome is Outcome.PASS for j in mine):
        return "the check passed: this waiver is no longer needed"
    if any(j.cell.outcome is Outcome.FAIL for j in mine):
        return "another waiver covers the failure"
    return "the check did not fail; missing, skipped or errored checks are never waived"
