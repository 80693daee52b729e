"""What a terminal is told: of a stage that broke, and of a run that is over. Foreign text is made safe."""

from __future__ import annotations

from pathlib import Path

from harness.model.evidence import StageError
from harness.model.gpu import named_in
from harness.model.outcome import Severity
from harness.model.record import RunRecord
from harness.verdict.causes import Cause, causes, own_reasons
from harness.verdict.decide import GUEST_DIED
from harness.verdict.tally import tally
from reports.parts.text import clean
from reports.parts.view import attempts

_LINE = 300
_REASONS = 12
_ERRORS = 5


def broken_words(error: StageError, host: str = "") -> list[str]:
    """Which stage broke where, what was said, what to do, and where the command and its output are."""
    on = error.host or host
    where = " ".join(part for part in (error.subject, f"on {on}" if on else "") if part)
    lines = [f"stage {error.stage or '?'} failed {plain(where)}: {plain(error.message)}"]
    if error.kind == GUEST_DIED:
        lines = [plain(error.message)]
    if error.remedy:
        lines.append(f"  remedy: {plain(error.remedy)}")
    if error.transcript:
        lines.append(f"  command log: {plain(error.transcript)}")
    return lines


def verdict_words(record: RunRecord, path: Path, seconds: float) -> list[str]:
    """The verdict with its reasons, the counts, and where the report is."""
    decision = record.decision
    counts = tally(decision.coverage)
    lines = [f"{decision.verdict.value}  {record.host.name} ({record.host.subject.value})"]
    lines += [f"  {plain(said)}" for said in attempts(record)]
    lines += reason_lines(record)
    lines.append("checks: " + ", ".join(f"{number} {name}" for name, number in counts.items()))
    required = tally(cell for cell in decision.coverage if cell.severity is Severity.BLOCKER)
    lines.append(
        f"        {required['pass']} of {sum(required.values())} required passed; {seconds:.0f} s in all"
    )
    lines.append(f"report: {path / 'report.html'}")
    return lines


def reason_lines(record: RunRecord, *, whole: bool = False) -> list[str]:
    """Why the verdict is what it is: each cause once, with what is open because of it as a count.

    ``whole`` unfolds the counts and leaves no reason out.
    """
    found = causes(record.evidence, record.decision.coverage)
    shown = found if whole else found[:_ERRORS]
    lines = [line for cause in shown for line in _cause_lines(cause, record.host.name, whole=whole)]
    if len(found) > len(shown):
        lines.append(f"  ... and {len(found) - len(shown)} more failures, in the report")
    told = own_reasons(record.decision, found)
    lines += [f"  - {plain(reason)}" for reason in (told if whole else told[:_REASONS])]
    if not whole and len(told) > _REASONS:
        lines.append(f"  ... and {len(told) - _REASONS} more reasons in the report")
    lines += [f"  {plain(card.name)}" for card in named_in(record.evidence.cards, lines)]
    return lines


def _cause_lines(cause: Cause, host: str, *, whole: bool) -> list[str]:
    if cause.error.stage:
        first, *rest = broken_words(cause.error, host)
    else:
        first, *rest = plain(cause.error.message), f"  remedy: {cause.error.remedy}"
    lines = [f"  - {first}", *(f"  {line}" for line in rest)]
    if cause.cells:
        lines.append(f"    {cause.count}{':' if whole else ''}")
    if whole:
        lines += [f"      {plain(f'{c.check} on {c.subject}: {c.reason}')}" for c in cause.cells]
    return lines


def plain(text: str) -> str:
    """One line for a terminal; the middle of a long one is left out: what went wrong stands at the ends."""
    line = clean(text, 10 * _LINE)
    return line if len(line) <= _LINE else f"{line[: _LINE // 2]} ... {line[-_LINE // 2 :]}"


def plain_lines(text: str) -> str:
    """Text of several lines, each made safe."""
    return "\n".join(clean(line, 1000) for line in text.split("\n")[:20])
