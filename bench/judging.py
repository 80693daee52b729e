"""What it costs to judge a day: 24 hours of 8 GPUs at 10 Hz, from the spool's lines to the checks' answers.

    python bench/judging.py [--hours 24] [--gpus 8]

The spool is made first (healthy cards of one model, an hour of them played by the NVML stand-in and told
again for each hour), and its size is told. Then a process of its own reads it, sums it up and judges it, and
says what time and memory that took.

Goal: at most 30 s and 500 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.config.files import load_sku_file
from harness.images.standin import ensure_standin
from harness.vendors.nvidia.standin.models import healthy
from tests.telemetry.hours import Hour, Load

_JUDGE = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF)
began = time.monotonic()
from harness.telemetry.gpu.spool import read_spool
from tests.telemetry.hours import CODES, judged_of, summed_of
from harness.model.telemetry import LoadWindow
with Path(sys.argv[2]).open("rb") as file:
    spool = read_spool(file)
read = time.monotonic()
loads = tuple(LoadWindow(workload=w, key=k, start=a, end=b) for w, k, a, b in json.loads(sys.argv[3]))
telemetry = summed_of(spool, loads)
summed = time.monotonic()
said = judged_of(telemetry, loads)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "read_seconds": round(read - began, 1),
    "summed_seconds": round(summed - read, 1),
    "judged_seconds": round(time.monotonic() - summed, 1),
    "seconds": round(time.monotonic() - began, 1),
    "processor_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
    "most_memory_mb": round(used.ru_maxrss / 1000),
    "samples": sum(gpu.fast.count for gpu in spool.gpus),
    "problems": spool.problems,
    "not_passed": [
        f"{gpu} {check} {outcome} {words}"
        for gpu, answers in said.items()
        for check, (outcome, words) in answers.items()
        if outcome != "PASS"
    ],
}))
"""
HOUR = 3600.0


def write(hour: Hour, path: Path, hours: int, gpus: int) -> None:
    """The hour's lines, again for each hour: time and energy go on."""
    lines = list(hour.lines())
    step = int(hour.seconds)
    energy = hour.values[:, :, hour.places["energy"]]
    grown = (energy[-1] - energy[0] + 50.0).tolist()
    with path.open("wb") as file:
        for number in range(hours):
            for line in lines:
                said = json.loads(line)
                kind = said["type"]
                if (kind in ("start", "nvml", "kmsg_start", "gpu") and number) or (
                    kind == "end" and number < hours - 1
                ):
                    continue
                if number and kind in ("fast", "slow", "settings", "end"):
                    said["mono"] = round(said["mono"] + number * step, 3)
                if kind == "fast" and number:
                    said["values"][1] = round(said["values"][1] + number * grown[said["gpu"]], 3)
                for copy in range(gpus // hour.gpus if kind in ("gpu", "fast", "slow", "settings") else 1):
                    other = said | ({"gpu": said["gpu"] + copy * hour.gpus} if "gpu" in said else {})
                    if kind == "gpu" and copy:
                        other["address"] = f"0000:{0x20 + other['gpu']:02x}:00.0"
                    file.write(json.dumps(other, separators=(",", ":")).encode() + b"\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--gpus", type=int, default=8)
    options = parser.parse_args()
    library = ensure_standin(lambda text: print(text, file=sys.stderr))
    loads = [Load(workload="tensor", start=10.0, end=1800.0), Load(workload="mix", start=1803.0, end=3590.0)]
    with tempfile.TemporaryDirectory() as name:
        hour = Hour(
            library, Path(name), healthy(load_sku_file("h200-sxm").sku), seconds=HOUR, loads=loads, gpus=4
        )
        path = Path(name) / "spool"
        write(hour, path, options.hours, options.gpus)
        windows = [
            (w.workload, f"{w.key}-{n}", w.start + n * HOUR, w.end + n * HOUR)
            for n in range(options.hours)
            for w in hour.windows
        ]
        size = path.stat().st_size
        root = str(Path(__file__).resolve().parent.parent)
        done = subprocess.run(
            (sys.executable, "-c", _JUDGE, root, str(path), json.dumps(windows)),
            check=True,
            capture_output=True,
            text=True,
        )
    answer = {
        "hours": options.hours,
        "gpus": options.gpus,
        "spool_mb": round(size / 1e6),
        **json.loads(done.stdout),
    }
    print(json.dumps(answer, indent=2))
    return 0 if answer["seconds"] <= 30.0 and answer["most_memory_mb"] <= 500 else 1


if __name__ == "__main__":
    sys.exit(main())
