"""What it costs to watch 8 GPUs, ten times a second, with the NVML stand-in for a driver.

    python bench/telemetry.py [--gpus 8] [--seconds 30]

Measured in one run: the processor time that the sampler says it used (its start left out); what a program
that does nothing but count loses to it, one counter on each processor, the sampler being stopped and let go
on in turns (the machine's own noise is given beside it); and one round in a tight loop. The stand-in answers
from memory: a real driver's own time for its calls comes on top, and is not in these figures.

Goal: 8 GPUs at 10 Hz, counters at 1 Hz, at most 2 % of one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pynvml

from harness.config.files import load_standin
from harness.images.standin import ensure_standin
from harness.model.pci import PciAddress
from harness.vendors.nvidia.payload import sampler, sampler_gpu, sampler_reads
from harness.vendors.nvidia.standin.scenario import scenario_text
from harness.workloads.files import SAMPLER
from tests.packed import argv as argv_of

GOAL_SHARE = 0.02
WINDOW_SECONDS = 1.0
ROUNDS = 2000


def count(cpu: int, until: float, counted: Any) -> None:
    """Count on one processor, publishing as it goes."""
    os.sched_setaffinity(0, {cpu})
    while time.monotonic() < until:
        for _ in range(2000):
            pass
        counted[cpu] += 1


def counters(seconds: float, process: subprocess.Popen[bytes]) -> dict[str, float]:
    """The sampler stopped and going in turns beside a counter on each processor."""
    cpus = sorted(os.sched_getaffinity(0))
    counted = multiprocessing.RawArray("d", max(cpus) + 1)
    until = time.monotonic() + seconds
    started = [multiprocessing.Process(target=count, args=(cpu, until, counted)) for cpu in cpus]
    for each in started:
        each.start()
    rates: dict[int, list[float]] = {signal.SIGSTOP: [], signal.SIGCONT: []}
    time.sleep(0.5)
    while time.monotonic() + 2 * WINDOW_SECONDS < until:
        for number, taken in rates.items():
            os.killpg(process.pid, number)
            before, at = sum(counted), time.monotonic()
            time.sleep(WINDOW_SECONDS)
            taken.append((sum(counted) - before) / (time.monotonic() - at))
    os.killpg(process.pid, signal.SIGCONT)
    for each in started:
        each.join()
    without, beside = rates[signal.SIGSTOP], rates[signal.SIGCONT]
    lost = [1 - a / b for a, b in zip(beside, without, strict=True)]
    noise = [1 - b / a for a, b in itertools.pairwise(without)]
    return {
        "windows": len(lost),
        "lost_share_of_one_core": round(statistics.median(lost) * len(cpus), 4),
        "noise_between_windows_without": round(statistics.pstdev(noise) * len(cpus), 4),
    }


def used(spool: Path) -> list[float]:
    """Shares of one core between the sampler's own notes of its processor time."""
    notes = [line for line in map(json.loads, spool.read_text().splitlines()) if line["type"] == "usage"]
    return [
        (b["cpu_seconds"] - a["cpu_seconds"]) / (b["mono"] - a["mono"]) for a, b in itertools.pairwise(notes)
    ]


def tight(library: Path, folder: Path) -> dict[str, float]:
    """Microseconds of one fast and one slow round of one GPU, in a loop that does nothing else."""
    job = {**sampler.DEFAULTS, "library": str(library), "parent": os.getppid()}
    worker = sampler_gpu.Worker(job, sampler.Spool(str(folder / "tight")), sampler.Board(), 0)
    sampler_gpu.introduce(worker, pynvml)
    rounds = sampler_gpu.Rounds(
        sampler_reads.Reader(pynvml, worker, pynvml.nvmlDeviceGetHandleByIndex(0)), sampler_reads
    )
    took = {}
    for name, take, times in (("fast", rounds.fast, ROUNDS), ("slow", rounds.slow, ROUNDS // 10)):
        best = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(times):
                take()
            best.append(1e6 * (time.process_time() - began) / times)
        took[f"{name}_round_us"] = round(min(best), 1)
    return took


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    library = ensure_standin(lambda text: print(text, file=sys.stderr))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        addresses = [PciAddress(0, n + 1, 0, 0) for n in range(options.gpus)]
        (folder / "kmsg").touch()
        scenario = folder / "scenario"
        scenario.write_bytes(
            scenario_text(load_standin("healthy-h200"), addresses, kmsg=str(folder / "kmsg"))
        )
        os.environ["SHAKEDOWN_NVML_SCENARIO"] = str(scenario)
        job = {
            "spool": str(folder / "spool"), "library": str(library), "kmsg": str(folder / "kmsg"),
            "binding": str(Path(pynvml.__file__).parent),
        }  # fmt: skip
        argv = argv_of(SAMPLER, job)
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(options.seconds + 1)
            shares = used(folder / "spool")
            spool_rate = (folder / "spool").stat().st_size / options.seconds
            beside = counters(options.seconds, process)
            os.killpg(process.pid, signal.SIGTERM)
        rounds = tight(library, folder)
    answer = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "gpus": options.gpus,
        "own_share_of_one_core": round(statistics.median(shares), 4) if shares else None,
        "goal": GOAL_SHARE,
        **beside,
        **rounds,
        "spool_bytes_per_second": round(spool_rate),
    }
    print(json.dumps(answer, indent=1))
    return 0 if shares and statistics.median(shares) <= GOAL_SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main())
