"""Commands of image and lab builds: run to the end with a log, and never outliving who started them.

Each runs under a keeper (``harness.images.keeper``), which ends whatever the command started as soon as the
command is over or we are gone. Nothing has to be looked for afterwards; ``quiet`` tells when the keepers of a
directory are done.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.cleanups import Cleanups
from harness.descriptors import Descriptor, let_go, pipe
from harness.errors import ImageError
from harness.images import keeper

KEPT = ".kept"
"""In a directory that is built in: a file that the keepers of its commands hold a shared lock on."""

_PYTHON = sys.executable
_LOG_TAIL_BYTES = 4000
_REMIND_SECONDS = 15.0
_KEEPER_SECONDS = 15.0
"""A keeper gives up on what cannot be killed after 10 s."""


def as_root_of_own() -> tuple[str, ...]:
    """Options of ``unshare`` by which an ordinary user is root of a user namespace; none for root."""
    return () if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")


def require_tool(name: str, package: str) -> str:
    """Path of a command on PATH or in the system directories; ImageError names the Debian package."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = shutil.which(name, path=search)
    if found is None:
        raise ImageError(f"the command {name} is missing", remedy=f"apt-get install {package}")
    return found


def run_logged(
    argv: Sequence[str],
    *,
    log: Path,
    what: str,
    progress: Callable[[str], None],
    deadline: float = 1800.0,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Run ``argv`` in its own session with output in ``log``; remind of the elapsed time while it runs.

    Raises ImageError with the end of the log when it fails or does not end within ``deadline`` seconds. When
    this returns or raises, nothing that it started runs any more; when this process is killed, soon after.
    """
    began = time.monotonic()
    with Cleanups() as stack:
        line, process = _kept(stack, argv, log, environment, directory)
        stack.callback(_let_go, line, process)
        while True:
            left = deadline - (time.monotonic() - began)
            try:
                status = process.wait(min(_REMIND_SECONDS, max(left, 0.01)))
                break
            except subprocess.TimeoutExpired:
                if left <= _REMIND_SECONDS:
                    raise ImageError(
                        f"{what} did not end within {deadline:.0f} s: {tail(log)}",
                        remedy=f"see {log}; check the network and the load of this machine",
                    ) from None
                progress(f"{what}: {time.monotonic() - began:.0f} s")
    if status != 0:
        raise ImageError(f"{what} failed with exit status {status}: {tail(log)}", remedy=f"see {log}")


def _kept(
    stack: Cleanups,
    argv: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None,
    directory: Path | None,
) -> tuple[Descriptor, subprocess.Popen[bytes]]:
    """The command under its keeper, and our end of the line between us and it."""
    reading, writing = (stack.enter_context(end) for end in pipe())
    number = os.open(log.parent / KEPT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    mark = stack.enter_context(Descriptor(number))
    fcntl.flock(mark.number(), fcntl.LOCK_SH)
    # The keeper's copy is the same open file, and so is the command's: the lock lasts until they are gone.
    handed = (reading.number(), mark.number())
    with log.open("ab") as output:
        process = subprocess.Popen(
            [_PYTHON, "-I", "-S", keeper.__file__, str(handed[0]), str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=None if environment is None else {**os.environ, **environment},
            cwd=directory,
            pass_fds=handed,
        )
    reading.close()
    mark.close()
    return writing, process


def _let_go(line: Descriptor, process: subprocess.Popen[bytes]) -> None:
    """Have the keeper end what still runs, and wait for it."""
    line.close()
    try:
        process.wait(_KEEPER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def quiet(directory: Path, seconds: float = _KEEPER_SECONDS) -> bool:
    """Wait until no command works in ``directory`` any more; False when one still does after ``seconds``.

    Those of a Shakedown that was killed are ended by their keepers meanwhile. No directory is fine.
    """
    return let_go(directory / KEPT, seconds)


def tail(log: Path) -> str:
    """The last lines of a log as text; empty when there is none."""
    try:
        data = log.read_bytes()[-_LOG_TAIL_BYTES:]
    except OSError:
        return ""
    lines = [line for line in data.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return " | ".join(lines[-8:])
