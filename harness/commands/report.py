"""``shakedown report RUN…``: render recorded runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import ConfigError, RecordError
from harness.model.outcome import Verdict
from harness.model.record import RunRecord
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.files import safe_name
from harness.record.judge import file_problems, read_recorded, recorded_files, rejudge
from harness.record.notes import read_notes, taken_notes
from reports import RENDERERS, render_all, render_one, renderer
from reports.parts.text import clean


def run(*, runs: Sequence[Path], formats: Sequence[str] = (), output: Path | None = None) -> int:
    """Render each run's ``run.json``; prints the files written, one a line, and returns 0.

    Reports go beside the record, or into ``output`` (one folder for each run when there are several); an
    ``output`` whose name ends as a format's file does is that file, of one run and one format. No ``formats``
    means all that a run writes by itself. A record that was altered, or whose evidence was, is
    rendered as INCONCLUSIVE with the reason, never with the verdict it claims. One that a note was left for
    after its end is judged again with it. Raises ConfigError for an
    unknown format or a directory that is not a run, RecordError for a run without a readable ``run.json``.
    """
    if not runs:
        raise ConfigError("no run was named", remedy="name a directory like runs/<host>/<run-id>")
    for name in formats:
        renderer(name)
    file = _file(output, formats, runs)
    for path in runs:
        directory = RunDirectory.open(path)
        record = load(directory)
        if file is not None:
            sys.stdout.write(f"{render_one(file, record, _format(file))}\n")
            continue
        target = _target(directory, record, output, several=len(runs) > 1)
        for written in render_all(target, record, formats).values():
            sys.stdout.write(f"{written}\n")
    return 0


def _format(file: Path) -> str:
    """The format whose files end like this one; empty for none."""
    ends = {".jsonl": "ocp"} | {f".{Path(each.file).suffix.lstrip('.')}": each.format for each in RENDERERS}
    return ends.get(file.suffix.lower(), "")


def _file(output: Path | None, formats: Sequence[str], runs: Sequence[Path]) -> Path | None:
    """``output`` where it is to be a file. Raises ConfigError where it could be only one of several."""
    if output is None or output.is_dir() or not _format(output):
        return None
    if len(runs) > 1:
        raise ConfigError(f"--output {output} is one file, and {len(runs)} runs were named")
    if tuple(formats) not in ((), (_format(output),)):
        raise ConfigError(
            f"--output {output} would be {_format(output)}, and --format says {','.join(formats)}",
            remedy="leave --format out, or name a folder",
        )
    return output


def load(directory: RunDirectory) -> RunRecord:
    """The recorded run, judged again when notes came after its end; INCONCLUSIVE with the reasons when the
    directory contradicts its own hashes."""
    log = read_events(directory.events)
    record, problems = read_recorded(directory, log)
    left = read_notes(directory, taken_notes(log.events))
    altered = file_problems(directory, recorded_files(log.events))
    problems = (*log.problems, *altered, *problems, *left.problems)
    if record is None:
        why = "; ".join(problems) or "run.json was never written: the run was killed"
        raise RecordError(
            f"{directory.path} has no usable record: {why}",
            remedy="`shakedown judge` shows what its evidence says",
        )
    if not problems and not log.ended:
        problems = ("the events have no end",)
    if left.notes and not problems:
        return _judged_again(directory)
    for problem in problems:
        sys.stderr.write(f"warning: {directory.path}: {clean(problem)}\n")
    if not problems:
        return record
    reasons = tuple(f"the record cannot be trusted: {problem}" for problem in problems)
    decision = replace(
        record.decision, verdict=Verdict.INCONCLUSIVE, reasons=(*reasons, *record.decision.reasons)
    )
    return replace(record, decision=decision)


def _judged_again(directory: RunDirectory) -> RunRecord:
    judgement = rejudge(directory)
    for said in (*judgement.problems, *judgement.notes):
        sys.stderr.write(f"warning: {directory.path}: {clean(said)}\n")
    return judgement.record


def _target(directory: RunDirectory, record: RunRecord, output: Path | None, *, several: bool) -> Path:
    if output is None:
        return directory.path
    target = output / f"{safe_name(record.host.name)}-{safe_name(record.run)}" if several else output
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{target} could not be created: {error}") from error
    return target
