"""What people tell a run: a file of its own for each note, since the run alone writes its events.

``leave_note`` puts a file into ``notes/``. A run that lives, or is taken up again, takes it into its events
(``Recorder.absorb_notes``). One that comes later is evidence all the same, when the run is judged again. What
lies in ``notes/`` and is not a whole note is a problem of the record: it may be the one that mattered.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ConfigError, ParseError, RecordError
from harness.model.evidence import Evidence, Note
from harness.model.outcome import Verdict
from harness.record.directory import RunDirectory
from harness.record.events import Event
from harness.record.files import BEING_WRITTEN, make_folders, sha256_bytes, sync_directory, write_whole
from harness.record.kinds import Kind
from harness.regular import read_regular
from harness.serial import recorded_json, to_json

NOTES = "notes"
MOST_NOTES = 1000
MOST_BYTES = 64 << 10
MOST_TEXT = 4000
"""Characters of a note's text: as JSON's escapes they stay below ``MOST_BYTES``, whatever they are."""
MOST_NAME = 100

_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{16}\.json", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, halves of pairs, and what ends a line or a paragraph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFile:
    """A note as it lies in the run directory."""

    file: str
    """Its path in the run directory."""
    sha256: str
    """``sha256:<hex>`` of its bytes."""
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftNotes:
    """What lies in ``notes/`` and is not yet in the events."""

    notes: tuple[NoteFile, ...] = ()
    """Whole ones, in the order of their names, which is that of their times."""
    problems: tuple[str, ...] = ()
    """What is no note, one sentence each."""


def fault_of(note: Note) -> str:
    """What is wrong with a note's fields, in words; nothing when all is well."""
    if not _MOMENT.fullmatch(note.at):
        return "its time is not in UTC like 2026-03-10T12:00:00Z"
    for what, text, most in (("name", note.by, MOST_NAME), ("text", note.text, MOST_TEXT)):
        if not text.strip():
            return f"its {what} is empty"
        if len(text) > most:
            return f"its {what} has {len(text)} characters; {most} are allowed"
        if any(unicodedata.category(c) in _CONTROLS for c in text):
            return f"its {what} holds control characters or line breaks"
    return ""


def leave_note(directory: RunDirectory, note: Note) -> str:
    """Put a note into the run directory, whole or not at all; returns its path there.

    Raises ConfigError for a note that no run would take, and where it cannot be written.
    """
    fault = fault_of(note)
    if fault:
        raise ConfigError(f"the note was not accepted: {fault}", remedy="write one line of plain text")
    folder = directory.path / NOTES
    try:
        make_folders(folder, like=directory.path)
        if folder.is_symlink():
            raise ConfigError(f"{folder} is a link: the run would not read a note there")
        if sum(1 for _ in folder.iterdir()) >= MOST_NOTES:
            raise ConfigError(f"{folder} already has {MOST_NOTES} notes, which is the most for a run")
        sync_directory(directory.path)
        path = folder / f"{_stamp(note.at)}-{secrets.token_hex(8)}.json"
        write_whole(path, (to_json(note) + "\n").encode("ascii"))
    except (OSError, RecordError) as error:
        said = error.message if isinstance(error, RecordError) else str(error)
        raise ConfigError(
            f"the note could not be written: {said}",
            remedy="use an account that may write to the run directory",
        ) from error
    return path.relative_to(directory.path).as_posix()


def _stamp(at: str) -> str:
    return "".join(c for c in at.partition(".")[0].rstrip("Z") if c.isalnum()) + "Z"


