"""Commands that live as long as their standard input is held."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence

from harness.backends.process import end_group
from harness.errors import CommandTimeout, TransportError

_CHUNK = 65536


class HeldCommand:
    """A command that lives as long as we hold its standard input, and no longer.

    When this process dies, by whatever signal, the kernel closes our end of the pipe and the command reads
    end-of-file: that is what makes a lock held by it safe.
    """

    def __init__(self, argv: Sequence[str], *, where: str, env: Mapping[str, str] | None = None) -> None:
        self._where = where
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  kept for the command's life; an undrained pipe blocks
        try:
            self._child = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise TransportError(f"{argv[0]}: could not be started: {error}", host=where) from error

    @property
    def alive(self) -> bool:
        """Whether the command still runs (its connection included)."""
        return self._child.poll() is None

    def read_line(self, deadline: float) -> str:
        """The next line it prints, without the newline; ``""`` if it ended instead.

        Raises CommandTimeout when ``deadline`` seconds pass first.
        """
        stream = self._child.stdout
        assert stream is not None  # noqa: S101  asked for as a pipe
        until = time.monotonic() + deadline
        line = bytearray()
        with selectors.DefaultSelector() as chooser:
            chooser.register(stream, selectors.EVENT_READ)
            while len(line) < _CHUNK:
                if not chooser.select(max(0.0, until - time.monotonic())):
                    raise CommandTimeout(f"no answer within {deadline:g} s", host=self._where)
                byte = os.read(stream.fileno(), 1)
                if byte in (b"", b"\n"):
                    break
                line += byte
        return line.decode("utf-8", "backslashreplace")

    def beat(self) -> bool:
        """Send one byte to show that we live; False when the command or its connection is gone."""
        with self._lock:
            stream = self._child.stdin
            if stream is None or stream.closed or not self.alive:
                return False
            try:
                os.write(stream.fileno(), b".")
            except BrokenPipeError:
                return False
            return True

    def errors(self) -> str:
        """What it wrote on standard error so far (at most 64 KiB)."""
        if self._errors.closed:
            return ""
        data = os.pread(self._errors.fileno(), _CHUNK, 0)
        return data.decode("utf-8", "backslashreplace").strip()

    def close(self, deadline: float = 10.0) -> None:
        """Close its input and wait for its end; killed after ``deadline`` seconds. Safe to call twice."""
        with self._lock:
            if self._child.stdin is not None and not self._child.stdin.closed:
                with contextlib.suppress(BrokenPipeError):
                    self._child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(deadline)
        end_group(self._child)
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()
