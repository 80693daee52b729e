"""Leaves a word all over the memory of each GPU, for the next tenant to look for.

Usage: ``canary.main(JSON)`` with the parameters of ``harness.workloads.device.remanence``. Prints one line of
strict JSON: what became of each GPU. The processes that hold the memory stay when it ends: a driver may clear
what is given back, and a guest that is switched off gives nothing back.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time

from harness.payload import bounded
from harness.vendors.payload.gpu import gpu_residue as residue
from harness.vendors.payload.names import COMPUTE

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print what was left where."""
    job = json.loads(argument)
    holders = [(address, *_held(address, job)) for address in job["gpus"]]
    deadline = time.monotonic() + job["seconds"]
    entries = [{"name": name, **_heard(pid, pipe, deadline)} for name, pid, pipe in holders]
    result = {"payload": "leave", "engine": COMPUTE, "observed": {"entries": entries}, "versions": {}}
    print(json.dumps(result, allow_nan=False), flush=True)


def _held(address: str, job: dict[str, Any]) -> tuple[int, int]:
    """A process of its own session that writes, tells, and holds; its id and the pipe that it tells by."""
    pipe, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, pipe
    status = 1
    try:
        os.setsid()
        os.close(pipe)
        told = _planted(address, job)
        _tell(writing, told)
        silence = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(silence, number)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.close(writing)
        status = 0
        while told["left"] is not None:
            signal.pause()
    finally:
        os._exit(status)


def _planted(address: str, job: dict[str, Any]) -> dict[str, Any]:
    try:
        planted = residue.plant(address, job["word"], job.get("sysroot", "/"), _unheard)
    except (bounded.Unable, bounded.Failure, OSError) as error:
        return {"left": None, "error": str(error)}
    return {"left": planted, "error": None}


def _unheard(*_text: str, **_options: bool) -> None:
    """Nobody waits for its progress."""


def _tell(pipe: int, told: dict[str, Any]) -> None:
    data = json.dumps(told).encode("ascii")
    while data:
        data = data[os.write(pipe, data) :]


def _heard(pid: int, pipe: int, deadline: float) -> dict[str, Any]:
    """What it told before it closed the pipe; one that tells nothing in time is ended.

    What is there already is read also after the deadline: one card that hangs does not silence the others.
    """
    said = b""
    while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(pipe, 1 << 16)
        if not chunk:
            break
        said += chunk
    try:
        return dict(json.loads(said))
    except ValueError:
        os.kill(pid, signal.SIGKILL)
        return {"left": None, "error": "it did not report what it wrote"}
