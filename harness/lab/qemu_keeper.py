"""Waits for a machine and writes down how it ended. Run as a program of its own.

Usage: ``python -I -S qemu_keeper.py FILE ARGV...``. The machine outlives whoever started it, and the kernel
tells how a process ended to its parent alone. So this program is its parent: it starts ARGV, waits, and
writes into FILE, whole or not at all, one JSON object: ``pid``, ``exit`` or ``signal`` (its name), ``core``
(dumped), ``at`` (UTC), ``seconds``, ``peak_mib`` (memory), ``cpu_seconds`` and ``oom_kills`` (of this
computer's kernel meanwhile, from /proc/vmstat). It ends nobody. Should it be killed itself, the machine goes
on, and nobody knows how that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

_ORDINARY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_NOT_STARTED = 127


def main(arguments: list[str]) -> int:
    """Keep the machine; returns 0 once its end is written down."""
    file, argv = Path(arguments[0]), arguments[1:]
    killed_before = _oom_kills()
    # What ends the machine too (a shutdown, say) must not end us first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    began = time.monotonic()
    try:
        pid = os.posix_spawnp(argv[0], argv, os.environ, setsigdef=_ORDINARY)
    except OSError as error:
        print(f"{argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return _NOT_STARTED
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    killed = _oom_kills()
    end = {
        "pid": pid,
        "exit": code if code >= 0 else None,
        "signal": "" if code >= 0 else _name(-code),
        "core": os.WCOREDUMP(status),
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib": usage.ru_maxrss // 1024,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "oom_kills": None if killed is None or killed_before is None else killed - killed_before,
    }
    draft = file.with_name(f"{file.name}.new")
    with contextlib.suppress(OSError):  # the lab was taken down, directory and all
        draft.write_text(json.dumps(end))
        draft.rename(file)
    return 0


def _name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"SIG{number}"


def _oom_kills() -> int | None:
    """Processes that the kernel killed for want of memory since its boot; None where it does not count."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
