"""Memory test: patterns written and compared, on each GPU at once, or on main memory.

Usage: ``vram.py JSON`` with the parameters of ``harness.workloads.vram``. Prints one line of strict JSON:
what was observed of each GPU. It judges nothing.
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
    tester: Any = __import__("vram_gpu") if gpu else __import__("vram_cpu")
    names = job["gpus"] if gpu else ["RAM"]
    works = [lambda note, name=name: tester.work(job, name, note) for name in names]
    outcomes = dict(zip(names, bounded.together(works, job["stall_seconds"]), strict=True))
    bounded.conclude("vram", "cuda" if gpu else "cpu", outcomes)


if __name__ == "__main__":
    main(sys.argv[1])
