"""Children of ours: started without a shell, bounded in time and output, and ended by their own id only."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from harness.cleanups import Cleanups
from harness.descriptors import Descriptor, pipe
from harness.errors import CommandTimeout, TransportError
from harness.ports import CommandResult

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes kept of one stream. No question Shakedown asks has an answer near it; a runaway command has."""

_CHUNK = 65536

_LOOK_SECONDS = 1.0
"""So soon it is noticed that a pipe was closed under us, which ``poll`` does not say of what it waits for,
and that the machine that should answer is dead."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What our children inherit, taken once: a test in this process may change all of it later on. They run
    in ``/``, since the working directory may be gone by then."""

    environment: Mapping[str, str]
    umask: int

    @classmethod
    def now(cls, **changes: str) -> Surroundings:
        """As this process has them, with ``changes`` to the environment."""
        return cls(environment={**os.environ, **changes}, umask=_umask())


def _umask() -> int:
    """Python could only ask for it by changing it, for all threads."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022


def require_owner(pid: int, where: str) -> None:
    """Raise TransportError in a fork of the process ``pid``, which made what is to be used: whatever a forked
    test goes on with, releases included, its parent does as well."""
    if os.getpid() != pid:
        raise TransportError(
            f"process {os.getpid()} is a fork of the run's process {pid} and may not act on its machines",
            host=where,
            remedy="end a forked process with os._exit",
        )


def spawn(
    argv: Sequence[str],
    *,
    stdin: Descriptor | None,
    stdout: Descriptor,
    stderr: Descriptor,
    surroundings: Surroundings | None = None,
    where: str = "",
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in a session of its own, without input where none is given.

    The pipes are ours, not Python's: a ``Popen`` would close numbers that somebody else has by then. Raises
    TransportError when it cannot be started.
    """
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if stdin is None else stdin.number(),
            stdout=stdout.number(),
            stderr=stderr.number(),
            env=None if surroundings is None else dict(surroundings.environment),
            umask=-1 if surroundings is None else surroundings.umask,
            cwd=None if surroundings is None else "/",
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise TransportError(
            f"{argv[0] if argv else '(nothing)'}: could not be started: {error}",
            host=where,
            remedy="install the program, or correct PATH",
        ) from error


def run_child(
    argv: Sequence[str],
    *,
    stdin: bytes | Descriptor = b"",
    deadline: float,
    limit: int = OUTPUT_LIMIT,
    surroundings: Surroundings | None = None,
    output: Descriptor | None = None,
    require: Callable[[], None] = lambda: None,
) -> Finished:
    """Run ``argv`` to its end, or end it (and its own process group) after ``deadline`` seconds or as soon
    as a stream exceeds ``limit`` bytes. Like SSH, it waits until both streams are closed, so a child that
    leaves a background process with an open stream counts as unfinished. With ``output`` both streams go
    to that file instead, and only the child itself is waited for.

    Raises TransportError when the program cannot be started, when its pipes were closed by other code in
    this process, and when its exit status was taken by such code; and what ``require`` raises, which is asked
    every second and ends the child so.
    """
    started = time.monotonic()
    status = None
    try:
        with _statuses_kept(), _Pump(stdin, limit, output) as pump:
            child = pump.start(argv, surroundings)
            try:
                if pump.run(started + deadline, require) and not pump.overflowed:
                    status = _wait(child, started + deadline, require)
            finally:
                end_group(child)
    except OSError as error:
        raise TransportError(f"{argv[0] if argv else '(nothing)'}: was cut off: {error}") from error
    killed = 128 - child.returncode if child.returncode < 0 else child.returncode
    return Finished(
        status=killed if status is None else status,
        stdout=bytes(pump.out),
        stderr=bytes(pump.err),
        seconds=time.monotonic() - started,
        timed_out=status is None and not pump.overflowed,
        overflowed=pump.overflowed,
    )


@contextlib.contextmanager
def _statuses_kept() -> Iterator[None]:
    """While a test has SIGCHLD ignored, the kernel keeps no exit status. The main thread can change that."""
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the process group that ``child`` leads; it is reaped on return.

    The group is ours alone (``start_new_session``), and a leader that nobody has waited for keeps its number.
    Where other code in this process took its status (``os.wait``), the number may be another's by now: then
    nothing is killed.
    """
    if child.returncode is None:
        if _unwaited(child.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _unwaited(pid: int) -> bool:
    """Whether it is a child of ours whose status nobody has taken."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def await_end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait at most so long until ``child`` has ended, and leave it to be reaped: see ``end_group``."""
    until = time.monotonic() + seconds
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until and not os.waitid(
            os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.02)


