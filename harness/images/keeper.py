"""Keeps one command of a build: all that it started ends with it, and with us. Run as a program of its own.

Usage: ``python -I -S keeper.py LINE PARENT ARGV...``. The kernel gives a keeper every process that a command
of its leaves behind, daemons too (``PR_SET_CHILD_SUBREAPER``, prctl(2)), whatever session, group, user or
namespace it moved to. So what is ended here are children of this process that it has not waited for: their
numbers cannot be anybody else's, and nothing is ever looked up by its name or its arguments.

It ends them when the command is over, when the pipe LINE is closed or its parent PARENT is gone (Shakedown
was killed, by any signal), and when it is told to end. Should it be killed itself, the command is killed too
(``PR_SET_PDEATHSIG``). Its exit status is the command's, 128 + n for signal n.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType

_PDEATHSIG = 1
_SUBREAPER = 36
"""``PR_SET_PDEATHSIG`` and ``PR_SET_CHILD_SUBREAPER`` of linux/prctl.h."""
_LOOK_SECONDS = 0.2
_END_SECONDS = 10.0
_NOT_STARTED = 127
"""As a shell ends where there is no such command."""


def main(arguments: list[str]) -> int:
    """Keep the command; returns its exit status."""
    line, parent, argv = int(arguments[0]), int(arguments[1]), arguments[2:]
    os.set_inheritable(line, False)
    _prctl(_SUBREAPER, 1)
    told: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hear)
    command = _start(argv)
    status = None
    poll = select.poll()
    poll.register(line, select.POLLIN)
    with contextlib.suppress(OSError):  # an older kernel: then its end is noticed at the next look
        poll.register(os.pidfd_open(command), select.POLLIN)
    while status is None and not told and os.getppid() == parent:
        hung_up = any(number == line for number, _ in poll.poll(_LOOK_SECONDS * 1000))
        status = _collected(command)
        if hung_up:
            break
    ended = _end_all(command)
    if not ended:
        print(
            "shakedown: a process that this command left behind cannot be killed", file=sys.stderr, flush=True
        )
    return 128 + signal.SIGKILL if status is None else status


def _prctl(option: int, value: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _start(argv: list[str]) -> int:
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(_NOT_STARTED)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)  # noqa: S606  a list, no shell: becoming the command is the purpose
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
    finally:
        os._exit(_NOT_STARTED)


def _collected(command: int) -> int | None:
    """Take note of all that ended; the exit status of the command, once it did."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, code = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == command:
                ended = os.waitstatus_to_exitcode(code)
                status = ended if ended >= 0 else 128 - ended
    return status


def _end_all(command: int) -> bool:
    """Kill all children, and theirs as they become ours, until there are none; False for some that stay."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        _collected(command)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        time.sleep(0.005)
    return False


def _children() -> list[int]:
    """Our children that we have not waited for."""
    me = os.getpid()
    try:
        return [int(word) for word in Path(f"/proc/self/task/{me}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in numbers if _parent(pid) == me]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
