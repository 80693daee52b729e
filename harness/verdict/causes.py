"""What broke, and what could not be asked because of it: a cause is told once, its consequences are a count.

A host that refuses leaves hundreds of checks without an answer. Each of them stands in the ledger, but who
reads a terminal or a report needs the one thing that happened, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import HostEnded
from harness.model.evidence import Evidence, GuestEvidence, StageError
from harness.model.outcome import CoverageCell, Decision, Outcome, Severity
from harness.verdict.decide import GUEST_DIED, left_open, stage_broke

_CHOSEN = ("deselected", "no test was collected", "the profile requires", "this version has no such check")
"""How reasons begin that are somebody's choice (``harness.checks.ledger``): nothing broke there."""
_INTERRUPTION = StageError(
    stage="",
    kind="Interrupted",
    message="the run was interrupted",
    remedy="run again; a run whose controller was killed continues with --resume",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that broke, with the planned cells that have no answer because of it."""

    error: StageError
    cells: tuple[CoverageCell, ...] = ()

    @property
    def title(self) -> str:
        """What broke, and where: ``stage host broke on rack12``."""
        if not self.error.stage:
            return self.error.message
        if self.error.kind == GUEST_DIED:
            return f"guest {self.error.subject} died"
        where = self.error.subject or self.error.host
        of = " for " if self.error.subject else " on "
        return f"stage {self.error.stage} failed{of + where if where else ''}"

    @property
    def reason(self) -> str:
        """How the decision words it."""
        return stage_broke(self.error) if self.error.stage else self.error.message

    @property
    def count(self) -> str:
        """How much was left open: ``358 checks could not be asked because of it, 338 of them required``."""
        if not self.cells:
            return ""
        required = sum(cell.severity is Severity.BLOCKER for cell in self.cells)
        checks = "1 check" if len(self.cells) == 1 else f"{len(self.cells)} checks"
        return f"{checks} could not be judged because of it, {required} of them required"


def causes(evidence: Evidence, coverage: tuple[CoverageCell, ...]) -> tuple[Cause, ...]:
    """Everything that broke, in its order, the interruption last; a cell belongs to one of them at most."""
    errors = (*dict.fromkeys(evidence.errors), *((_INTERRUPTION,) if evidence.interrupted else ()))
    found: dict[StageError, list[CoverageCell]] = {error: [] for error in errors}
    guests = {guest.name: guest for guest in evidence.guests}
    for cell in coverage:
        if cell.outcome not in (None, Outcome.ERROR):
            continue
        error = _of_cell(cell, errors, evidence, guests.get(cell.subject.partition("/")[0]))
        if error is not None:
            found[error].append(cell)
    return tuple(Cause(error=error, cells=tuple(cells)) for error, cells in found.items())


def own_reasons(decision: Decision, found: tuple[Cause, ...]) -> tuple[str, ...]:
    """The reasons of a decision that no cause tells already."""
    told = {cause.reason for cause in found} | {left_open(cell) for cause in found for cell in cause.cells}
    return tuple(reason for reason in decision.reasons if reason not in told)


def _of_cell(
    cell: CoverageCell,
    errors: tuple[StageError, ...],
    evidence: Evidence,
    guest: GuestEvidence | None,
) -> StageError | None:
    """The cause that a cell names itself; else that of its guest; else the host's end, or what kept it from
    being had."""
    if cell.reason.startswith(_CHOSEN):
        return None
    named = next((e for e in errors if e.message and e.message in cell.reason), None)
    if named is not None or cell.outcome is Outcome.ERROR:
        return named
    if guest is not None:
        theirs = [e for e in errors if e.subject and e.subject in (guest.name, guest.group)]
        if theirs:
            return next((e for e in theirs if e.kind == GUEST_DIED), theirs[0])
    ended = next((e for e in errors if e.kind == HostEnded.__name__), None)
    if ended is not None:
        return ended
    lost = evidence.facts is None or (guest is not None and not guest.reached and guest.no_plan is None)
    return next((e for e in errors if not e.subject and (lost or e is _INTERRUPTION)), None)
