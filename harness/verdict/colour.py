"""The colour of a cell of the ledger: in pytest's terminal, in its JUnit file, and in the run's own."""

from __future__ import annotations

from enum import StrEnum

from harness.model.inventory import Waiver
from harness.model.outcome import CoverageCell, Outcome, Severity


class Colour(StrEnum):
    """What pytest shows of a test."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    XFAILED = "xfailed"
    SKIPPED = "skipped"


_USER = "user."


def colour(cell: CoverageCell) -> Colour:
    """The one colour that a cell can have: what is not known is an error, never skipped and never passed.

    Only a user's own test may skip, where nobody demands it.
    """
    if cell.outcome is Outcome.PASS:
        return Colour.PASSED
    if cell.outcome is Outcome.SKIP and cell.severity is Severity.ADVISORY and cell.check.startswith(_USER):
        return Colour.SKIPPED
    if cell.outcome is not Outcome.FAIL:
        return Colour.ERROR
    carried = cell.waived_by or cell.severity is Severity.ADVISORY
    return Colour.XFAILED if carried else Colour.FAILED


def carried_by(cell: CoverageCell, waivers: tuple[Waiver, ...]) -> str:
    """Why a failure turns nothing red: the waiver and its owner, or that it is advisory."""
    if not cell.waived_by:
        return "advisory"
    owner = next((waiver.owner for waiver in waivers if waiver.id == cell.waived_by), "unknown")
    return f"waived by {cell.waived_by} ({owner})"
