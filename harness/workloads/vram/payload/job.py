"""Memory test: patterns written and compared, on each GPU at once, or on main memory.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.vram``. Prints one line of strict JSON:
what was observed of each GPU. It judges nothing.
"""

from __future__ import annotations

import json

from harness.payload import bounded
from harness.vendors.payload.names import COMPUTE

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _tester(*, gpu: bool) -> Callable[[dict[str, Any], str, Any], dict[str, Any]]:
    if gpu:
        from harness.workloads.vram.payload.gpu import work as on_gpu

        return on_gpu
    from harness.workloads.vram.payload.cpu import work as on_cpu

    return on_cpu


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    gpu = job["engine"] == "gpu"
    work = _tester(gpu=gpu)
    names = job["gpus"] if gpu else ["RAM"]

    def on(name: str) -> bounded.Work:
        return lambda note: work(job, name, note)

    found = bounded.together([on(name) for name in names], job["stall_seconds"])
    outcomes = dict(zip(names, found, strict=True))
    bounded.conclude("vram", COMPUTE if gpu else "cpu", outcomes)
