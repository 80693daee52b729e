"""What it costs a host to be watched while loads run, all of it beside the samples alone.

    python bench/host_watch.py [--seconds 60] [--period 5] [--guests 2] [--threads 40]

The real script runs on this machine, beside processes with as many threads as a guest's QEMU has, once with
all that must not change and once without, in turns. What counts is the processor time of its whole tree, as
the kernel adds it up. Goal: at most 1 % of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.telemetry.host.lines import host_command
from harness.telemetry.host.table import HOLDERS_SECONDS, LOOK_SECONDS

GOAL_SHARE = 0.01
THREADS = (
    "import threading, time, sys\n"
    "for _ in range(int(sys.argv[1])):\n"
    "    threading.Thread(target=time.sleep, args=(900,), daemon=True).start()\n"
    "time.sleep(900)\n"
)


def followed(argv: tuple[str, ...], seconds: float) -> float:
    """Share of a core that a follower's tree takes, its start and end included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL):
        time.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / (time.monotonic() - begun)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=HOLDERS_SECONDS)
    parser.add_argument("--period", type=float, default=5.0)
    parser.add_argument("--guests", type=int, default=2)
    parser.add_argument("--threads", type=int, default=40)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args()
    guests = [
        subprocess.Popen((sys.executable, "-I", "-S", "-c", THREADS, str(options.threads)))
        for _ in range(options.guests)
    ]
    shares: dict[str, list[float]] = {"all": [], "samples_alone": []}
    try:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for number, guest in enumerate(guests):
                (root / f"bench-{number}.pid").write_text(str(guest.pid))
                (root / f"bench-{number}.xml").write_text(f"<domstatus state='running' pid='{guest.pid}'>\n")
            argv = host_command(
                "0" * 16, period_seconds=options.period, devices=(), ours="bench-", libvirt=str(root)
            )
            script = argv[2].replace('watch "$count"', ": nothing")
            for _ in range(options.turns):
                shares["all"].append(followed(argv, options.seconds))
                shares["samples_alone"].append(followed((*argv[:2], script, *argv[3:]), options.seconds))
    finally:
        for guest in guests:
            guest.kill()
            guest.wait()
    found = {key: statistics.median(values) for key, values in shares.items()}
    answer = {
        "share_of_one_core": {key: round(value, 4) for key, value in found.items()},
        "what_must_not_change": round(found["all"] - found["samples_alone"], 4),
        "ratio": round(found["all"] / found["samples_alone"], 2),
        "goal": GOAL_SHARE,
        "period_seconds": options.period,
        "look_seconds": LOOK_SECONDS,
        "threads": options.guests * options.threads,
        "processes_of_the_machine": sum(1 for each in Path("/proc").iterdir() if each.name.isdecimal()),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(answer, indent=1))
    return 0 if found["all"] <= GOAL_SHARE else 1


if __name__ == "__main__":
    raise SystemExit(main())
