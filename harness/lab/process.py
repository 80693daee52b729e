"""A machine as a process: started in its own session, recognised after a crash, stopped for certain."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError
from harness.images.processes import (
    find_by_argument_exact,
    is_dead,
    kill,
    require_tool,
    start_ticks,
    tail,
    wait_gone,
)
from harness.lab.machine import monitor_argument
from harness.lab.qmp import Qmp

_LONGEST_SOCKET_PATH = 107
"""sun_path of Linux, less its terminating zero (unix(7))."""
_START_SECONDS = 20.0
_QUIT_SECONDS = 3.0
_ABSENT_SECONDS = 1.0
"""A process in the middle of execve shows no arguments; only a longer absence means that it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProcess:
    """A running QEMU; the start time tells it from a later process with the same id."""

    pid: int
    ticks: int
    boot_id: str


def boot_id() -> str:
    """The kernel's name for this boot: process ids of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def identify(pid: int) -> MachineProcess | None:
    """The process as recorded; None when it is gone."""
    ticks = start_ticks(pid)
    if ticks is None or is_dead(pid):
        return None
    return MachineProcess(pid=pid, ticks=ticks, boot_id=boot_id())


def is_running(process: MachineProcess) -> bool:
    """Whether exactly this process still runs."""
    return (
        process.boot_id == boot_id()
        and not is_dead(process.pid)
        and start_ticks(process.pid) == process.ticks
    )


def start(
    binary: Path, arguments: Sequence[str], *, monitor: Path, log: Path, die_with_parent: bool = False
) -> MachineProcess:
    """Start QEMU detached from us and wait until its monitor answers.

    ``die_with_parent`` ties it to this process instead (for the machine a build boots). Raises LabError with
    what QEMU printed when it ends at once.
    """
    if len(str(monitor)) > _LONGEST_SOCKET_PATH:
        raise LabError(
            f"the path {monitor} is too long for a unix socket ({_LONGEST_SOCKET_PATH} bytes)",
            remedy="point XDG_STATE_HOME or SHAKEDOWN_CACHE at a shorter path",
        )
    detach = [require_tool("setsid", "util-linux"), "--fork"]
    tie = [require_tool("setpriv", "util-linux"), "--pdeathsig", "KILL"] if die_with_parent else detach
    with log.open("ab") as output:
        launched = subprocess.Popen(
            [*tie, str(binary), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if not die_with_parent:
        launched.wait()
    process = _await_monitor(binary, monitor, log, launched)
    # A tied machine is our child, and ``stop`` collects it: Popen must not complain that it still runs.
    launched.returncode = 0
    return process


def _await_monitor(
    binary: Path, monitor: Path, log: Path, launched: subprocess.Popen[bytes]
) -> MachineProcess:
    deadline = time.monotonic() + _START_SECONDS
    last_seen = time.monotonic()
    while time.monotonic() < deadline:
        launched.poll()
        pids = machines(monitor)
        if pids and _answers(monitor):
            process = identify(pids[0])
            if process is not None:
                return process
        if pids:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > _ABSENT_SECONDS:
            break
        time.sleep(0.01)
    for pid in machines(monitor):
        kill(pid)
    raise LabError(f"{binary.name} did not start: {tail(log) or 'it printed nothing'}", remedy=f"see {log}")


def _answers(monitor: Path) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(monitor))
        except OSError:
            return False
    return True


def machines(monitor: Path) -> tuple[int, ...]:
    """Processes whose monitor is this socket, whoever started them."""
    return find_by_argument_exact(monitor_argument(monitor))


def stop(monitor: Path, recorded: MachineProcess | None = None) -> None:
    """End every machine of this monitor: asked first, killed after, and gone when this returns.

    Raises LabError when one cannot be killed. Nothing running is fine.
    """
    pids = set(machines(monitor))
    if recorded is not None and is_running(recorded):
        pids.add(recorded.pid)
    if pids:
        _end(monitor, pids)
    monitor.unlink(missing_ok=True)


def _end(monitor: Path, pids: set[int]) -> None:
    with contextlib.suppress(LabError), Qmp(monitor, timeout=_QUIT_SECONDS) as qmp:
        qmp.execute("quit")
    if not wait_gone(sorted(pids), _QUIT_SECONDS):
        for pid in pids:
            kill(pid)
        if not wait_gone(sorted(pids), 10.0):
            raise LabError(
                f"QEMU process {sorted(pids)} does not end",
                remedy=f"it ignores signal {signal.SIGKILL.value}: look at its state in ps",
            )
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
