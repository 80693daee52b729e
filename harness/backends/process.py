"""Children of ours: started without a shell, bounded in time and output, and ended by their own id only."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from harness.errors import CommandTimeout, TransportError
from harness.ports import CommandResult

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes kept of one stream. No question Shakedown asks has an answer near it; a runaway command has."""

_CHUNK = 65536


class Recorder(Protocol):
    """Keeps what was captured. Called before anything is parsed, for failed commands too."""

    def save(self, label: str, argv: tuple[str, ...], stdin_len: int, result: CommandResult) -> str:
        """Store one command's output; returns its path inside the run directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A child that is gone, and why: at most one of the two flags is set."""

    status: int
    """Exit status; 128 + n when signal n ended it."""
    stdout: bytes
    stderr: bytes
    seconds: float
    timed_out: bool = False
    overflowed: bool = False


def run_child(
    argv: Sequence[str],
    *,
    stdin: bytes | IO[bytes] = b"",
    deadline: float,
    limit: int = OUTPUT_LIMIT,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> Finished:
    """Run ``argv`` to its end, or end it (and its own process group) after ``deadline`` seconds or as soon
    as a stream exceeds ``limit`` bytes. Like SSH, it waits until both streams are closed, so a child that
    leaves a background process with an open stream counts as unfinished. With ``output`` both streams go
    to that file instead, and only the child itself is waited for.

    Raises TransportError when the program cannot be started.
    """
    started = time.monotonic()
    source = subprocess.PIPE if isinstance(stdin, bytes) and stdin else subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=source if isinstance(stdin, bytes) else stdin,
            stdout=subprocess.PIPE if output is None else output,
            stderr=subprocess.PIPE if output is None else output,
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise TransportError(
            f"{argv[0] if argv else '(nothing)'}: could not be started: {error}",
            remedy="install the program, or correct PATH",
        ) from error
    with child:
        pump = _Pump(child, stdin if isinstance(stdin, bytes) else b"", limit)
        try:
            timed_out = not pump.run(started + deadline)
            if not (timed_out or pump.overflowed):
                timed_out = not _wait(child, started + deadline)
        finally:
            end_group(child)
    status = child.returncode
    return Finished(
        status=128 - status if status < 0 else status,
        stdout=bytes(pump.out),
        stderr=bytes(pump.err),
        seconds=time.monotonic() - started,
        timed_out=timed_out,
        overflowed=pump.overflowed,
    )


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process group that ``child`` leads; it is reaped on return.

    The group is ours alone (``start_new_session``) and its number cannot be reused while a member lives.
    """
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait(child: subprocess.Popen[bytes], until: float) -> bool:
    try:
        child.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True


class _Pump:
    """Feeds and drains one child with a single selector: no threads, no deadlock on full pipes."""

    def __init__(self, child: subprocess.Popen[bytes], data: bytes, limit: int) -> None:
        self.out = bytearray()
        self.err = bytearray()
        self.overflowed = False
        self._child = child
        self._data = memoryview(data)
        self._limit = limit

    def run(self, until: float) -> bool:
        """Move bytes until both streams are closed (True) or the time is over (False)."""
        with selectors.DefaultSelector() as chooser:
            for stream, kept in ((self._child.stdout, self.out), (self._child.stderr, self.err)):
                if stream is not None:
                    chooser.register(stream, selectors.EVENT_READ, kept)
            if self._child.stdin is not None:
                os.set_blocking(self._child.stdin.fileno(), False)
                chooser.register(self._child.stdin, selectors.EVENT_WRITE)
            reading = sum(1 for key in chooser.get_map().values() if key.data is not None)
            while reading:
                remaining = until - time.monotonic()
                if remaining <= 0:
                    return False
                for key, _ in chooser.select(remaining):
                    if key.data is None:
                        self._feed(chooser)
                    elif not self._drain(key.fd, key.data):
                        chooser.unregister(key.fileobj)
                        reading -= 1
                if self.overflowed:
                    return True
        return True

    def _feed(self, chooser: selectors.BaseSelector) -> None:
        stream = self._child.stdin
        if stream is None:
            return
        try:
            sent = os.write(stream.fileno(), self._data[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # the child does not read on; what it says and returns is its answer
            sent = len(self._data)
        self._data = self._data[sent:]
        if not self._data:
            chooser.unregister(stream)
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _drain(self, fd: int, kept: bytearray) -> bool:
        data = os.read(fd, _CHUNK)
        room = self._limit - len(kept)
        kept += data[:room]
        if len(data) > room:
            self.overflowed = True
        return bool(data)


def deliver(
    finished: Finished,
    argv: tuple[str, ...],
    *,
    where: str,
    deadline: float,
    stdin_len: int = 0,
    label: str = "",
    recorder: Recorder | None = None,
) -> CommandResult:
    """Save the transcript, then return the result; raises CommandTimeout or TransportError for a command
    that was cut off. An incomplete answer is thus on record but never parsed.
    """
    result = CommandResult(
        argv=argv,
        status=finished.status,
        stdout=finished.stdout,
        stderr=finished.stderr,
        seconds=finished.seconds,
    )
    saved = "" if recorder is None else recorder.save(label or argv[0], argv, stdin_len, result)
    if finished.timed_out:
        raise CommandTimeout(
            f"{_short(argv)} did not end within {deadline:g} s",
            host=where,
            transcript=saved,
            remedy="see whether the machine hangs or is only slow; the command may still run there",
        )
    if finished.overflowed:
        raise TransportError(
            f"{_short(argv)} printed more than {OUTPUT_LIMIT >> 20} MiB and was cut off",
            host=where,
            transcript=saved,
            remedy="look at the transcript: a command that prints without end is faulty",
        )
    return CommandResult(
        argv=argv,
        status=result.status,
        stdout=result.stdout,
        stderr=result.stderr,
        seconds=result.seconds,
        transcript=saved,
    )


def _short(argv: tuple[str, ...]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 120 else text[:117] + "..."


def whole_copy(source: Path) -> IO[bytes]:
    """``source`` opened for reading; raises TransportError when it cannot be."""
    try:
        return source.open("rb")
    except OSError as error:
        raise TransportError(f"{source}: cannot be read: {error.strerror}") from error
