"""How fast a GPU's memory is swept, against the fastest copy of the same card; whether flips are found.

    python bench/vram.py [--gpu ADDRESS] [--flips 1000] [--torch PYTHON_WITH_TORCH]

Needs a machine with an NVIDIA GPU and its driver, and only Python's own modules. On the card, in one run:

- the sweep: bytes written and compared by all passes of the workload as it ships, over the time they took;
- the ceiling: bytes read and written by the driver's own copy of half a piece of memory onto the other half;
- single bits turned over at random places under random patterns: how many were found;
- with ``--torch``: a plain memory test in PyTorch (fill, compare, count) for comparison.

Without a GPU it says so, measures the CPU engine only, and ends with 3: nothing was learned of any card.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.model.pci import PciAddress
from harness.vendors.nvidia.payload import compute
from harness.workloads.base import GuestDevice, Job, Place
from harness.workloads.vram.answers import WORKLOAD

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.9
PIECE = 4 << 30
TORCH = """
import json, time, torch
words, rounds = int(0.9 * torch.cuda.mem_get_info()[0]) // 16, 4
held = [torch.empty(words, dtype=torch.int64, device="cuda")]
torch.cuda.synchronize(); began = time.perf_counter(); wrong = 0
for value in range(rounds):
    held[0].fill_(value)
    wrong += int((held[0] != value).count_nonzero())
torch.cuda.synchronize(); spent = time.perf_counter() - began
print(json.dumps({"GB/s": 16 * words * rounds / spent / 1e9, "wrong": wrong, "torch": torch.__version__}))
"""


def gpus() -> list[str]:
    """PCI addresses of this machine's NVIDIA display and 3D controllers."""
    found = []
    for device in sorted(Path("/sys/bus/pci/devices").glob("*")):
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        if vendor == "0x10de" and kind.startswith("0x03"):
            found.append(device.name)
    return found


def sweep(addresses: list[str], **parameters: Any) -> tuple[Job, dict[str, Any]]:
    """The workload's own payload on this machine: what it observed of the first device."""
    where = [PciAddress.parse(address) for address in addresses]
    job = Job(
        key="bench",
        guest="bench",
        tenant="bench",
        devices=tuple(GuestDevice(address=a, vendor="10de", device="", host=a) for a in where),
        parameters=parameters,
        place=Place(python=sys.executable, payload=str(ROOT)),
    )
    done = subprocess.run(WORKLOAD.prepare(job), stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"the payload ended with {done.returncode}: {done.stdout.decode()}")
    wrong = [a for a in WORKLOAD.parse(job, done.stdout).answers if not a.ok]
    if wrong:
        raise SystemExit(f"wrong answers: {wrong}")
    found: dict[str, Any] = json.loads(done.stdout)["observed"]["entries"][0]["observed"]
    return job, found


def rate(seen: dict[str, Any], plan: list[list[Any]]) -> dict[str, float]:
    """GB/s of the whole sweep, of writing and of comparing. A pass that inverts writes as it compares."""
    size = 8 * seen["words"]
    fills = [p["fill_seconds"] for p in seen["passes"] if p["fill_seconds"] is not None]
    moved = sum(size * (2 if then is not None else 1) for *_, then in plan) + size * len(fills)
    looks = sum(p["verify_seconds"] for p in seen["passes"])
    return {
        "sweep": moved / (sum(fills) + looks) / 1e9,
        "write": size * len(fills) / sum(fills) / 1e9,
        "compare": size * len(plan) / looks / 1e9,
    }


def on_card(address: str, flips: int) -> dict[str, Any]:
    """The ceiling, the shipped copy kernel beside it, and the search for flipped bits."""
    gpu = compute.open_gpu(address, "/", lambda _text, **_more: None)
    memory, size = gpu.pieces(min(PIECE, gpu.free() // 2), lambda _text: None)[0]
    half = size // 2
    best = 0.0
    for _ in range(20):
        spent = gpu.timed(
            lambda: [gpu.driver("cuMemcpyDtoDAsync_v2", memory, memory + half, half, None) for _ in range(5)]
        )
        best = max(best, 5 * 2 * half / max(1e-9, spent))
    chance, found, began = random.Random(2026), 0, time.monotonic()  # noqa: S311
    words = size // 8
    for _ in range(flips):
        kind, argument = chance.randrange(5), chance.getrandbits(64)
        index, bit = chance.randrange(words), chance.randrange(64)
        gpu.clear()
        gpu.fill(memory, words, 0, kind, argument)
        gpu.launch("sd_flip", memory, index, 1 << bit, blocks=1)
        gpu.verify(memory, words, 0, kind, argument)
        seen = gpu.report()
        found += (
            seen["mismatches"] == 1 and [f[0] for f in seen["faults"]] == [index] and seen["bits"] == 1 << bit
        )
    return {
        "card": gpu.name,
        "cuda": gpu.driver.version(),
        "ceiling": best / 1e9,
        "flips": flips,
        "found": found,
        "flips_over_bytes": size,
        "flip_seconds": time.monotonic() - began,
    }


def processor() -> dict[str, Any]:
    """The CPU engine's rates on this machine."""
    job, seen = sweep([], mib=64, ram_walks=8)
    return {
        "RAM": rate(seen, json.loads(WORKLOAD.prepare(job)[-1])["passes"]),
        "copy": seen["copy_rate"] / 1e9,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gpu", help="PCI address; the first one otherwise")
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--torch", help="a Python that has PyTorch with CUDA")
    given = parser.parse_args()
    found = [given.gpu] if given.gpu else gpus()
    about = {"python": platform.python_version(), "machine": platform.machine(), "unit": "GB/s"}
    if not found:
        said = "no NVIDIA GPU on this machine: no figure of any card was measured"
        print(json.dumps({**about, "gpu": None, "said": said, "processor": processor()}, indent=1))
        return 3
    # First the sweep, by a process that ends: what this one then holds of the card would be lacking there.
    job, seen = sweep(found[:1])
    card = on_card(found[0], given.flips)
    rates = rate(seen, json.loads(WORKLOAD.prepare(job)[-1])["passes"])
    plain = None
    if given.torch:
        done = subprocess.run([given.torch, "-c", TORCH], stdout=subprocess.PIPE, check=False)
        plain = json.loads(done.stdout) if done.returncode == 0 else f"ended with {done.returncode}"
    share = rates["sweep"] / card["ceiling"]
    ok = share >= GOAL and card["found"] == given.flips
    result = {
        **about, "gpu": found[0], **card, **rates, "copy_kernel": seen["copy_rate"] / 1e9,
        "read_kernel": seen["read_rate"] / 1e9, "covered": 8 * seen["words"] / seen["total"],
        "sweep_of_ceiling": share, "goal": GOAL, "plain_test_in_torch": plain, "ok": ok,
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    return 0 if ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
