"""A machine as a process: started in its own session, recognised after a crash, stopped for certain.

A machine writes itself down before it starts (``harness.identity``), in ``qemu.born`` beside its monitor.
Only the process that stands there is ever stopped; whatever else names these paths is somebody else's. Its
parent is a keeper (``harness.lab.qemu_keeper``, in ``keeper.born``), which writes ``qemu.ended`` at its end.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import LabError
from harness.identity import WRITE_DOWN, ProcessId, is_here, is_running, read_birth, send, wait_ended
from harness.images.processes import require_tool, tail
from harness.lab import qemu_keeper
from harness.lab.qmp import Qmp

_LONGEST_SOCKET_PATH = 107
"""sun_path of Linux, less its terminating zero (unix(7))."""
_START_SECONDS = 20.0
_QUIT_SECONDS = 3.0
_WRITTEN_SECONDS = 10.0
"""So soon a machine that was started has written itself down: five short programs, on a busy computer."""
_KEEPER_SECONDS = 5.0


def start(
    command: Sequence[str],
    arguments: Sequence[str],
    *,
    monitor: Path,
    log: Path,
    die_with_parent: bool = False,
) -> ProcessId:
    """Start QEMU detached from us, by ``command`` and ``arguments``, and wait until its monitor answers.

    ``die_with_parent`` ties it to this process instead (for the machine a build boots). Raises LabError with
    what QEMU printed when it ends at once.
    """
    if len(str(monitor)) > _LONGEST_SOCKET_PATH:
        raise LabError(
            f"the path {monitor} is too long for a unix socket ({_LONGEST_SOCKET_PATH} bytes)",
            remedy="point XDG_STATE_HOME or SHAKEDOWN_CACHE at a shorter path",
        )
    birth = birth_file(monitor)
    for file in (birth, _keeper_file(monitor), end_file(monitor)):
        file.unlink(missing_ok=True)
    detach = [require_tool("setsid", "util-linux"), "--fork"]
    tie = [require_tool("setpriv", "util-linux"), "--pdeathsig", "KILL"]
    keeper = [sys.executable, "-I", "-S", qemu_keeper.__file__, str(end_file(monitor))]
    kept = ["sh", "-c", WRITE_DOWN, str(_keeper_file(monitor)), *keeper]
    written = ["sh", "-c", WRITE_DOWN, str(birth), *command, *arguments]
    with log.open("ab") as output:
        launched = subprocess.Popen(
            [*tie, *kept, *tie, *written] if die_with_parent else [*detach, *kept, *written],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if not die_with_parent:
        launched.wait()
    process = _await_monitor(Path(command[-1]).name, monitor, log, launched)
    # A tied keeper is our child, and ``stop`` collects it: Popen must not complain that it still runs.
    launched.returncode = 0
    return process


def birth_file(monitor: Path) -> Path:
    """Where the machine of a monitor writes itself down."""
    return monitor.with_name("qemu.born")


def end_file(monitor: Path) -> Path:
    """Where the keeper of a monitor's machine writes down how that ended."""
    return monitor.with_name("qemu.ended")


def keeper_of(monitor: Path) -> ProcessId | None:
    """The keeper of a monitor's machine as it wrote itself down, running or not."""
    return read_birth(_keeper_file(monitor))


def _keeper_file(monitor: Path) -> Path:
    return monitor.with_name("keeper.born")


def _await_monitor(name: str, monitor: Path, log: Path, launched: subprocess.Popen[bytes]) -> ProcessId:
    began = time.monotonic()
    born = None
    while time.monotonic() - began < _START_SECONDS:
        launched.poll()
        born = born or read_birth(birth_file(monitor))
        if born is None:
            if time.monotonic() - began > _WRITTEN_SECONDS:
                break
        elif not is_running(born):
            break
        elif _listener(monitor) == born.pid:
            return born
        time.sleep(0.01)
    if born is not None:
        send(born)
    raise LabError(f"{name} did not start: {tail(log) or 'it printed nothing'}", remedy=f"see {log}")


def _listener(monitor: Path) -> int | None:
    """The process that listens at a monitor (SO_PEERCRED, unix(7)): 0 for one of a namespace that we cannot
    see into, None for nobody."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(monitor))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        except OSError:
            return None
    return int.from_bytes(credentials[:4], byteorder="little", signed=True)


def running_machine(monitor: Path) -> ProcessId | None:
    """The machine of this monitor as it wrote itself down; None when there is none, or it ended."""
    born = read_birth(birth_file(monitor))
    return born if born is not None and is_running(born) else None


def stop(monitor: Path, recorded: ProcessId | None = None) -> None:
    """End the machine of this monitor: asked first, killed after, and gone when this returns.

    ``recorded`` is what somebody else wrote down of it. Raises LabError when it cannot be killed, and when
    somebody answers at the monitor who is not that machine: it is not touched. Nothing running is fine.
    """
    written = {process for process in (read_birth(birth_file(monitor)), recorded) if process is not None}
    ours = [process for process in written if is_running(process)]
    if ours:
        _end(monitor, ours)
    else:
        _require_nobody(monitor, written)
    _end_keeper(monitor)
    for file in (monitor, birth_file(monitor), _keeper_file(monitor), end_file(monitor)):
        file.unlink(missing_ok=True)


def _require_nobody(monitor: Path, written: set[ProcessId]) -> None:
    listener = _listener(monitor)
    if listener is None:
        return
    elsewhere = any(not is_here(process) for process in written)
    who = "a machine in another container" if elsewhere or not listener else f"process {listener}"
    raise LabError(
        f"{who} answers at {monitor} but is not the machine that was started here: it is left alone",
        remedy="stop it where it was started, then try again",
    )


def _end(monitor: Path, ours: Sequence[ProcessId]) -> None:
    if _listener(monitor) in {process.pid for process in ours}:
        with contextlib.suppress(LabError), Qmp(monitor, timeout=_QUIT_SECONDS) as qmp:
            qmp.execute("quit")
    if not wait_ended(ours, _QUIT_SECONDS):
        for process in ours:
            send(process)
        if not wait_ended(ours, 10.0):
            raise LabError(
                f"QEMU process {sorted(process.pid for process in ours)} does not end",
                remedy="it ignores SIGKILL: check its state with ps",
            )


def _end_keeper(monitor: Path) -> None:
    """A keeper ends by itself once its machine has."""
    keeper = keeper_of(monitor)
    if keeper is None:
        return
    if not wait_ended([keeper], _KEEPER_SECONDS):
        send(keeper)
        wait_ended([keeper], _KEEPER_SECONDS)
    if is_here(keeper):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(keeper.pid, os.WNOHANG)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses right now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
