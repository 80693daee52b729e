"""What ``host_follow.sh`` prints, as values; and how it is asked for."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import resources

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.telemetry.kernel_log import Line, kmsg_record

_FIRST = re.compile(r"shakedown-host 1 ([0-9a-f]{16,64})")
_NONCE = re.compile(r"[0-9a-f]{16,64}")
_FILE = re.compile(
    r"(?P<path>(?:/|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/)[^:]{1,300}):(?P<text>.*)", re.DOTALL
)
_DOMAIN = re.compile(r"/run/libvirt/qemu/(?P<name>[^/]{1,200})\.pid")
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
class Sample:
    """One sample: the files of it, as lines by path."""

    at: float
    """Seconds since boot."""
    files: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A thread of a user's process, as a look found it."""

    process: int
    thread: int
    parent: int
    session: int
    cpu: int
    """On which it ran last."""
    ticks: int
    """Processor time that it has used."""
    running: bool
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Who was there, and what each CPU had done until then."""

    tasks: tuple[Task, ...]
    domains: dict[str, int]
    """Running domain to its QEMU's process, as libvirt has written it down."""
    steal_ticks: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpool:
    """All that the follower printed. What could not be read is told in ``problems``."""

    follower: int
    """Process id of the follower."""
    parent: int
    """And of what started it: our own connection, when it runs over SSH."""
    ticks_per_second: float
    samples: tuple[Sample, ...]
    looks: tuple[Look, ...]
    kernel: tuple[Line, ...]
    kernel_dropped: int
    kernel_failed: str
    """Why the kernel's log could not be read; empty while it could."""
    ended: float | None
    """When it said that it ends; None when it fell silent."""
    problems: tuple[str, ...]


def read_lines(raw: bytes | Iterable[bytes]) -> HostSpool:
    """The follower's output, whole or as its lines. Raises ParseError when it is none."""
    reader = _Reader()
    for number, line in enumerate(io.BytesIO(raw) if isinstance(raw, bytes) else raw, 1):
        text = line[:_LONGEST].decode("utf-8", "backslashreplace")
        if not line.endswith(b"\n"):
            reader.problem(number, "the last line is torn")
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
        self._samples: list[Sample] = []
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
        if kind == "self" and len(words) == 4 and all(word.isdecimal() for word in words[1:]):
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
            self._looks.append(_look(self._files, self._tasks))
            return
        at = _first_number(" ".join(self._files.pop("/proc/uptime", [])))
        if at is None or (self._samples and at < self._samples[-1].at):
            self.problem(number, "a sample whose time cannot be")
        else:
            self._samples.append(Sample(at=at, files=self._files))

    def _record(self, at: float, seq: int, text: str) -> None:
        if seq in self._kernel or seq <= self._highest:
            return  # read again after the reader was overtaken
        if self._highest >= 0:
            self._dropped += seq - self._highest - 1
        self._highest = seq
        self._kernel[seq] = (at, text)

    def _task(self, number: int, text: str) -> None:
        words = text.split(" ", 8)
        if len(words) != 9 or not all(word.isdecimal() and len(word) < 19 for word in words[1:7]):
            self.problem(number, "a task that cannot be")
            return
        process, thread, parent, session, cpu, ticks = map(int, words[1:7])
        self._tasks.append(
            Task(
                process=process,
                thread=thread,
                parent=parent,
                session=session,
                cpu=cpu,
                ticks=ticks,
                running=words[7] == "R",
                name=words[8][:64],
            )
        )

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
            samples=tuple(self._samples),
            looks=tuple(self._looks),
            kernel=tuple(self._kernel.values()),
            kernel_dropped=self._dropped,
            kernel_failed=self._failed,
            ended=self._ended,
            problems=tuple(told),
        )


def _look(files: dict[str, list[str]], tasks: list[Task]) -> Look:
    domains = {}
    for path, lines in files.items():
        match = _DOMAIN.fullmatch(path)
        if match is not None and lines[0].isdecimal() and len(lines[0]) < 10:
            domains[match["name"]] = int(lines[0])
    steal = {}
    for line in files.get("/proc/stat", []):
        # cpuN user nice system idle iowait irq softirq steal ... (proc(5))
        words = line.split()
        number = words[0][3:] if words else ""
        if len(words) > 8 and number.isdecimal() and words[8].isdecimal() and len(number) < 8:
            steal[int(number)] = int(words[8][:18])
    return Look(tasks=tuple(tasks), domains=domains, steal_ticks=steal)


def _first_number(text: str) -> float | None:
    """The first word as seconds; None when it is not."""
    match = re.match(r"(\d{1,11}(?:\.\d{1,9})?)(?:\s|$)", text)
    return None if match is None else float(match[1])
