"""``events.jsonl``: append-only, one JSON object a line, numbered from 1, fsynced before it counts.

The last event is ``end``; it carries the total and the hash of all bytes before it, so that a lost, added
or altered line is noticed. A line without its newline was never acknowledged: it is a *torn tail*, the mark
of a killed run, and readers leave it out. A line that somebody else added ends nothing: the run goes on
behind it, and every reader says that it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cleanups import Cleanups
from harness.errors import RecordError
from harness.ports import Clock
from harness.record.append import AppendFile
from harness.record.files import sync_directory
from harness.regular import MOST_RECORD, open_regular, read_regular
from harness.serial import recorded_json

END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing a run learned. ``at`` is wall time (UTC, ISO 8601), ``monotonic`` seconds of the writer."""

    seq: int
    at: str
    monotonic: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """What ``events.jsonl`` holds, and what is wrong with it."""

    events: tuple[Event, ...]
    torn: int
    """Bytes of an unfinished last line; 0 when the file ends cleanly."""
    ended: bool
    """True when the last event is ``end`` and its total and hash agree."""
    problems: tuple[str, ...]
    """Signs of damage or tampering: gaps, a wrong total, a wrong hash, lines after the end."""
    whole_bytes: int
    """Length of the file without its torn tail."""


class EventLog:
    """Appends events. Safe to use from several threads; each append is on disk when it returns.

    Only the process that opened it writes: a fork of it has the same numbers in its memory, and would write
    them twice.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        *,
        seq: int = 0,
        digest: Any = None,
        file: AppendFile | None = None,
    ) -> None:
        """Raises RecordError when the file cannot be opened, or another process writes it."""
        self._file = file or AppendFile(path, create=True)
        self._clock = clock
        self._seq = seq
        self._digest = digest or hashlib.sha256()
        self._line = b""
        """What was being written last, until it is counted."""
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        try:
            self._size = self._file.size()
            sync_directory(self._file.path.parent)
        except OSError as error:
            raise RecordError(f"{path} could not be opened: {error}") from error

    @classmethod
    def reopen(cls, path: Path, clock: Clock) -> tuple[EventLog, int]:
        """Go on with the log of a killed run: cut its torn tail off and append after it.

        Returns the log and the number of bytes cut off. Raises RecordError for a log that has ended, is
        damaged or is being written: those are never written to.
        """
        with Cleanups() as undo:
            file = AppendFile(path, create=False)
            undo.callback(file.close)
            known = read_events(file.path)
            if known.ended or known.problems:
                why = "; ".join(known.problems) or "it has ended"
                raise RecordError(f"{path} cannot be continued: {why}")
            content = read_regular(file.path, MOST_RECORD)[: known.whole_bytes]
            if known.torn:
                file.cut(known.whole_bytes)
            log = cls(path, clock, seq=len(known.events), digest=hashlib.sha256(content), file=file)
            undo.pop_all()
        return log, known.torn

    @property
    def total(self) -> int:
        """Events written so far."""
        return self._seq

    def append(self, kind: str, data: dict[str, Any]) -> int:
        """Write one event durably; returns its sequence number. Raises RecordError when it cannot."""
        self.require_writer()
        with self._lock:
            return self._append(kind, data)

    def end(self) -> int:
        """Write the closing event with the total and the hash of everything before it, and close."""
        self.require_writer()
        with self._lock:
            self._count()
            total = self._append(
                END, {"total": self._seq + 1, "sha256": f"sha256:{self._digest.copy().hexdigest()}"}
            )
        self.close()
        return total

    def close(self) -> None:
        """Close the file; safe to call twice. A fork closes nothing of ours."""
        if self._pid != os.getpid():
            return  # the lock below may be one that another thread held when this process was forked
        with self._lock:
            self._closed = True
            self._file.close()

    def require_writer(self) -> None:
        """Raise RecordError unless this is the process that writes the log."""
        if self._pid != os.getpid():
            raise RecordError(
                f"{self._file.path} is written by process {self._pid}, not by its fork {os.getpid()}",
                remedy="end a forked process with os._exit: its parent does the same work",
            )

    def _append(self, kind: str, data: dict[str, Any]) -> int:
        if self._closed:
            raise RecordError(f"{self._file.path} is closed: {kind!r} arrived too late")
        self._count()
        behind = self._pass_over()
        event = {
            "seq": self._seq + 1,
            "at": self._clock.now(),
            "monotonic": round(self._clock.monotonic(), 6),
            "kind": kind,
            "data": data,
        }
        try:
            text = json.dumps(event, allow_nan=False, ensure_ascii=True, separators=(",", ":")) + "\n"
        except (ValueError, TypeError, RecursionError) as error:
            raise RecordError(f"event {kind!r} cannot be written as JSON: {error}") from error
        try:
            self._line = behind + text.encode("ascii")
            self._file.append(self._line, at=self._size)
        except OSError as error:
            # What reached the disk is unknown: a further append could join two lines into one.
            self._closed = True
            raise RecordError(
                f"{self._file.path} could not be written: {error}", remedy="free space on that filesystem"
            ) from error
        self._count()
        if self._line:
            raise RecordError(f"{self._file.path} does not hold event {self._seq + 1}, which was written")
        return self._seq

    def _pass_over(self) -> bytes:
        """Take what somebody else wrote to the file as it is; returns what must precede the next line."""
        size = self._file.size()
        if size <= self._size:
            return b""
        try:
            with open_regular(self._file.path) as stream:
                stream.seek(self._size)
                foreign = stream.read(min(size - self._size, MOST_RECORD))
        except OSError as error:
            raise RecordError(f"{self._file.path} could not be read back: {error}") from error
        digest = self._digest.copy()
        digest.update(foreign)
        self._digest, self._size = digest, self._size + len(foreign)
        return b"" if foreign.endswith(b"\n") else b"\n"

    def _count(self) -> None:
        """Count the last line if it is in the file. An interrupt (Ctrl-C) may come between any two steps of
        an append: then the next one begins here, and asks the file how far the last one came."""
        if not self._line:
            return
        size, whole = self._file.size(), self._size + len(self._line)
        if size == whole:
            digest = self._digest.copy()
            digest.update(self._line)
            # Stores without a call between them: no handler of a signal runs in their middle.
            self._seq, self._digest, self._size, self._line = self._seq + 1, digest, whole, b""
        elif size != self._size:
            self._closed = True
            raise RecordError(
                f"{self._file.path} is {size} bytes long, not {whole}: its last line is incomplete"
            )


def read_events(path: Path) -> EventFile:
    """Read ``events.jsonl``. Raises RecordError when it cannot be read.

    A line that is none of the run's next event is a problem, and is passed over.
    """
    try:
        content = read_regular(path, MOST_RECORD)
    except OSError as error:
        raise RecordError(f"{path} could not be read: {error.strerror or error}") from error
    whole, newline, tail = content.rpartition(b"\n")
    body = whole + newline
    events: list[Event] = []
    problems: list[str] = []
    ended = False
    offset = 0
    for number, line in enumerate(body.split(b"\n")[:-1], start=1):
        due = events[-1].seq + 1 if events else 1
        event, problem = line_of_run(line, number, due, path)
        problems += [problem] if problem else []
        if event is not None and ended:
            problems.append(f"line {number} of {path.name} comes after the end")
        elif event is not None:
            if event.kind == END:
                ended = True
                problems += _check_end(event, len(events) + 1, body[:offset])
            events.append(event)
        offset += len(line) + 1
    if ended and tail:
        problems.append(f"{path.name} continues after its end")
    return EventFile(
        events=tuple(events),
        torn=len(tail),
        ended=ended and not problems,
        problems=tuple(problems),
        whole_bytes=len(body),
    )


def _check_end(event: Event, number: int, before: bytes) -> list[str]:
    problems = []
    if event.data.get("total") != number:
        problems.append(
            f"the last event announces {event.data.get('total')!r} events, but there are {number}"
        )
    if event.data.get("sha256") != f"sha256:{hashlib.sha256(before).hexdigest()}":
        problems.append("the events do not match the hash in the last event: a line was altered")
    return problems


def line_of_run(line: bytes, number: int, due: int, path: Path) -> tuple[Event | None, str]:
    """The event in a line of ``path``, and what is wrong with it; ``due`` is its sequence number.

    None for what is no event, and for one that was there already. Behind a gap the run goes on.
    """
    try:
        event = read_line(line, number, path)
    except RecordError as error:
        return None, error.message
    if event.seq == due:
        return event, ""
    wrong = f"line {number} of {path.name} has sequence number {event.seq}, not {due}"
    return event if event.seq > due else None, wrong


def read_line(line: bytes, number: int, path: Path) -> Event:
    """One line of ``path`` as an event. Raises RecordError when it is none."""
    try:
        raw = recorded_json(line)
        event = Event(
            seq=raw["seq"], at=raw["at"], monotonic=raw["monotonic"], kind=raw["kind"], data=raw["data"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"line {number} of {path} is not an event: {str(error)[:200]}") from error
    shapes = (
        (event.seq, int),
        (event.at, str),
        (event.monotonic, (int, float)),
        (event.kind, str),
        (event.data, dict),
    )
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value, kind in shapes):
        raise RecordError(f"line {number} of {path} is not an event: a field has the wrong type")
    return event
