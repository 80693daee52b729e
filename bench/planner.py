"""How long planning takes: 4, 8 and 16 GPUs on the hosts that are hardest for the search, in one run.

    python bench/planner.py

The hardest host has all GPUs alike in nothing (each on a root bus of its own, on one node), asked for half
of them: then no two sets can be told to be equal without looking. Beside it the same number of GPUs as they
are built (two to a node, or four to a switch).
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.planner import plan
from tests.placement.hosts import GpuSpec, host

ROUNDS = 5
LIMITS_MS = {4: 50.0, 8: 50.0, 16: 500.0}


def hosts(gpus: int) -> dict[str, HostFacts]:
    nodes = max(2, gpus // 2)
    cores = 64 // nodes
    alike = [GpuSpec(node=i * nodes // gpus) for i in range(gpus)]
    switched = [GpuSpec(node=i * 2 // gpus, switch=i // 4) for i in range(gpus)]
    strangers = [GpuSpec(node=0, root=0x10 + i) for i in range(gpus)]
    return {
        f"{nodes} nodes": host(alike, nodes=nodes, cores=cores, threads=2),
        "4 to a switch": host(switched, nodes=2, cores=32, threads=2),
        "own root buses": host(strangers, nodes=1, cores=64, threads=2),
    }


def milliseconds(facts: HostFacts, gpus: int) -> float:
    """Median wall time of planning the worst request of that host."""
    worst = 0.0
    for wanted in sorted({1, gpus // 2, gpus}):
        request = GuestRequest(name="bench", gpus=wanted)
        taken = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            answer = plan(facts, request, PlacementPolicy(), VFIO)
            taken.append(1000 * (time.perf_counter() - started))
            assert isinstance(answer, PlacementPlan), answer
        worst = max(worst, statistics.median(taken))
    return worst


def main() -> int:
    rows = []
    for gpus, limit in LIMITS_MS.items():
        for name, facts in hosts(gpus).items():
            took = round(milliseconds(facts, gpus), 2)
            rows.append({"gpus": gpus, "host": name, "ms": took, "limit_ms": limit, "ok": took <= limit})
    print(
        json.dumps(
            {"python": platform.python_version(), "machine": platform.machine(), "rows": rows}, indent=1
        )
    )
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
