"""``shakedown judge RUN``: decide a recorded run again, from its own evidence."""

from __future__ import annotations

from pathlib import Path

from harness.errors import RecordError
from harness.model.outcome import Verdict
from harness.plugin.words import reason_lines
from harness.record.directory import RunDirectory
from harness.record.judge import Checker, Judgement, rejudge
from harness.shown import say, say_json
from harness.verdict.tally import tally
from reports.parts.view import attempts


def run(*, run_dir: Path, json_output: bool, every: bool = False, checker: Checker | None = None) -> int:
    """Judge ``run_dir`` and print the verdict with its reasons; returns the verdict's exit status.

    A cause is printed once, with a count of what is open because of it; ``every`` prints those too.

    Altered, missing or contradicting evidence is printed and the verdict is INCONCLUSIVE (3), as it is when
    the events cannot be understood at all. Raises ConfigError when ``run_dir`` is not a run directory.
    """
    directory = RunDirectory.open(run_dir)
    try:
        judgement = rejudge(directory, checker=checker, titles=None if checker is None else ())
    except RecordError as error:
        _unreadable(run_dir, error, json_output=json_output)
        return Verdict.INCONCLUSIVE.exit_status
    if json_output:
        say_json(_data(run_dir, judgement))
    else:
        say(*_lines(judgement, every=every))
    return judgement.record.decision.verdict.exit_status


def _data(run_dir: Path, judgement: Judgement) -> dict[str, object]:
    record, recorded = judgement.record, judgement.recorded
    return {
        "run": str(run_dir),
        "host": record.host.name,
        "verdict": record.decision.verdict.value,
        "recorded_verdict": recorded.decision.verdict.value if recorded else None,
        "agrees": judgement.agrees,
        "problems": list(judgement.problems),
        "notes": list(judgement.notes),
        "reasons": list(record.decision.reasons),
        "checks": tally(record.decision.coverage),
    }


def _lines(judgement: Judgement, *, every: bool) -> list[str]:
    record, recorded = judgement.record, judgement.recorded
    counts = ", ".join(f"{count} {key}" for key, count in tally(record.decision.coverage).items())
    was = recorded.decision.verdict.value if recorded else "never recorded"
    words = "agrees" if judgement.agrees else "DIFFERS"
    return [
        f"{record.decision.verdict.value}  {record.host.name}  (recorded: {was}; {words})",
        f"checks: {counts}",
        *attempts(record),
        *reason_lines(record, whole=every),
        *(f"note: {note}" for note in judgement.notes),
    ]


def _unreadable(run_dir: Path, error: RecordError, *, json_output: bool) -> None:
    verdict = Verdict.INCONCLUSIVE.value
    if json_output:
        data = {"run": str(run_dir), "verdict": verdict, "agrees": False, "problems": [error.message]}
        say_json(data)
    else:
        say(f"{verdict}  the record cannot be read: {error.message}")
