"""What ``host/follow.sh`` prints, as values; and how it is asked for."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.reading import reader
from harness.regular import LONGEST_LINE, lines_of
from harness.scripts.protocol import GrowingAnswer
from harness.scripts.script import Script
from harness.telemetry.host.pages import node_pages
from harness.telemetry.host.table import (
    LIBVIRT,
    LOOK_SECONDS,
    LOOKS,
    PAGES,
    SOURCES,
    WATCHED,
    About,
    commands,
)
from harness.telemetry.host.tasks import Look, Task, read_look, read_task
from harness.telemetry.kernel.log import MOST_LINES
from harness.telemetry.kernel.text import Line, kmsg_record

SCRIPT = Script(
    name="host-follow",
    package="harness.telemetry.host",
    file="follow.sh",
    needs="a POSIX sh with grep, find, awk, date, sleep, cat and getconf",
)

_FILE = re.compile(
    r"(?P<path>(?:/|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/)[^:]{1,300}):(?P<text>.*)", re.DOTALL
)
_ROWS = "        : rows"
"""Where the commands of the table go."""
_EVENT = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{1,6})\d{0,3}(\+0000): event .{1,400}")
MOST_WATCHED = 50_000
"""Files of one source that are kept apart: threads of QEMU come and go for as long as it runs."""
MOST_EVENTS = 10_000
_LONGEST = 16384
_KINDS_SHOWN = 20


_SOURCES = frozenset(source.name for source in SOURCES)
_FORGETFUL = frozenset(
    name
    for name in _SOURCES
    if not any(row.comes_and_goes or row.about is About.FOREIGN for row in WATCHED if row.source == name)
)


def host_command(
    nonce: str,
    *,
    period_seconds: float,
    devices: Iterable[PciAddress],
    look_seconds: float = LOOK_SECONDS,
    ours: str = "",
    libvirt: str = LIBVIRT,
    uri: str = "qemu:///system",
) -> tuple[str, ...]:
    """The follower's command line: hold it open, its output is the spool. ``devices`` with their ports above.

    A look at who runs where is taken every ``look_seconds``. ``ours`` is what the names of this run's domains
    begin with, empty where there are none; ``libvirt`` is the directory of the daemon at ``uri``.
    """
    if re.fullmatch(r"[A-Za-z0-9._-]{0,100}", ours) is None:
        raise ValueError(f"not what a domain's name begins with: {ours[:80]!r}")
    body = SCRIPT.body().replace(_ROWS, commands(period_seconds))
    every = str(max(1, round(look_seconds / period_seconds)))
    words = (f"{period_seconds:g}", every, ours, libvirt, uri)
    return SCRIPT.held(nonce, *words, *(str(d) for d in devices), body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One source of ``harness.telemetry.host.table``, as it was read again and again."""

    times: list[float]
    """When it was read, in seconds since boot."""
    files: dict[str, list[tuple[int, tuple[str, ...]]]]
    """File to its lines, and since which of ``times`` they were so; no lines: it was not there. What came and
    went unchanged is forgotten where only a change would be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What libvirt said of a domain."""

    at: float
    """When that was, in seconds since boot: by its time of day, between the samples before and after it.
    Where the time of day is not known, that of what was read last before it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpool:
    """All that the follower printed. What could not be read is told in ``problems``."""

    follower: int
    """Process id of the follower."""
    parent: int
    """And of what started it: our own connection, when it runs over SSH."""
    ticks_per_second: float
    times: tuple[float, ...]
    """Of each sample, in seconds since boot."""
    changes: dict[str, list[tuple[int, tuple[str, ...]]]]
    """File to its lines, with the number of the sample since which they were so; no lines: it was not there.
    Nearly all files never change, and a burn-in takes tens of thousands of samples."""
    looks: tuple[Look, ...]
    asked: dict[str, Asked]
    """By the source's name."""
    events: tuple[Event, ...]
    names: dict[int, str]
    """Process to its name, of all that were seen."""
    parents: dict[int, int]
    """Process to the one that started it."""
    kernel: tuple[Line, ...]
    kernel_dropped: int
    kernel_failed: str
    """Why the kernel's log could not be read; empty while it could."""
    ended: float | None
    """When it said that it ends; None when it fell silent."""
    problems: tuple[str, ...]

    def column(self, path: str) -> list[tuple[str, ...]]:
        """The lines of a file in each sample."""
        changes = self.changes.get(path, [])
        ends = [*(since for since, _ in changes[1:]), len(self.times)]
        column: list[tuple[str, ...]] = [()] * (changes[0][0] if changes else len(self.times))
        for (since, lines), end in zip(changes, ends, strict=True) if changes else ():
            column += [lines] * (end - since)
        return column


