"""Progress of long work on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

from harness.descriptors import no_pipe_signal
from harness.shown import UNSAFE

_QUIET_SECONDS = 10.0
"""Waiting messages that differ only in their numbers are printed at most this often on a plain stream."""

_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_LONGEST = 300


def plain(message: str) -> str:
    """The beginning of a message, fit for a terminal whoever wrote it."""
    return UNSAFE.sub(" ", message[:_LONGEST])


class _Quiet(io.TextIOBase):
    """A stream that may be closed or broken at any time: from then on nothing is written, and nothing raised.
    What is said on the way must not end a run."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._broken = stream is None

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property here, an attribute there
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def write(self, text: str) -> int:
        try:
            self._write(text)
        except UnicodeEncodeError:
            self.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except RuntimeError:
            pass  # a handler of a signal speaks in the middle of another line: only this one is lost
        except (OSError, ValueError):
            self._broken = True
        return len(text)

    def _write(self, text: str) -> None:
        if self._stream is not None and not self._broken:
            with no_pipe_signal():
                self._stream.write(text)
                self._stream.flush()


class _Live:
    """A line that is made anew each time a terminal draws it: its clock moves while nothing is said."""

    def __init__(self, words: Callable[[], str]) -> None:
        self._words = words

    def __rich__(self) -> Any:
        from rich.text import Text  # noqa: PLC0415  only terminals need it

        return Text(self._words())


def step(progress: Callable[[str], None], number: int, of: int) -> Callable[[str], None]:
    """The same, with how far a work of several steps is before each message."""
    return lambda message: progress(f"step {number} of {of}: {message}")


class Progress:
    """Says which stage runs, for how long, and what is being waited for. Callable with a message."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = _Quiet(stream or sys.stderr)
        self._begun = time.monotonic()
        self._stage = ""
        self._stage_begun = self._begun
        self._last = ""
        self._said: dict[str, float] = {}
        """Messages of this stage without their numbers, and when each was last shown."""
        self._status: Any = None
        if self._stream.isatty():
            from rich.console import Console  # noqa: PLC0415  only terminals need it

            self._status = Console(file=cast(TextIO, self._stream), highlight=False).status("starting")
            self._status.start()

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._stage, self._stage_begun = name, time.monotonic()
        self._last, self._said = "", {}
        if self._status is not None:
            self._show("")
        else:
            self._line(f"{name} ...")

    def __call__(self, message: str) -> None:
        """Something happened, or is being waited for, in the present stage."""
        text = plain(message)
        shape = _NUMBERS.sub("#", text)
        now = time.monotonic()
        # What is waited for comes again and again, in turns where guests wait beside each other.
        again = shape == self._last or "waiting" in text
        lately = again and now - self._said.get(shape, now - _QUIET_SECONDS) < _QUIET_SECONDS
        self._last = shape
        if self._status is not None:
            self._show(text)
            if not lately and "waiting" not in text:
                self._note(text)
            self._said[shape] = now
            return
        if lately:
            return
        self._said[shape] = now
        self._line(f"{self._stage}: {text}" if self._stage else text)

    def done(self) -> None:
        """No more progress; safe to call twice."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _show(self, text: str) -> None:
        self._status.update(_Live(lambda: self._now(text)))

    def _now(self, text: str) -> str:
        total, here = time.monotonic() - self._begun, time.monotonic() - self._stage_begun
        return f"[{_clock(total)}] {self._stage} ({here:.0f} s) {text}"

    def _note(self, text: str) -> None:
        from rich.markup import escape  # noqa: PLC0415

        elapsed = _clock(time.monotonic() - self._begun)
        self._status.console.print(escape(f"[{elapsed}] {self._stage}: {text}"))

    def _line(self, text: str) -> None:
        self._stream.write(f"[{_clock(time.monotonic() - self._begun)}] {text}\n")


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:d}:{int(seconds) % 60:02d}"
