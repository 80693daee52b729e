"""What the pytest plugin costs an ordinary session, and how long it takes to show what a run would ask.

    python bench/plugin.py

The same empty session with and without the plugin, in turn, and `--collect-only` of the suites against a host
that is not touched. Whole processes, by processor time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q")


def measured(*arguments: str, where: Path) -> tuple[float, float]:
    """Processor and wall milliseconds of one session."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*PYTEST, *arguments], cwd=where, stdout=subprocess.DEVNULL, check=True)
    wall = 1000 * (time.perf_counter() - begun)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), wall


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        where = Path(directory)
        (where / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        pairs = []
        for _ in range(ROUNDS):
            without = measured("-p", "no:harness.plugin", where=where)[0]
            pairs.append((measured(where=where)[0], without))
        collect = [
            measured(str(ROOT / "suites"), "--candidate", "lab", "--collect-only", where=ROOT)
            for _ in range(5)
        ]
    added = statistics.median(a - b for a, b in pairs)
    shown = statistics.median(wall for _, wall in collect) / 1000
    rows = [
        {
            "what": "an ordinary session with the plugin, over one without",
            "ratio": round(statistics.median(a / b for a, b in pairs), 3),
            "added_ms": round(added, 1),
            "limit_ms": 20.0,
            "ok": added <= 20.0,
        },
        {
            "what": "--collect-only of smoke on the lab",
            "seconds": round(shown, 2),
            "limit_s": 2.0,
            "ok": shown <= 2.0,
        },
    ]
    print(json.dumps({"python": platform.python_version(), "rows": rows}, indent=1))
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
