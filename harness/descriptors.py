"""Descriptors that stay ours: code in the same process may close any number, and the kernel then gives that
number to the next file that is opened, whoever opens it.

Python's file objects close the number that they remember, so they may close somebody else's file, and write
into it before. What a run keeps open lies in a ``Descriptor``: before each use it looks whether its number
still means the file that was opened. A thread that closes numbers between that look and the use cannot be
kept out; nothing in one process can.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from harness.polling import wait_for

_POLL_SECONDS = 0.02
_STANDARD = 3
"""Numbers below are input, output and errors of this process: what is printed goes there, whatever it is."""


class Descriptor:
    """An open file by its number, used and closed only while the number is ours."""

    def __init__(self, number: int) -> None:
        """Takes ``number`` over. Raises OSError when it is not open."""
        self._number = _above_standard(number)
        self._mark = mark_of(self._number)
        if self._mark is None:
            raise OSError(errno.EBADF, "the descriptor is not open")

    def __enter__(self) -> Descriptor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def held(self) -> bool:
        """Whether the number still means the file that was opened."""
        return self._number >= 0 and mark_of(self._number) == self._mark

    def number(self) -> int:
        """The number, to hand on at once. Raises OSError (EBADF) when it is not ours any more."""
        if not self.held:
            raise OSError(errno.EBADF, "the descriptor was closed by other code in this process")
        return self._number

    def read(self, size: int) -> bytes:
        """As ``os.read``."""
        return os.read(self.number(), size)

    def write(self, data: bytes | memoryview) -> int:
        """As ``os.write``; nobody at the other end is BrokenPipeError, never a signal."""
        with no_pipe_signal():
            return os.write(self.number(), data)

    def close(self) -> None:
        """Close it if it is ours; never raises, safe to call twice."""
        held, number = self.held, self._number
        self._number = -1
        if held:
            with contextlib.suppress(OSError):
                os.close(number)

    def not_for_forks(self) -> Descriptor:
        """Have it closed in every forked child of this process: a child that lives on would keep a lock, or
        the standard input of a command that is to end with us. (A program that is started has none of it.)
        For what lives as long as the run: the hook itself stays until the process ends."""
        mine = weakref.WeakMethod(self.close)

        def close_in_child() -> None:
            close = mine()
            if close is not None:
                close()

        os.register_at_fork(after_in_child=close_in_child)
        return self


def pipe() -> tuple[Descriptor, Descriptor]:
    """The reading and the writing end of a pipe. Raises OSError."""
    reading, writing = os.pipe()
    return Descriptor(reading), Descriptor(writing)


def memory_file(name: str, most: int = 65536) -> Descriptor:
    """A file without a place on a disk, for what a command prints: no directory need exist for it, and no
    later file can be taken for it. It takes ``most`` bytes, and who writes more is told so by the kernel: our
    memory is not theirs to fill. What was not written reads as NUL. Raises OSError."""
    file = Descriptor(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    os.ftruncate(file.number(), most)
    fcntl.fcntl(file.number(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return file


def written(file: Descriptor) -> str:
    """The words in a memory file; bytes that are not UTF-8 are shown as escapes. Raises OSError."""
    data = os.pread(file.number(), os.fstat(file.number()).st_size, 0)
    return data.rstrip(b"\0").decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def no_pipe_signal() -> Iterator[None]:
    """Python ignores SIGPIPE, but a test may have set it to end the process. It is meant for the thread that
    wrote, so that thread keeps it away for a moment and takes it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait({signal.SIGPIPE}, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_go(path: Path, seconds: float) -> bool:
    """Wait until no process has a lock on a file any more that it was handed locked; False when one still has
    after ``seconds``. No such file is fine.

    A lock of flock(2) lasts until the last copy of its descriptor is closed: those of children count.
    """
    try:
        number = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True
    with Descriptor(number) as mark:

        def locked() -> bool | None:
            try:
                fcntl.flock(mark.number(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            return True

        return wait_for(locked, seconds=seconds, every=_POLL_SECONDS) is True


def mark_of(number: int) -> tuple[int, int, int] | None:
    """What tells the open file behind a number from others; None when the number is closed."""
    try:
        found = os.fstat(number)
        # Both ends of a pipe are one file.
        way = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError:
        return None
    return found.st_dev, found.st_ino, way


def _above_standard(number: int) -> int:
    if number >= _STANDARD:
        return number
    try:
        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _STANDARD)
    finally:
        os.close(number)