@reader("the output of the host's sampler")
def read_lines(raw: bytes | BinaryIO) -> HostSpool:
    """The follower's output, whole or as an open file. Raises ParseError when it is none."""
    reader = _Reader()
    for number, line in enumerate(lines_of(io.BytesIO(raw) if isinstance(raw, bytes) else raw), 1):
        text = line[:_LONGEST].decode("utf-8", "backslashreplace")
        if not line.endswith(b"\n"):
            cut = f"a line of more than {LONGEST_LINE} bytes"
            reader.problem(number, cut if len(line) >= LONGEST_LINE else "the last line is torn")
        else:
            reader.take(number, text.rstrip("\n"))
    return reader.result()


class _Reader:
    def __init__(self) -> None:
        self._answer = GrowingAnswer(SCRIPT.name)
        self._self = (0, 0, 100.0)
        self._open: tuple[str, str] | None = None
        self._files: dict[str, list[str]] = {}
        self._tasks: list[Task] = []
        self._times: list[float] = []
        self._changes: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        self._ticks: dict[tuple[int, int], int] | None = None
        self._looks: list[Look] = []
        self._asked: dict[str, Asked] = {}
        self._there: dict[str, set[str]] = {}
        self._events: list[Event] = []
        self._unplaced = 0
        self._clock: float | None = None
        self._names: dict[int, str] = {}
        self._parents: dict[int, int] = {}
        self._since = 0.0
        self._kernel: dict[int, Line] = {}
        self._dropped = 0
        self._highest = -1
        self._failed = ""
        self._ended: float | None = None
        self._problems: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def problem(self, number: int, what: str) -> None:
        what = what if len(self._problems) < 1000 else "more lines that could not be read"
        self._problems[what] += 1
        self._first.setdefault(what, number)

    def take(self, number: int, text: str) -> None:
        mark = self._answer.take(text)
        if mark:
            self._mark(number, mark.split(" "))
        elif mark == "" or (self._answer.begun and not text):
            pass  # its first or last line, and the break before that
        elif not self._answer.begun:
            self.problem(number, f"before the first line: {text[:80]!r}")
        elif (record := kmsg_record(text)) is not None:
            self._record(*record)
        elif text.startswith(" ") and "=" in text:
            pass  # the dictionary of a kernel record
        elif _EVENT.fullmatch(text) is not None:
            self._event(number, text)
        elif text.startswith("\t") or text.startswith("events received: "):
            pass  # what an event says beside its kind
        elif text.startswith("task "):
            self._task(number, text)
        elif (file := _FILE.fullmatch(text)) is not None:
            self._files.setdefault(file["path"], []).append(file["text"])
        else:
            self.problem(number, "an unexpected line")

    def _mark(self, number: int, words: list[str]) -> None:
        kind = words[0]
        if kind == "self" and len(words) == 4 and all(map(_is_count, words[1:])):
            self._self = (int(words[1]), int(words[2]), float(words[3]) or 100.0)
        elif kind in ("sample", "look") and len(words) == 2:
            self._begin(number, kind, words[1])
        elif kind in ("watch", "same") and len(words) == 3 and words[1] in _SOURCES:
            self._since = _first_number(words[2]) or 0.0
            if kind == "watch":
                self._begin(number, kind, words[1])
            elif words[1] in self._asked:
                self._asked[words[1]].times.append(self._since)
        elif kind == "end" and self._open is not None and words[1:] == [self._open[1]]:
            self._close(number, self._open[0])
            self._open = None
        elif kind == "kernel" and len(words) == 2:
            # It ends by itself only when it was overtaken, which shows in the numbers, or may not read.
            self._failed = "" if self._kernel else f"reading /dev/kmsg ended with status {words[1]}"
        elif kind == "clock" and len(words) == 3:
            uptime, day = _first_number(words[1]), _first_number(words[2])
            self._clock = None if uptime is None or day is None else day - uptime
        elif kind == "events" and len(words) == 2:
            self._event(number, f"events of libvirt ended with status {words[1][:20]}")
        elif kind == "bye":
            self._ended = _first_number(" ".join(words[1:]))
        else:
            self.problem(number, f"an unknown mark: {kind[:20]!r}")

    def _begin(self, number: int, kind: str, which: str) -> None:
        if self._open is not None:
            self.problem(number, f"a {self._open[0]} without an end")
        self._open = (kind, which)
        self._files, self._tasks = {}, []

    def _event(self, number: int, text: str) -> None:
        """An event has the time that it says, but not before what was read before it."""
        if len(self._events) >= MOST_EVENTS:
            self.problem(number, f"more than {MOST_EVENTS} events of libvirt")
            return
        before = max(self._since, self._times[-1] if self._times else 0.0)
        match = _EVENT.fullmatch(text)
        at = before
        if match is not None and self._clock is not None:
            with contextlib.suppress(ValueError):  # such a day there is not
                at = max(before, datetime.fromisoformat(match[1] + match[2]).timestamp() - self._clock)
        self._events.append(Event(at=at, text=text))

    def _place_events(self, now: float) -> None:
        """Nothing that was told of before ``now`` happened after it, whatever the time of day was."""
        for place in range(self._unplaced, len(self._events)):
            event = self._events[place]
            self._events[place] = replace(event, at=min(event.at, now))
        self._unplaced = len(self._events)

    def _keep(self, number: int, source: str, at: float, files: Mapping[str, Sequence[str]]) -> None:
        """What a source says, from a time on."""
        asked = self._asked.setdefault(source, Asked(times=[], files={}))
        there = self._there.setdefault(source, set())
        place = len(asked.times)
        asked.times.append(at)
        for path in [*files, *(there - files.keys())]:
            lines = tuple(files.get(path, ()))
            known = asked.files.get(path)
            if known is None and len(asked.files) >= MOST_WATCHED:
                self.problem(number, f"more than {MOST_WATCHED} files of one source")
            elif known is None:
                asked.files[path] = [(place, lines)]
            elif not lines and len(known) == 1 and source in _FORGETFUL:
                del asked.files[path]
            elif known[-1][1] != lines:
                known.append((place, lines))
        there.clear()
        there.update(files)

    def _close(self, number: int, kind: str) -> None:
        if kind == "watch" and self._open is not None:
            name = self._open[1]
            self._keep(number, name, self._since, node_pages(self._files) if name == PAGES else self._files)
            return
        if kind == "look":
            follower, parent, _ = self._self
            look = read_look(self._files, self._tasks, self._ticks, follower=follower, parent=parent)
            self._looks.append(look)
            self._keep(number, LOOKS, self._times[-1] if self._times else 0.0, look.identities)
            if len(self._names) < MOST_WATCHED:
                leaders = [task for task in self._tasks if task.process == task.thread]
                self._names.update((task.process, task.name) for task in leaders)
                self._parents.update((task.process, task.parent) for task in leaders)
            self._ticks = {(task.process, task.thread): task.ticks for task in self._tasks}
            return
        at = _first_number(" ".join(self._files.pop("/proc/uptime", [])))
        if at is None or (self._times and at < self._times[-1]):
            self.problem(number, "a sample with an impossible time")
            return
        place = len(self._times)
        self._times.append(at)
        self._place_events(at)
        for path in {*self._changes, *self._files}:
            lines = tuple(self._files.get(path, ()))
            changes = self._changes.setdefault(path, [(0, ())])
            if changes[-1][1] != lines:
                changes.append((place, lines))

    def _record(self, at: float, seq: int, text: str) -> None:
        if seq in self._kernel or seq <= self._highest:
            return  # read again after the reader was overtaken
        if self._highest >= 0:
            self._dropped += seq - self._highest - 1
        self._highest = seq
        if len(self._kernel) < MOST_LINES:
            self._kernel[seq] = (at, text)
        else:
            self._dropped += 1

    def _task(self, number: int, text: str) -> None:
        task = read_task(text)
        if task is None:
            self.problem(number, "a task with impossible values")
        else:
            self._tasks.append(task)

    def result(self) -> HostSpool:
        if not self._answer.begun:
            raise ParseError(
                "this is not the output of the host's sampler: its first line is missing",
                remedy="read it: the shell cannot run 'sh -c', or it prints a login message",
            )
        told = [
            f"line {self._first[what]}: {what}" + (f" (and {count - 1} more like it)" if count > 1 else "")
            for what, count in self._problems.items()
        ]
        if len(told) > _KINDS_SHOWN:
            told[_KINDS_SHOWN:] = [f"and {len(told) - _KINDS_SHOWN} more kinds of problem"]
        follower, parent, ticks = self._self
        return HostSpool(
            follower=follower,
            parent=parent,
            ticks_per_second=ticks,
            times=tuple(self._times),
            changes=self._changes,
            looks=tuple(self._looks),
            asked=self._asked,
            events=tuple(self._events),
            names=self._names,
            parents=self._parents,
            kernel=tuple(self._kernel.values()),
            kernel_dropped=self._dropped,
            kernel_failed=self._failed,
            ended=self._ended,
            problems=tuple(told),
        )


def _is_count(word: str) -> bool:
    """Whether it is a whole number of sane length: Python refuses to read the longest."""
    return word.isdecimal() and len(word) < 19


def _first_number(text: str) -> float | None:
    """The first word as seconds; None when it is not."""
    match = re.match(r"(\d{1,11}(?:\.\d{1,9})?)(?:\s|$)", text)
    return None if match is None else float(match[1])
