"""Commands whose output goes straight into a local file, for as long as their standard input is held."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.backends.process import Surroundings, await_end, end_group, spawn
from harness.cleanups import Cleanups
from harness.descriptors import Descriptor, memory_file, pipe, written
from harness.errors import TransportError
from harness.regular import mode_beside

MOST_STREAMED = 64 << 30
"""Bytes of one stream in a run directory. A night on eight GPUs makes 0.3 GB, the longest burn (60 days)
47 GB (``harness.record.disk_space``). No stream takes more than half of what the disk has left either."""

_BLOCK = 512
_LIMITED = 'ulimit -f "$1" && shift && exec "$@"'
"""The kernel ends whoever writes a file beyond that many blocks of 512 bytes (POSIX, ulimit)."""

_FOLLOW = """
tail -c "+$1" -f -- "$2" &
child=$!
cat >/dev/null
kill "$child" 2>/dev/null
"""
# Only tail would not see that nobody listens any more while the file does not grow.


class Streamed:
    """A command that runs here or over SSH, and writes into ``path`` without a byte passing through us.

    It lives until ``close``, or until this process dies: then the kernel closes our end of its standard input
    and it reads end-of-file. It must end by itself at that. What it wrote is appended, so that a stream that
    broke can be taken up again with ``follow_file`` from the file's size. The file never grows beyond
    ``most`` bytes, whatever the other side sends.
    """

    def __init__(
        self,
        argv: Sequence[str],
        path: Path,
        *,
        where: str,
        surroundings: Surroundings | None = None,
        most: int = MOST_STREAMED,
    ) -> None:
        """Raises TransportError when the file cannot be opened or the command not started."""
        self.path = path
        self._most = _limit(path, most)
        self._where = where
        self._closed = False
        self._pid = os.getpid()
        search = os.environ if surroundings is None else surroundings.environment
        try:
            if shutil.which(argv[0], path=search.get("PATH", os.defpath)) is None:
                raise FileNotFoundError(errno.ENOENT, "no such program")
            with Cleanups() as undo:
                reading, self._input = (undo.enter_context(end) for end in pipe())
                # Not a pipe, which would block a command that says more than it holds.
                self._errors = undo.enter_context(memory_file("errors"))
                with _appended(path) as output:
                    self._child = spawn(
                        ("sh", "-c", _LIMITED, "sh", str(self._most // _BLOCK), *argv),
                        stdin=reading,
                        stdout=output,
                        stderr=self._errors,
                        surroundings=surroundings,
                    )
                undo.pop_all()
        except (OSError, TransportError) as error:
            raise TransportError(
                f"{argv[0]}: could not be started into {path}: {error}", host=where
            ) from error
        reading.close()
        for kept in (self._input, self._errors):
            kept.not_for_forks()

    @property
    def alive(self) -> bool:
        """Whether the command still runs (its connection included)."""
        return self._child.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status, 128 + n for signal n; None while it runs. 255 is also ssh's word for a lost line."""
        status = self._child.poll()
        return status if status is None or status >= 0 else 128 - status

    @property
    def full(self) -> bool:
        """Whether the file holds all that it may: what came after that is lost."""
        return self.size >= self._most

    @property
    def size(self) -> int:
        """Bytes in the file: where a stream that broke goes on."""
        try:
            return self.path.stat().st_size
        except OSError as error:
            raise TransportError(f"{self.path}: {error.strerror}", host=self._where) from error

    def errors(self) -> str:
        """What it wrote on standard error so far (at most 64 KiB); empty once that is closed."""
        try:
            return written(self._errors).strip()
        except OSError:
            return ""

    def end(self) -> None:
        """Ask it to end, by closing its input, and do not wait."""
        self._input.close()

    def close(self, deadline: float = 10.0) -> None:
        """Ask it to end and wait; killed after ``deadline`` seconds. Safe twice. A fork ends nothing."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self.end()
        await_end(self._child, deadline)
        end_group(self._child)  # what its shell started may still write
        self._errors.close()


def _limit(path: Path, most: int) -> int:
    """How long the file may get, in whole blocks."""
    with contextlib.suppress(OSError):
        have = path.stat().st_size if path.exists() else 0
        most = min(most, have + shutil.disk_usage(path.parent).free // 2)
    return max(1, most // _BLOCK) * _BLOCK


def _appended(path: Path) -> Descriptor:
    """``path`` for appending; a new file is as open as its folder, whatever the umask is. Raises OSError.

    Locked for as long as anybody writes it, also when we were killed (``harness.descriptors.let_go``).
    """
    new = not path.exists()
    output = Descriptor(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600))
    if new:
        os.fchmod(output.number(), mode_beside(path.parent))
    fcntl.flock(output.number(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    return output


def follow_file(path: str, offset: int = 0) -> tuple[str, ...]:
    """Command that prints a file of its machine from a byte on, and what is added to it, while it is held.

    Up to a second of what was added last may be missing when it ends: ``rest_of_file`` brings that.
    """
    return ("sh", "-c", _FOLLOW, "sh", str(offset + 1), path)


def rest_of_file(path: str, offset: int) -> tuple[str, ...]:
    """Command that prints a file of its machine from a byte to its end."""
    return ("tail", "-c", f"+{offset + 1}", "--", path)