def read_notes(directory: RunDirectory, taken: Collection[str] = ()) -> LeftNotes:
    """The notes of a run directory but for those that are ``taken`` already; never raises.

    Of a taken one only its kind is looked at: its bytes are held to the hash in the events, as are those of
    all evidence.
    """
    folder = directory.path / NOTES
    try:
        names = _names(folder)
    except OSError as error:
        return LeftNotes(problems=(f"{NOTES} could not be read: {error.strerror or error}",))
    notes: list[NoteFile] = []
    problems: list[str] = []
    if len(names) > MOST_NOTES:
        problems.append(f"{NOTES} holds more than {MOST_NOTES} files: the rest was not read")
    for name in names[:MOST_NOTES]:
        file = f"{NOTES}/{name}"
        try:
            data = _regular(folder / name, read=file not in taken)
            if file not in taken:
                notes.append(NoteFile(file=file, sha256=sha256_bytes(data), note=_parsed(name, data)))
        except (OSError, ParseError) as error:
            said = error.message if isinstance(error, ParseError) else error.strerror or str(error)
            problems.append(f"{NOTES}/{ascii(name)[1:-1][:80]} is not a note: {said}")
    return LeftNotes(notes=tuple(notes), problems=tuple(problems))


def taken_notes(events: Iterable[Event]) -> frozenset[str]:
    """The files of the notes that the events hold."""
    return frozenset(str(event.data.get("file")) for event in events if event.kind == Kind.NOTE)


def with_note(evidence: Evidence, note: Note) -> Evidence:
    """The evidence with one note more, among the interventions when it tells of one.

    The same one again adds nothing: an interrupt may fall between its event and its being counted as taken.
    """
    said = said_of(note)
    if note.intervention and said not in evidence.interventions:
        return replace(evidence, interventions=(*evidence.interventions, said))
    if not note.intervention and note not in evidence.notes:
        return replace(evidence, notes=(*evidence.notes, note))
    return evidence


def said_of(note: Note) -> str:
    """Who said it, when and what: in this order, since a long text may be cut."""
    return f"{note.by} at {note.at}: {note.text}"


def told_late(left: tuple[NoteFile, ...]) -> tuple[str, ...]:
    """A sentence for each note that came too late for the events."""
    return tuple(
        f"{found.file} was added after the last event, "
        f"{'an intervention ' if found.note.intervention else ''}by {said_of(found.note)}"
        for found in left
    )


def changed_by(left: tuple[NoteFile, ...], before: Verdict, after: Verdict) -> tuple[str, ...]:
    """Why a verdict is not the recorded one any more, in a sentence; nothing where it is."""
    told = [found.note for found in left if found.note.intervention]
    if before is after or not told:
        return ()
    more = f", and {len(told) - 1} more" if len(told) > 1 else ""
    return (
        f"the verdict changed from {before.value} to {after.value} because of a note added at "
        f"{told[0].at} by {told[0].by}{more}",
    )


def _names(folder: Path) -> list[str]:
    """What lies in the folder, but for files that are being written: some of them when there are too many."""
    if folder.is_symlink():
        raise NotADirectoryError("it is a link")
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(BEING_WRITTEN):
                    names.append(entry.name)
                if len(names) > MOST_NOTES:
                    break
    except FileNotFoundError:
        return []
    return sorted(names)


def _regular(path: Path, *, read: bool) -> bytes:
    """A regular file's bytes; none unless ``read``. Raises ParseError for any other, and a too large one."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ParseError("it is not a regular file")
    if not read:
        return b""
    return read_regular(path, MOST_BYTES)


def _parsed(name: str, data: bytes) -> Note:
    """The note in a file. Raises ParseError for anything but the four fields, each of its type."""
    if not _NAME.fullmatch(name):
        raise ParseError("it is not named like a note")
    try:
        found = recorded_json(data)
    except ValueError as error:
        raise ParseError(f"it is not strict JSON: {str(error)[:200]}") from error
    fields = {"at": str, "by": str, "text": str, "intervention": bool}
    if not isinstance(found, dict) or set(found) != set(fields):
        raise ParseError(f"it must have exactly the fields {', '.join(fields)}")
    if wrong := [field for field, kind in fields.items() if not isinstance(found[field], kind)]:
        raise ParseError(f"its {wrong[0]} is of the wrong type")
    note = Note(**found)
    if fault := fault_of(note):
        raise ParseError(fault)
    return note
