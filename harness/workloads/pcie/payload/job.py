"""Copies between host and device from each cell, or between cells where there is no device.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.pcie``. Prints one line of strict JSON:
what was observed of each GPU. It judges nothing. GPUs take turns: together they would share what leads to
them, and near and far could not be told apart.
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
        from harness.workloads.pcie.payload.gpu import work as on_gpu

        return on_gpu
    from harness.workloads.pcie.payload.cpu import work as on_cpu

    return on_cpu


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    gpu = job["engine"] == "gpu"
    work = _tester(gpu=gpu)

    def on(name: str) -> bounded.Work:
        return lambda note: work(job, name, note)

    outcomes = {
        name: bounded.alone(on(name), job["stall_seconds"]) for name in (job["gpus"] if gpu else ["RAM"])
    }
    bounded.conclude("pcie", COMPUTE if gpu else "cpu", outcomes)
