"""Commands that live as long as their standard input is held."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence

from harness.backends.process import Surroundings, end_group, spawn
from harness.cleanups import Cleanups
from harness.descriptors import memory_file, pipe, written
from harness.errors import CommandTimeout, TransportError

_CHUNK = 65536
_LOOK_SECONDS = 1.0
"""So soon it is noticed that the output was closed under us."""


class HeldCommand:
    """A command that lives as long as we hold its standard input, and no longer.

    When this process dies, by whatever signal, the kernel closes our end of the pipe and the command reads
    end-of-file: that is what makes a lock held by it safe. Other code in this process may close that end too:
    then the command ends, and counts as gone at once. What has its number by then is left alone.
    """

    def __init__(self, argv: Sequence[str], *, where: str, surroundings: Surroundings | None = None) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._pid = os.getpid()
        try:
            with Cleanups() as undo:
                reading, self._input = (undo.enter_context(end) for end in pipe())
                self._output, writing = (undo.enter_context(end) for end in pipe())
                # Not a pipe, which would block a command that says more than it holds.
                self._errors = undo.enter_context(memory_file("errors"))
                self._child = spawn(
                    argv,
                    stdin=reading,
                    stdout=writing,
                    stderr=self._errors,
                    surroundings=surroundings,
                    where=where,
                )
                undo.pop_all()
        except OSError as error:
            raise TransportError(f"{argv[0]}: could not be started: {error}", host=where) from error
        for end in (reading, writing):
            end.close()
        for kept in (self._input, self._output, self._errors):
            kept.not_for_forks()

    @property
    def alive(self) -> bool:
        """Whether the command still runs (its connection included) and is held."""
        return self._input.held and self._child.poll() is None

    def read_line(self, deadline: float) -> str:
        """The next line it prints, without the newline; ``""`` if it ended instead.

        Raises CommandTimeout when ``deadline`` seconds pass first, TransportError when its output was lost.
        """
        until = time.monotonic() + deadline
        line = bytearray()
        try:
            while len(line) < _CHUNK:
                byte = self._read_byte(until, deadline)
                if byte in (b"", b"\n"):
                    break
                line += byte
        except OSError as error:
            raise TransportError(f"its answer was lost: {error}", host=self._where) from error
        return line.decode("utf-8", "backslashreplace")

    def _read_byte(self, until: float, deadline: float) -> bytes:
        while True:
            remaining = max(0.0, until - time.monotonic())
            chooser = select.poll()
            chooser.register(self._output.number(), select.POLLIN)
            if chooser.poll(min(remaining, _LOOK_SECONDS) * 1000):
                return self._output.read(1)
            if not remaining:
                raise CommandTimeout(f"no answer within {deadline:g} s", host=self._where)

    def beat(self) -> bool:
        """Send one byte to show that we live; False when the command or its connection is gone."""
        with self._lock:
            if not self.alive:
                return False
            try:
                self._input.write(b".")
            except OSError:  # it ended, or its input was closed, since we looked
                return False
            return True

    def errors(self) -> str:
        """What it wrote on standard error so far (at most 64 KiB); empty once that is closed."""
        try:
            return written(self._errors).strip()
        except OSError:
            return ""

    def close(self, deadline: float = 10.0) -> None:
        """Close its input and wait; killed after ``deadline`` seconds. Safe twice. A fork ends nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._input.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(deadline)
        end_group(self._child)
        self._output.close()
        self._errors.close()
