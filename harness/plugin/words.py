"""What a terminal is told: of a stage that broke, and of a run that is over. Foreign text is made safe."""

from __future__ import annotations

from pathlib import Path

from harness.model.evidence import StageError
from harness.model.outcome import Severity
from harness.model.record import RunRecord
from harness.verdict.tally import tally
from reports.parts.text import clean
from reports.parts.view import attempts

_LINE = 300
_REASONS = 12
_ERRORS = 5
_MISSING = " is missing: "
"""How ``harness.verdict.decide`` words a required check without an answer."""


def broken_words(error: StageError, host: str = "") -> list[str]:
    """Which stage broke where, what was said, what to do, and where the command and its output are."""
    on = error.host or host
    where = " ".join(part for part in (error.subject, f"on {on}" if on else "") if part)
    lines = [f"stage {error.stage or '?'} broke {plain(where)}: {plain(error.message)}"]
    if error.remedy:
        lines.append(f"  remedy: {plain(error.remedy)}")
    if error.transcript:
        lines.append(f"  command and output: {plain(error.transcript)}")
    return lines


def verdict_words(record: RunRecord, path: Path, seconds: float) -> list[str]:
    """The verdict with its reasons, the counts, and where the report is."""
    decision = record.decision
    counts = tally(decision.coverage)
    lines = [f"{decision.verdict.value}  {record.host.name} ({record.host.subject.value})"]
    for error in record.evidence.errors[:_ERRORS]:
        first, *rest = broken_words(error, record.host.name)
        lines += [f"  - {first}", *(f"  {line}" for line in rest)]
    # What a broken or interrupted stage left unanswered is one line, not a hundred: the report lists each.
    broke = bool(record.evidence.errors) or record.evidence.interrupted
    missing = sum(1 for cell in decision.coverage if cell.outcome is None)
    told = [r for r in decision.reasons if not (broke and (_MISSING in r or r.startswith("stage ")))]
    lines += [f"  {plain(said)}" for said in attempts(record)]
    lines += [f"  - {plain(reason)}" for reason in told[:_REASONS]]
    if len(told) > _REASONS:
        lines.append(f"  ... and {len(told) - _REASONS} more reasons in the report")
    if broke and missing:
        lines.append(f"  - {missing} checks were left without an answer")
    lines.append("checks: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    required = sum(1 for cell in decision.coverage if cell.severity is Severity.BLOCKER)
    lines.append(f"        {required} of {len(decision.coverage)} required; {seconds:.0f} s in all")
    lines.append(f"report: {path / 'report.html'}")
    return lines


def plain(text: str) -> str:
    """One line for a terminal; the middle of a long one is left out: what went wrong stands at the ends."""
    line = clean(text, 10 * _LINE)
    return line if len(line) <= _LINE else f"{line[: _LINE // 2]} ... {line[-_LINE // 2 :]}"


def plain_lines(text: str) -> str:
    """Text of several lines, each made safe."""
    return "\n".join(clean(line, 1000) for line in text.split("\n")[:20])
