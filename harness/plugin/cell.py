"""A cell of the ledger as a test shows it: one check, one subject."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.model.outcome import CheckResult, CoverageCell, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one check says of one subject."""

    coverage: CoverageCell
    result: CheckResult | None

    @property
    def check(self) -> str:
        """The id of the check."""
        return self.coverage.check

    @property
    def subject(self) -> str:
        """What it was asked about, by the best name that is known."""
        return self.coverage.subject

    @property
    def outcome(self) -> Outcome | None:
        """What it says; None where nothing can be said."""
        return self.coverage.outcome

    @property
    def words(self) -> str:
        """Subject, message, remedy and where to look, in one text."""
        message = self.result.message if self.result is not None else self.coverage.reason
        lines = [f"{self.check} on {self.subject}: {message or 'no reason was recorded'}"]
        if self.result is not None and self.result.remedy:
            lines.append(f"  remedy: {self.result.remedy}")
        for seen in self.result.evidence[:3] if self.result is not None else ():
            lines.append(f"  evidence: {seen.file}{f', {seen.place}' if seen.place else ''}")
        return "\n".join(lines)

    def judge(self) -> None:
        """Fail the test, with what is wrong and what to do, unless the check passed."""
        if self.outcome is not Outcome.PASS:
            pytest.fail(self.words, pytrace=False)
