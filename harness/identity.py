"""Processes by what tells one from every other: its id, when it began, in which boot and pid namespace.

A process id alone is reused, and what stands among a process's arguments anybody may write. So a process is
ours only where all four agree with what was written down when it began: by us, or by the process itself
(``WRITE_DOWN``) before it became the program that was wanted.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.polling import wait_for
from harness.regular import open_regular

_ENDED = ("Z", "X")
_POLL_SECONDS = 0.02

LONGEST_BIRTH = 4096
"""Bytes that ``WRITE_DOWN`` writes at most."""
WRITE_DOWN = (
    "umask 077; { cat /proc/$$/stat /proc/sys/kernel/random/boot_id && readlink /proc/$$/ns/pid; }"
    ' > "$0.new" && mv -- "$0.new" "$0" && exec "$@"'
)
"""For ``sh -c WRITE_DOWN FILE ARGV...``: the shell writes itself down in FILE and then becomes ARGV, which
keeps its id and its start. Whoever is killed before that has started nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, told from every later one of that number and from those of other boots and containers."""

    pid: int
    ticks: int
    """When it began, in clock ticks since boot (proc(5), ``/proc/PID/stat``, field 22)."""
    boot_id: str
    namespace: str
    """The pid namespace that the number belongs to (``/proc/PID/ns/pid``)."""


def boot_id() -> str:
    """The kernel's name for this boot: process ids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def pid_namespace() -> str:
    """The pid namespace of this process: numbers of another one mean other processes."""
    return str(Path("/proc/self/ns/pid").readlink())


def identify(pid: int) -> ProcessId | None:
    """A process of our namespace as it is to be written down; None when it is gone."""
    ticks = start_ticks(pid)
    if ticks is None or is_dead(pid):
        return None
    return ProcessId(pid=pid, ticks=ticks, boot_id=boot_id(), namespace=pid_namespace())


def written_down() -> str:
    """This process as ``WRITE_DOWN`` writes one."""
    stat = Path("/proc/self/stat").read_text("utf-8", "replace")
    return f"{stat.rstrip()}\n{boot_id()}\n{pid_namespace()}\n"


def as_written(text: str) -> ProcessId:
    """The process that ``WRITE_DOWN`` wrote down. Raises ValueError or IndexError for other text."""
    stat, boot, namespace = text.splitlines()
    return ProcessId(
        pid=int(stat.split()[0]),
        ticks=int(_fields(stat)[19]),
        boot_id=boot.strip(),
        namespace=namespace.strip(),
    )


def read_birth(file: Path) -> ProcessId | None:
    """What a process wrote down by ``WRITE_DOWN``; None when there is no such file, or it is damaged."""
    try:
        with open_regular(file) as stream:
            return as_written(stream.read(LONGEST_BIRTH).decode("utf-8", "replace"))
    except (OSError, ValueError, IndexError):
        return None


def is_here(process: ProcessId) -> bool:
    """Whether its number means something to us: the same boot, the same pid namespace."""
    return process.boot_id == boot_id() and process.namespace == pid_namespace()


def is_running(process: ProcessId) -> bool:
    """Whether exactly this process still runs, in our boot and namespace."""
    return is_here(process) and not is_dead(process.pid) and start_ticks(process.pid) == process.ticks


def send(process: ProcessId, number: int = signal.SIGKILL) -> bool:
    """Send a signal to exactly this process; False when it is gone, or when it cannot be reached from here.

    Looked at and signalled by one descriptor (pidfd_open(2), Linux 5.3), so that no later process of that
    number can come between. Raises PermissionError for a process of another user.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:  # an older kernel, or a sandbox without that call
        return is_running(process) and _kill(process.pid, number)
    try:
        if not is_running(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_ended(processes: Sequence[ProcessId], seconds: float) -> bool:
    """Wait until all of them are gone; False when some still run after ``seconds``."""

    def all_ended() -> bool | None:
        return None if any(is_running(process) for process in processes) else True

    return wait_for(all_ended, seconds=seconds, every=_POLL_SECONDS) is True


def is_dead(pid: int) -> bool:
    """True when no such process runs; one that ended and was not collected yet counts as dead."""
    fields = _stat_fields(pid)
    return fields is None or fields[0] in _ENDED


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), field 22); None when it is gone."""
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


def _stat_fields(pid: int) -> list[str] | None:
    try:
        return _fields(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace"))
    except OSError:
        return None


def _fields(stat: str) -> list[str]:
    """Fields from the third (state) on: the second may hold blanks and brackets."""
    return stat.rpartition(")")[2].split()
