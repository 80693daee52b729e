"""False alarms: healthy hours of all GPU models, with other loads each time, judged as a run would be.

    python bench/alarms.py [--hours 1000] [--seed 1] [--seconds 3600]

Each hour is one GPU's. Four cards live beside each other in one chassis, warm each other and differ a little;
loads begin and end, ramp, pulse and pause at drawn times (all by the seed). Played by the NVML stand-in with
its time turned by hand, sampled at 10 Hz, summed up and judged by every check that rests on a GPU's series
alone.

Prints one JSON object: hours, alarms (each in words, with the seed that plays it again), and what was asked.
Goal: 0 alarms in 1,000 hours of one hour each.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.config.files import list_names, load_sku_file
from harness.images.standin import ensure_standin
from harness.vendors.nvidia.standin.model import StandinLoad, StandinScenario, StandinSeries
from harness.vendors.nvidia.standin.models import healthy
from tests.telemetry.hours import JUDGED, Hour, Load

GPUS = 4
WORKLOADS = ("device", "tensor", "hashing", "vram", "pcie", "p2p", "transcode", "render", "stream", "mix")
LIGHT = ("device", "pcie", "p2p", "transcode", "stream")
"""Loads that leave the GPU's processors mostly alone."""


def drawn(seed: int, seconds: float) -> tuple[StandinScenario, list[Load]]:
    """A healthy chassis and its loads."""
    chance = random.Random(seed)  # noqa: S311 - a seed
    models = list_names("skus")
    sku = load_sku_file(models[seed % len(models)]).sku
    at = chance.uniform(5.0, 60.0)
    shares = [StandinLoad(at=0.0, share=0.0)]
    loads: list[Load] = []
    while at < seconds - 30.0 and len(shares) < 200:
        workload = chance.choice(WORKLOADS)
        end = min(
            seconds - 5.0, at + chance.choice((8.0, 20.0, 60.0, 300.0, 900.0)) * chance.uniform(0.5, 1.5)
        )
        loads.append(Load(workload=workload, start=at, end=end))
        most = chance.uniform(0.05, 0.5) if workload in LIGHT else chance.uniform(0.75, 1.0)
        form = chance.choice(("flat", "ramp", "pulse", "late"))
        if form == "ramp":
            shares += [
                StandinLoad(at=at + step * (end - at) / 8, share=most * (0.4 + 0.6 * step / 7))
                for step in range(8)
            ]
        elif form == "pulse":
            count = min(12, int((end - at) / 4.0) + 1)
            shares += [
                StandinLoad(at=at + step * (end - at) / count, share=most * (1.0 if step % 2 == 0 else 0.5))
                for step in range(count)
            ]
        elif form == "late":  # the load prepares on the host before it begins
            shares += [StandinLoad(at=at, share=0.0), StandinLoad(at=at + 0.1 * (end - at), share=most)]
        else:
            shares.append(StandinLoad(at=at, share=most))
        shares.append(StandinLoad(at=end, share=0.0))
        at = end + chance.choice((0.05, 0.5, 3.0, 20.0)) * chance.uniform(0.5, 1.5)
    base = healthy(sku, tuple(shares), seed=seed)
    air = StandinSeries(
        reading="ambient", points=((0.0, chance.uniform(16.0, 30.0)), (seconds, chance.uniform(16.0, 30.0)))
    )
    return replace(base, series=(*base.series, air)), loads


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3600.0)
    options = parser.parse_args()
    library = ensure_standin(lambda text: print(text, file=sys.stderr))
    alarms: list[str] = []
    asked = loads = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seed, options.seed + -(-options.hours // GPUS)):
            scenario, those = drawn(seed, options.seconds)
            hour = Hour(library, Path(name), scenario, seconds=options.seconds, loads=those, gpus=GPUS)
            said = hour.judged()
            asked += sum(map(len, said.values()))
            loads += len(those)
            found = [
                f"seed {seed} ({scenario.name}), GPU {gpu}, {check}: {outcome} {words}"
                for gpu, answers in said.items()
                for check, (outcome, words) in answers.items()
                if outcome != "PASS"
            ]
            for alarm in found:
                print(alarm, file=sys.stderr, flush=True)
            alarms += found
    hours = GPUS * -(-options.hours // GPUS)
    print(
        json.dumps(
            {
                "series": hours,
                "seconds_each": options.seconds,
                "models": len(list_names("skus")),
                "loads": loads,
                "checks": len(JUDGED),
                "asked": asked,
                "alarms": alarms,
                "took_seconds": round(time.monotonic() - began, 1),
            },
            indent=2,
        )
    )
    return 1 if alarms else 0


if __name__ == "__main__":
    sys.exit(main())
