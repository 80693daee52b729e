"""Warm start, reset and stop of the default lab, in seconds: ``python bench/lab.py [repeats]``.

The limits (5 s for a warm start and for a reset) are those that the project promises on an idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.config.files import load_lab
from harness.lab.control import LabControl

LIMIT_SECONDS = {"warm up": 5.0, "reset": 5.0}


def _quiet(message: str) -> None:
    if sys.stderr.isatty():
        print(message, file=sys.stderr)


def _timed(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def main() -> int:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds: dict[str, list[float]] = {"warm up": [], "already up": [], "reset": [], "down": []}
    with tempfile.TemporaryDirectory(prefix="shakedown-bench-") as state:
        lab = LabControl(load_lab("default"), state=Path(state))
        cold = _timed(lambda: lab.ensure_up(_quiet))
        engine = lab.engine()
        lab.down(_quiet)
        for _ in range(repeats):
            seconds["warm up"].append(_timed(lambda: lab.ensure_up(_quiet)))
            seconds["already up"].append(_timed(lambda: lab.ensure_up(_quiet)))
            seconds["reset"].append(_timed(lambda: lab.reset(_quiet)))
            seconds["down"].append(_timed(lambda: lab.down(_quiet)))
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    result = {
        "first up": round(cold, 2),
        "median seconds": medians,
        "all": {name: [round(value, 2) for value in values] for name, values in seconds.items()},
        "within limits": {name: medians[name] <= limit for name, limit in LIMIT_SECONDS.items()},
        "engine": engine.description,
        "machine": f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}",
    }
    print(json.dumps(result, indent=2))
    return 0 if all(result["within limits"].values()) else 1  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
