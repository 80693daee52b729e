"""Copies between host and device from each cell, or between cells where there is no device.

Usage: ``pcie.py JSON`` with the parameters of ``harness.workloads.pcie``. Prints one line of strict JSON:
what was observed of each GPU. It judges nothing. GPUs take turns: together they would share what leads to
them, and near and far could not be told apart.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # isolated mode leaves it out
    job = json.loads(argument)
    bounded: Any = __import__("bounded")
    gpu = job["engine"] == "gpu"
    tester: Any = __import__("pcie_gpu") if gpu else __import__("pcie_cpu")
    outcomes = {
        name: bounded.alone(lambda note, name=name: tester.work(job, name, note), job["stall_seconds"])
        for name in (job["gpus"] if gpu else ["RAM"])
    }
    bounded.conclude("pcie", "cuda" if gpu else "cpu", outcomes)


if __name__ == "__main__":
    main(sys.argv[1])
