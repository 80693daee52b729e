"""Whether the tensor burn finds a single flipped bit, whether it cries wolf, and what its checks cost.

    python bench/tensor.py --torch PYTHON_WITH_TORCH --tensorflow PIP_TARGET_DIR [--flips N] [--products N]

Runs the payload itself on this machine's processor, with its test hooks, in every precision the framework has
there. Prints, for each framework: flips found (in outputs with block, row, column and bit; in inputs), false
alarms among products of 64 x 64, and the cost of checking over the matrix size. Ends with 1 when a flip stays
unfound or a sound product is called wrong.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.workloads.base import Job, Place
from harness.workloads.registry import workload

ROOT = Path(__file__).resolve().parents[1]
TENSOR = workload("tensor")
PAIRS = 32
"""Pairs of matrices that recur in the search for false alarms."""


def observed(framework: str, place: Place, parameters: dict[str, Any], **hooks: Any) -> dict[str, Any]:
    """What the payload says of the processor; ``hooks`` go to it behind the workload's back."""
    job = Job(
        key="bench",
        guest="bench",
        tenant="bench",
        vcpus=1,  # threads that wait for each other measure what else the machine does
        parameters={"framework": framework, "engine": "cpu", **parameters},
        place=place,
    )
    *argv, text = TENSOR.prepare(job)
    argv.append(json.dumps({**json.loads(text), **hooks}))
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{framework}: the payload ended with {done.returncode}: {done.stdout.decode()}")
    if not hooks:
        wrong = [a for a in TENSOR.parse(job, done.stdout).answers if not a.ok]
        if wrong:
            raise SystemExit(f"{framework}: wrong answers: {wrong}")
    found: dict[str, Any] = json.loads(done.stdout)["observed"]["devices"][0]
    return found


def detection(framework: str, place: Place, flips: int) -> bool:
    """Flips in outputs and in inputs of every precision; whether all were found."""
    fine = True
    for hook, where in (("inject", "outputs"), ("inject_inputs", "inputs")):
        given = {"rounds": flips, "size": 128, "blocks": 4, "check_every": 1 << 30}
        for burn in observed(framework, place, given, **{hook: True, "inject_seed": 2026})["burns"]:
            done = burn["injected"]
            found = sum(flip["found"] for flip in done)
            words = f"{framework:10} {burn['precision']:5} flips in {where}: {found} of {len(done)} found"
            if hook == "inject":
                words += f", {sum(flip['located'] for flip in done)} with row, column and bit"
            else:
                words += f", {sum(flip['by'] == 'output' for flip in done)} of them by the very next product"
            print(words)
            fine = fine and found == len(done) == flips
    return fine


def alarms(framework: str, place: Place, products: int, precision: str) -> bool:
    """Many small products that are all right; whether none was called wrong."""
    given = {
        "rounds": -(-products // PAIRS),
        "size": 64,
        "blocks": PAIRS,
        "precisions": precision,
        "check_every": 256,
    }
    began = time.monotonic()
    (burn,) = observed(framework, place, given)["burns"]
    print(
        f"{framework:10} {precision:5} {burn['products']} sound products: {burn['mismatches']} called wrong, "
        f"{burn['freivalds']} Freivalds checks within the bound ({time.monotonic() - began:.0f} s)"
    )
    return bool(burn["products"] >= products and burn["mismatches"] == 0)


def curve(framework: str, place: Place, sizes: str, seconds: float) -> None:
    """Cost of checking over the size, fp32."""
    given = {"curve": sizes, "curve_seconds": seconds, "precisions": "fp32"}
    for point in observed(framework, place, given)["curve"]:
        share = 1 - point["rate"] / point["unchecked_rate"]
        print(
            f"{framework:10} {point['precision']:5} n = {point['size']:5}: checked {point['rate']:.4f}, "
            f"unchecked {point['unchecked_rate']:.4f} TFLOP/s: checking costs {100 * share:5.1f} %"
        )


def main() -> int:
    """Measure, print; 1 when a flip stayed unfound or a sound product was called wrong."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--torch", default="", help="interpreter that has PyTorch and numpy")
    ask.add_argument("--tensorflow", default="", help="pip --target directory with TensorFlow and numpy")
    ask.add_argument("--flips", type=int, default=1000)
    ask.add_argument("--products", type=int, default=1_000_000)
    ask.add_argument("--sizes", default="256,512,1024,2048,4096")
    ask.add_argument("--seconds", type=float, default=4.0, help="of each point of the curve")
    given = ask.parse_args()
    places = {
        name: Place(python=python, payload=str(ROOT / "harness/payload"), tensorflow=folder)
        for name, python, folder in (
            ("tensorflow", sys.executable, given.tensorflow),
            ("torch", given.torch, ""),
        )
        if (folder or python) and (name == "torch" or folder)
    }
    if not places:
        ask.error("name at least one of --torch and --tensorflow")
    print(f"{platform.processor() or platform.machine()}, {platform.platform()}")
    fine = True
    for framework, place in places.items():
        fine &= detection(framework, place, given.flips)
        for precision in ("fp32", "bf16"):
            fine &= alarms(framework, place, given.products // 2, precision)
        curve(framework, place, given.sizes, given.seconds)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
