"""How long a record takes to fold, judge and render: ``python -m bench.report``.

Measured on the example runs of ``tests/reports/records.py`` (a lab of 4 stand-ins; a host with 8 GPUs and 128
CPUs), each format in a fresh process so that imports count, and once more warm. The goal is under one second
for all formats together.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOAL_SECONDS = 1.0

_RENDER = """
import sys, time
begun = time.perf_counter()
from pathlib import Path
from harness.model.record import RunRecord
from harness.serial import from_json
from reports import render_all
record = from_json(RunRecord, Path(sys.argv[1], "run.json").read_bytes())
loaded = time.perf_counter()
render_all(Path(sys.argv[2]), record)
cold = time.perf_counter()
render_all(Path(sys.argv[2]), record)
warm = time.perf_counter()
print(loaded - begun, cold - loaded, warm - cold)
"""


def measure(run: Path, output: Path) -> dict[str, float]:
    """Seconds to load the record (imports included), to render all formats first and again."""
    done = subprocess.run(
        [sys.executable, "-c", _RENDER, str(run), str(output)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    load, cold, warm = (float(word) for word in done.stdout.split())
    return {"load_s": round(load, 3), "render_first_s": round(cold, 3), "render_again_s": round(warm, 3)}


def main() -> int:
    """Print one JSON object a run; 1 when a first rendering misses the goal."""
    sys.path.insert(0, str(ROOT))
    from harness.record.directory import RunDirectory  # noqa: PLC0415  after the path is known
    from harness.record.judge import rejudge  # noqa: PLC0415
    from tests.reports import records as example  # noqa: PLC0415

    missed = False
    for scenario in (example.WITH_WAIVERS, example.HARDWARE):
        with tempfile.TemporaryDirectory() as folder:
            example.record(Path(folder), scenario)
            run = Path(folder) / scenario.shape.name / example.RUN
            begun = time.perf_counter()
            rejudge(RunDirectory.open(run), checker=example.checker, titles=example.TITLES)
            judged = time.perf_counter() - begun
            times = measure(run, Path(folder)) | {"judge_again_s": round(judged, 3)}
            missed |= times["render_first_s"] > GOAL_SECONDS
            size = (run / "run.json").stat().st_size
            print(json.dumps({"host": scenario.shape.name, "record_bytes": size} | times))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
