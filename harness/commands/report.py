"""``shakedown report RUN…``: render recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError, RecordError
from harness.model.record import RunRecord
from harness.record.directory import RECORD, RunDirectory
from harness.record.files import safe_name
from harness.record.judge import Checker, rejudge
from harness.shown import say, warn
from reports import RENDERERS, render_all, render_one, renderer


def run(
    *,
    runs: Sequence[Path],
    formats: Sequence[str] = (),
    output: Path | None = None,
    checker: Checker | None = None,
) -> int:
    """Render each run's record; prints the files written, one a line, and returns 0.

    Every run is decided again from its events first, as ``judge`` does (by ``checker``, or all checks): what
    ``run.json`` says is not believed. Where the two differ, or evidence was altered, that is said on standard
    error, and the report is INCONCLUSIVE with the reason. Reports go beside the record, or into ``output``
    (one folder for each run when there are several); an ``output`` whose name has an ending is a file, of one
    run and one format. No ``formats`` means all that a run writes by itself. Raises
    ConfigError for an unknown format or a directory that is not a run, RecordError for a run without a
    readable ``run.json``.
    """
    if not runs:
        raise ConfigError("no run was given", remedy="give a directory like runs/<host>/<run-id>")
    for name in formats:
        renderer(name)
    file = _file(output, formats, runs)
    for path in runs:
        directory = RunDirectory.open(path)
        record = load(directory, checker)
        if file is not None:
            say(str(render_one(file, record, formats[0] if formats else _format(file))))
            continue
        target = _target(directory, record, output, several=len(runs) > 1)
        for written in render_all(target, record, formats).values():
            say(str(written))
    return 0


def _format(file: Path) -> str:
    """The format whose files end like this one; empty for none."""
    ends = {".jsonl": "ocp"} | {f".{Path(each.file).suffix.lstrip('.')}": each.format for each in RENDERERS}
    return ends.get(file.suffix.lower(), "")


def _file(output: Path | None, formats: Sequence[str], runs: Sequence[Path]) -> Path | None:
    """``output`` where it is to be a file: its name has an ending, and no folder of that name exists. Raises
    ConfigError where several files would be written, or no format follows from the ending."""
    if output is None or output.is_dir() or not output.suffix:
        return None
    if len(runs) > 1:
        raise ConfigError(
            f"--output {output} is one file, but {len(runs)} runs were given", remedy="give a folder"
        )
    if len(formats) > 1:
        raise ConfigError(
            f"--output {output} is one file, but --format lists {len(formats)} formats",
            remedy="give one format, or a folder",
        )
    ending = _format(output)
    if not ending and not formats:
        raise ConfigError(
            f"--output {output}: no report format has the ending {output.suffix}",
            remedy="add --format, or give a folder, whose name has no ending",
        )
    if ending and formats and formats[0] != ending:
        raise ConfigError(
            f"--output {output} has the ending of {ending}, but --format says {formats[0]}",
            remedy="remove --format, change the ending, or give a folder",
        )
    return output


def load(directory: RunDirectory, checker: Checker | None = None) -> RunRecord:
    """The run, decided again. Raises RecordError when it was never decided, or cannot be read."""
    judgement = rejudge(directory, checker=checker, titles=None if checker is None else ())
    if judgement.recorded is None:
        why = "; ".join(judgement.problems) or f"{RECORD} was never written: the run was killed"
        raise RecordError(
            f"{directory.path} has no usable record: {why}",
            remedy="`shakedown judge` judges its evidence; `qualify --resume` continues a killed run",
        )
    before, now = judgement.recorded.decision.verdict.value, judgement.record.decision.verdict.value
    differs = (f"it was recorded as {before} and is {now} now",) if before != now else ()
    for said in (*differs, *judgement.problems, *judgement.notes):
        warn(f"warning: {directory.path}: {said}")
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
