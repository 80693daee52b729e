"""``shakedown note RUN``: tell a run what a person did or saw."""

from __future__ import annotations

from pathlib import Path

from harness.backends.clock import SystemClock
from harness.model.evidence import Note
from harness.ports import Clock
from harness.record.directory import RunDirectory
from harness.record.notes import leave_note
from harness.serial import to_data
from harness.shown import say, say_json


def run(
    *, run_dir: Path, by: str, text: str, intervention: bool, json_output: bool, clock: Clock | None = None
) -> int:
    """Leave a note in ``run_dir``, print its file and return 0.

    Raises ConfigError when ``run_dir`` is no run directory or cannot be written, and for a note that no run
    would take: empty, too long, of more than one line.
    """
    directory = RunDirectory.open(run_dir)
    at = (clock or SystemClock()).now()
    note = Note(at=at, by=by.strip(), text=text.strip(), intervention=intervention)
    file = leave_note(directory, note)
    if json_output:
        say_json({"run": str(run_dir), "file": file, **to_data(note)})
    else:
        what = "an intervention" if intervention else "a note"
        say(f"{what} of {note.by} at {at}: {run_dir / file}")
    return 0