def _wait(child: subprocess.Popen[bytes], until: float, require: Callable[[], None]) -> int | None:
    """Its exit status, 128 + n for signal n; None when the time is over.

    Looked at before Python takes it: for a status that somebody else in the process took (``os.wait``), or
    that nobody kept, Python says 0. Raises TransportError for such a one.
    """
    pause = 0.0005
    while True:
        try:
            ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError as error:
            raise TransportError(
                "the exit status of a command was lost: other code in this process collected it",
                remedy="other code in this process must wait only for its own children and must not change "
                "SIGCHLD",
            ) from error
        if ended is not None:
            child.wait()
            return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        remaining = until - time.monotonic()
        if remaining <= 0:
            return None
        require()
        time.sleep(min(pause, remaining))
        pause = min(2 * pause, 0.05)


class _Pump:
    """Feeds and drains one child with a single poll: no threads, no deadlock on full pipes, and no further
    descriptor that could be lost."""

    def __init__(self, stdin: bytes | Descriptor, limit: int, output: Descriptor | None) -> None:
        """Raises OSError when there are no more descriptors."""
        self.out = bytearray()
        self.err = bytearray()
        self.overflowed = False
        self._limit = limit
        self._data = memoryview(stdin if isinstance(stdin, bytes) else b"")
        self._feed_end: Descriptor | None = None
        self._ends: list[tuple[Descriptor, bytearray]] = []
        self._stdin = stdin if isinstance(stdin, Descriptor) else None
        self._opened = Cleanups()
        self._theirs = Cleanups()
        with Cleanups() as undo:
            undo.callback(self.close)
            if self._data:
                self._stdin, self._feed_end = self._pipe()
            self._stdout = output or self._drained(self.out)
            self._stderr = output or self._drained(self.err)
            undo.pop_all()

    def __enter__(self) -> _Pump:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both ends of all pipes, where they are ours."""
        self._theirs.close()
        self._opened.close()

    def start(self, argv: Sequence[str], surroundings: Surroundings | None) -> subprocess.Popen[bytes]:
        """Start the child. Raises TransportError."""
        child = spawn(
            argv, stdin=self._stdin, stdout=self._stdout, stderr=self._stderr, surroundings=surroundings
        )
        self._theirs.close()
        return child

    def _pipe(self) -> tuple[Descriptor, Descriptor]:
        reading, writing = pipe()
        self._theirs.enter_context(reading)
        self._opened.enter_context(writing)
        return reading, writing

    def _drained(self, kept: bytearray) -> Descriptor:
        reading, writing = pipe()
        self._theirs.enter_context(writing)
        self._ends.append((self._opened.enter_context(reading), kept))
        return writing

    def run(self, until: float, require: Callable[[], None]) -> bool:
        """Move bytes until both streams are closed (True) or the time is over (False). Raises OSError when
        one of them is not ours any more, and what ``require`` raises."""
        if self._feed_end is not None:
            os.set_blocking(self._feed_end.number(), False)
        while self._ends:
            remaining = until - time.monotonic()
            if remaining <= 0:
                return False
            require()
            ready = self._ready(min(remaining, _LOOK_SECONDS))
            if self._feed_end is not None and self._feed_end.number() in ready:
                self._feed(self._feed_end)
            self._ends = [
                (end, kept) for end, kept in self._ends if end.number() not in ready or self._drain(end, kept)
            ]
            if self.overflowed:
                return True
        return True

    def _ready(self, seconds: float) -> set[int]:
        chooser = select.poll()
        for end, _ in self._ends:
            chooser.register(end.number(), select.POLLIN)
        if self._feed_end is not None:
            chooser.register(self._feed_end.number(), select.POLLOUT)
        return {number for number, _ in chooser.poll(seconds * 1000)}

    def _feed(self, end: Descriptor) -> None:
        try:
            sent = end.write(self._data[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # the child does not read on; what it says and returns is its answer
            sent = len(self._data)
        self._data = self._data[sent:]
        if not self._data:
            end.close()
            self._feed_end = None

    def _drain(self, end: Descriptor, kept: bytearray) -> bool:
        data = end.read(_CHUNK)
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
            remedy="check whether the machine hangs or is only slow; the command may still be running there",
        )
    if finished.overflowed:
        raise TransportError(
            f"{_short(argv)} printed more than {OUTPUT_LIMIT >> 20} MiB and was cut off",
            host=where,
            transcript=saved,
            remedy="read the command log: a command that prints without end is faulty",
        )
    return replace(result, transcript=saved)


def _short(argv: tuple[str, ...]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 120 else text[:117] + "..."


def whole_copy(source: Path) -> Descriptor:
    """``source`` opened for reading; raises TransportError when it cannot be."""
    try:
        return Descriptor(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise TransportError(f"{source}: cannot be read: {error.strerror}") from error
