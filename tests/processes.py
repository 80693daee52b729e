"""Processes that a test started, found by a path that only this test uses: never a way for the product."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from harness.identity import is_dead


def naming(text: str | Path) -> tuple[int, ...]:
    """Ids of running processes (ourselves excepted) with an argument that contains ``text``."""
    needle = os.fsencode(text)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if pid != os.getpid() and needle in command and not is_dead(pid):
            found.append(pid)
    return tuple(sorted(found))


def wait_gone(pids: Sequence[int], seconds: float) -> bool:
    """Wait until all of ``pids`` are gone; False when some still run after ``seconds``."""
    deadline = time.monotonic() + seconds
    while any(not is_dead(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
