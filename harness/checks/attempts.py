"""What the attempts of a resumed run said each for itself: the worst outcome of all attempts decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from harness.checks.base import Check, Scope
from harness.model.evidence import Evidence
from harness.model.outcome import SERIOUSNESS, CheckResult, CoverageCell, Outcome

Said = tuple[CheckResult | None, CoverageCell]
"""What one check says of one subject."""


def alone(evidence: Evidence) -> Iterator[tuple[int, Evidence]]:
    """The number of each attempt of a resumed run, and what it saw by itself; nothing of any other run.

    What an attempt did not live to see at its end, the next one saw at its beginning: a host that rebooted in
    between, counters that grew.
    """
    attempts = evidence.attempts
    for place, attempt in enumerate(attempts):
        seen = attempt.evidence
        if seen.facts_after is None:
            later = (other.evidence.facts for other in attempts[place + 1 :])
            seen = replace(seen, facts_after=next((facts for facts in later if facts is not None), None))
        yield attempt.number, replace(seen, interrupted=False)


def counts(check: Check, outcome: Outcome | None) -> bool:
    """Whether what a check says of one attempt alone counts for the run.

    A failure does. What an attempt has no evidence of is not missed: the next one made good for it, or the
    whole lacks it too. That a question could not be put properly counts for what the attempt had to itself;
    of the host as such the whole is asked, since limits and watches are meant for all of the run.
    """
    return outcome is Outcome.FAIL or (outcome is Outcome.ERROR and check.scope is not Scope.HOST)


def worst(whole: Said | None, others: Iterable[tuple[int, Said]]) -> Said:
    """What counts of what the whole run and its attempts say of a subject; of equals the whole.

    A subject that the whole run does not show any more (``None``) is no less judged for that.
    """
    worst_yet = whole
    for number, (result, cell) in others:
        if worst_yet is None or SERIOUSNESS[cell.outcome] > SERIOUSNESS[worst_yet[1].outcome]:
            worst_yet = _in_attempt(number, result, cell)
    if worst_yet is None:
        raise ValueError("this subject was not judged")
    return worst_yet


def _in_attempt(number: int, result: CheckResult | None, cell: CoverageCell) -> Said:
    words = f"in attempt {number}: "
    told = None if result is None else replace(result, message=words + result.message)
    return told, replace(cell, reason=words + cell.reason)
