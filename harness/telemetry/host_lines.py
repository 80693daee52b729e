"""What ``host_follow.sh`` prints, as values; and how it is asked for."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import BinaryIO

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.reading import reader
from harness.regular import LONGEST_LINE, lines_of
from harness.telemetry.host_tasks import Look, Task, read_look, read_task
from harness.telemetry.kernel_log import MOST_LINES
from harness.telemetry.kernel_text import Line, kmsg_record

_FIRST = re.compile(r"shakedown-host 1 ([0-9a-f]{16,64})")
_NONCE = re.compile(r"[0-9a-f]{16,64}")
_FILE = re.compile(
    r"(?P<path>(?:/|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/)[^:]{1,300}):(?P<text>.*)", re.DOTALL
)
_LONGEST = 16384
_KINDS_SHOWN = 20


def host_command(
    nonce: str, *, period_seconds: float, look_every: int, devices: Iterable[PciAddress]
) -> tuple[str, ...]:
    """The follower's command line: hold it open, its output is the spool. ``devices`` with their ports above.

    A look at who runs where is taken with every ``look_every``th sample.
    """
    if _NONCE.fullmatch(nonce) is None:
        raise ValueError("a nonce is 16 to 64 lower-case hex digits")
    script = resources.files("harness.telemetry").joinpath("host_follow.sh").read_text(encoding="ascii")
    every = str(max(1, look_every))
    return ("sh", "-c", script, "sh", nonce, f"{period_seconds:g}", every, *(str(d) for d in devices))


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


@reader("the output of the host's follower")
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
        self._nonce = ""
        self._self = (0, 0, 100.0)
        self._open: tuple[str, str] | None = None
        self._files: dict[str, list[str]] = {}
        self._tasks: list[Task] = []
        self._times: list[float] = []
        self._changes: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        self._ticks: dict[tuple[int, int], int] | None = None
        self._looks: list[Look] = []
        self._kernel: dict[int, Line] = {}
        self._dropped = 0
        self._highest = -1
        self._failed = ""
        self._ended: float | None = None
        self._problems: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def problem(self, number: int, what: str) -> None:
        what = what if len(self._problems) < 1000 else "more that could not be read"
        self._problems[what] += 1
        self._first.setdefault(what, number)

    def take(self, number: int, text: str) -> None:
        if not self._nonce:
            first = _FIRST.fullmatch(text)
            if first is None:
                self.problem(number, f"before the first line: {text[:80]!r}")
            else:
                self._nonce = first[1]
        elif text.startswith(f"{self._nonce} "):
            self._mark(number, text[len(self._nonce) + 1 :].split(" "))
        elif (record := kmsg_record(text)) is not None:
            self._record(*record)
        elif text.startswith(" ") and "=" in text:
            pass  # the dictionary of a kernel record
        elif text.startswith("task "):
            self._task(number, text)
        elif (file := _FILE.fullmatch(text)) is not None:
            self._files.setdefault(file["path"], []).append(file["text"])
        else:
            self.problem(number, "a line of nobody's")

    def _mark(self, number: int, words: list[str]) -> None:
        kind = words[0]
        if kind == "self" and len(words) == 4 and all(map(_is_count, words[1:])):
            self._self = (int(words[1]), int(words[2]), float(words[3]) or 100.0)
        elif kind in ("sample", "look") and len(words) == 2:
            if self._open is not None:
                self.problem(number, f"a {self._open[0]} without an end")
            self._open = (kind, words[1])
            self._files, self._tasks = {}, []
        elif kind == "end" and self._open is not None and words[1:] == [self._open[1]]:
            self._close(number, self._open[0])
            self._open = None
        elif kind == "kernel" and len(words) == 2:
            # It ends by itself only when it was overtaken, which shows in the numbers, or may not read.
            self._failed = "" if self._kernel else f"reading /dev/kmsg ended with status {words[1]}"
        elif kind == "bye":
            self._ended = _first_number(" ".join(words[1:]))
        else:
            self.problem(number, f"an unknown mark: {kind[:20]!r}")

    def _close(self, number: int, kind: str) -> None:
        if kind == "look":
            follower, parent, _ = self._self
            look = read_look(self._files, self._tasks, self._ticks, follower=follower, parent=parent)
            self._looks.append(look)
            self._ticks = {(task.process, task.thread): task.ticks for task in self._tasks}
            return
        at = _first_number(" ".join(self._files.pop("/proc/uptime", [])))
        if at is None or (self._times and at < self._times[-1]):
            self.problem(number, "a sample whose time cannot be")
            return
        place = len(self._times)
        self._times.append(at)
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
            self.problem(number, "a task that cannot be")
        else:
            self._tasks.append(task)

    def result(self) -> HostSpool:
        if not self._nonce:
            raise ParseError(
                "no output of the host's follower: its first line is missing",
                remedy="read it: a shell that cannot run 'sh -c', or a login message, answers so",
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
