"""Processes of image and lab builds: run to the end with a log, and found again after a crash.

A process is recognised by an argument that holds a path only we use, so that a reused process id is never
mistaken for ours and a process started by a killed Shakedown is still found.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import ImageError

_LOG_TAIL_BYTES = 4000
_REMIND_SECONDS = 15.0
_GONE_SECONDS = 10.0
_ENDED = ("Z", "X")


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

    Raises ImageError with the end of the log when it fails or does not end within ``deadline`` seconds. The
    whole session is killed when we are interrupted.
    """
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=None if environment is None else {**os.environ, **environment},
            cwd=directory,
        )
    try:
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
    finally:
        if process.poll() is None:
            kill_session(process.pid)
            process.wait()
    if status != 0:
        raise ImageError(f"{what} failed with exit status {status}: {tail(log)}", remedy=f"see {log}")


def tail(log: Path) -> str:
    """The last lines of a log as text; empty when there is none."""
    try:
        data = log.read_bytes()[-_LOG_TAIL_BYTES:]
    except OSError:
        return ""
    lines = [line for line in data.decode("utf-8", "backslashreplace").splitlines() if line.strip()]
    return " | ".join(lines[-8:])


def find_by_argument(text: str) -> tuple[int, ...]:
    """Process ids of running processes (ourselves excepted) with an argument that contains ``text``."""
    needle = os.fsencode(text)
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if needle in command and not is_dead(pid):
            found.append(pid)
    return tuple(sorted(found))


def is_dead(pid: int) -> bool:
    """True when no such process runs; one that ended and was not collected yet counts as dead."""
    fields = _stat_fields(pid)
    return fields is None or fields[0] in _ENDED


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), field 22); None when it is gone."""
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of ``/proc/PID/stat`` from the third (state) on: the second may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def reap(path: Path) -> None:
    """Kill whatever still works on ``path``: the sessions of processes that name it as an argument.

    Only tools that Shakedown started in sessions of their own can name a path below its own directories;
    our own session is never touched.
    """
    pids = find_by_argument(f"{path}/") + find_by_argument_exact(str(path))
    for pid in pids:
        try:
            session = os.getsid(pid)
        except ProcessLookupError:
            continue
        if session == os.getsid(0):
            continue
        kill_session(session)
        kill(pid)
    wait_gone(pids, _GONE_SECONDS)


def find_by_argument_exact(text: str) -> tuple[int, ...]:
    """Process ids of running processes that have exactly ``text`` as an argument."""
    found = []
    for pid in find_by_argument(text):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.fsencode(text) in arguments:
            found.append(pid)
    return tuple(found)


def kill_session(session: int) -> None:
    """SIGKILL to every process of a session until none runs, for ten seconds at most.

    Again and again, because a process may fork between our look at ``/proc`` and its end, and because a
    signal is delivered before the process is gone: what follows may rely on its files being closed.
    """
    deadline = time.monotonic() + _GONE_SECONDS
    while (members := _session_members(session)) and time.monotonic() < deadline:
        for pid in members:
            kill(pid)
        time.sleep(0.01)


def _session_members(session: int) -> list[int]:
    """Process ids of the running processes of a session."""
    return [pid for pid in _pids() if _runs_in(pid, session)]


def _runs_in(pid: int, session: int) -> bool:
    fields = _stat_fields(pid)
    return fields is not None and int(fields[3]) == session and fields[0] not in _ENDED


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def kill(pid: int) -> None:
    """SIGKILL; a process that is gone already is fine."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_gone(pids: Sequence[int], seconds: float) -> bool:
    """Wait until all of ``pids`` are gone; False when some still run after ``seconds``."""
    deadline = time.monotonic() + seconds
    while any(not is_dead(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
