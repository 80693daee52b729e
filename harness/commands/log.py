"""``shakedown log``: what a kernel log says of GPUs, bus, IOMMU, memory and the kernel itself."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harness.config.files import load_kernel_codes
from harness.errors import ConfigError
from harness.model.kernel_codes import KernelCodes
from harness.model.telemetry import KernelEvent, Ruling
from harness.regular import open_regular
from harness.shown import hand_out, say
from harness.telemetry.kernel.log import Told, tell_numbered
from harness.telemetry.kernel.text import kmsg_record

_CHUNK = 1 << 16
_LONGEST = 16384
"""Bytes of one line that are kept: as many as of a run's own spools. The rest of the line is passed over."""
_SAID_ALONE = "; it is only a consequence: follow the event that it comes with"
_COLUMNS = "{:>11}  {:8}  {:13}  {:13}  {:15} {}"


class _Reader:
    """Lines of a file as the reader of kernel logs takes them, and what was seen of them on the way."""

    def __init__(self, stream: BinaryIO, name: str, *, kmsg: bool) -> None:
        self._stream = stream
        self._name = name
        self._kmsg = kmsg
        self.lines = 0
        self.cut = 0
        """Lines that were too long to be kept whole."""
        self.records = 0

    def numbered(self) -> Iterator[tuple[int, float | None, str]]:
        """Number, time where a record tells it, and text of each line; a carriage return ends one, too, but
        does not count. Raises ConfigError when the file cannot be read."""
        for number, raw in self._split():
            text = raw.decode("utf-8", "backslashreplace")
            if number == 1 and _is_json(text):
                raise ConfigError(
                    f"{self._name}: this is JSON, which cannot be read as a kernel log",
                    remedy="give the output of journalctl -k or dmesg without their options for JSON",
                )
            if not self._kmsg:
                yield number, None, text
            elif (record := kmsg_record(text)) is not None:
                self.records += 1
                yield number, record[0], record[2]

    def _split(self) -> Iterator[tuple[int, bytes]]:
        kept, number, cut, open_line = bytearray(), 1, False, False
        while chunk := self._read():
            for part in chunk.splitlines(keepends=True):
                room = _LONGEST - len(kept)
                text = part.rstrip(b"\r\n")
                kept += text[:room]
                cut = cut or len(text) > room
                open_line = True
                if part.endswith((b"\n", b"\r")):
                    if kept:
                        yield number, bytes(kept)
                    kept.clear()
                if part.endswith(b"\n"):
                    self.lines, self.cut = number, self.cut + cut
                    number, cut, open_line = number + 1, False, False
        if open_line:
            self.lines, self.cut = number, self.cut + cut
            yield number, bytes(kept)

    def _read(self) -> bytes:
        try:
            return self._stream.read(_CHUNK)
        except OSError as error:
            raise ConfigError(f"{self._name}: {error.strerror or error}") from error


def run(file: str, *, kmsg: bool, json_output: bool) -> int:
    """Print what the log in ``file`` (``-``: standard input) tells of, and return 0.

    Raises ConfigError for a file that cannot be read, and for one of another form where ``kmsg`` says that it
    holds records of /dev/kmsg.
    """
    codes = load_kernel_codes()
    name = "standard input" if file == "-" else file
    with _opened(file) as stream:
        reader = _Reader(stream, name, kmsg=kmsg)
        events = tell_numbered(reader.numbered(), codes)
        counts = _as_json(events, codes) if json_output else _as_table(events)
    if kmsg and reader.lines and not reader.records:
        raise ConfigError(
            f"{name}: not one of its {reader.lines} lines is a record of /dev/kmsg",
            remedy="leave out --kmsg for the output of dmesg, journalctl or a serial console",
        )
    if json_output:
        hand_out("[]" if not counts else "]")
    else:
        say(_summary(counts, reader, name))
    return 0


def _is_json(first: str) -> bool:
    """Whether it is as ``journalctl -o json`` and ``dmesg --json`` do; ``{1}[Hardware Error]`` is text."""
    return first.strip() in ("{", "[") or first.lstrip().startswith(('{"', '{ "'))


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        if sys.stdin is None:
            raise ConfigError(
                "standard input is closed", remedy="name a file, or give the log on standard input"
            )
        yield sys.stdin.buffer
        return
    try:
        stream = open_regular(Path(file), links=True)
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror or error}",
            remedy="give a file with a kernel log; use - to read from a pipe",
        ) from error
    with stream:
        yield stream


def _as_json(events: Iterator[Told], codes: KernelCodes) -> Counter[str]:
    counts: Counter[str] = Counter()
    for told in events:
        hand_out(("," if counts else "[") + "\n" + json.dumps(_data(told, codes)))
        counts[_severity(told.event)] += 1
    return counts


def _data(told: Told, codes: KernelCodes) -> dict[str, object]:
    event = told.event
    return {
        "lines": [told.first, told.last],
        "family": event.family.value,
        "code": event.code,
        "subcode": event.subcode,
        "device": None if event.device is None else str(event.device),
        "severity": _severity(event),
        "action": event.action.value,
        "meaning": _meaning(event),
        "sources": _sources(event, codes),
    }


def _sources(event: KernelEvent, codes: KernelCodes) -> list[str]:
    """What others say of a code, each behind its name in ``inventory/kernel``; none for words without one."""
    known = None if event.code is None else codes.of(event.family).get(event.code)
    return [] if known is None else [f"{name}: {said}" for name, said in known.sources.items()]


def _severity(event: KernelEvent) -> str:
    return Ruling.NOTE.value if event.ruling is Ruling.LINK else event.ruling.value


def _meaning(event: KernelEvent) -> str:
    return event.meaning + (_SAID_ALONE if event.ruling is Ruling.LINK else "")


def _as_table(events: Iterator[Told]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for told in events:
        if not counts:
            say(_COLUMNS.format("lines", "severity", "event", "device", "action", "meaning"))
        event = told.event
        counts[_severity(event)] += 1
        place = str(told.first) if told.first == told.last else f"{told.first}-{told.last}"
        code = "" if event.code is None else f" {event.code}"
        sub = "" if event.subcode is None else f".{event.subcode}"
        row = _COLUMNS.format(
            place,
            _severity(event),
            f"{event.family.value}{code}{sub}",
            "-" if event.device is None else str(event.device),
            event.action.value,
            _meaning(event),
        )
        say(row)
    return counts


def _summary(counts: Counter[str], reader: _Reader, name: str) -> str:
    order = [
        ruling.value for ruling in (Ruling.STOP, Ruling.UNKNOWN, Ruling.RETEST, Ruling.CONFIG, Ruling.NOTE)
    ]
    said = ", ".join(f"{counts[each]} {each}" for each in order if counts[each])
    total = sum(counts.values())
    found = f"{total} event{'' if total == 1 else 's'} ({said})" if total else "no event"
    cut = f"; {reader.cut} of them longer than {_LONGEST} bytes and cut" if reader.cut else ""
    return f"{found} in {reader.lines} lines of {name}{cut}"
