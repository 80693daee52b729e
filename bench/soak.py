"""Qualifies the lab again and again, and adds up over sessions: ``python bench/soak.py [RUNS]``.

    python bench/soak.py 5                   five runs more, each a line of bench/soak.jsonl
    python bench/soak.py 0                   only the sum of what is there

Each run is ``shakedown qualify --host lab --profile smoke``, one after the other. Each line says when, which
commit and QEMU, how long, verdict, exit status, cells without an answer, how often ``lapic_guard`` acted, and
how busy the machine was with other things (processors that neither the lab nor the run used, on average). The
directory of a run that is not GO_WITH_WAIVERS is kept. The goal: 30 runs, all GO_WITH_WAIVERS, half of them
beside other work. SIGTERM or Ctrl-C ends the run that goes on, which then does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.lab.state import lab_directory, running_state

ROOT = Path(__file__).resolve().parents[1]
GOAL = 30
WANTED = "GO_WITH_WAIVERS"
BUSY = 0.25
"""Processors that others used on average, from which on a run counts as one beside other work."""
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run, write, sum up; 0 when every run on file is what is wanted."""
    parser = argparse.ArgumentParser(description="Qualify the lab again and again.")
    parser.add_argument("runs", nargs="?", type=int, default=1)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/soak.jsonl")
    parser.add_argument("--keep", type=Path, default=ROOT / "runs/soak", help="where run directories go")
    parser.add_argument("--profile", default="smoke")
    given = parser.parse_args()
    for _ in range(given.runs):
        line = one_run(given.profile, given.keep.absolute())
        if line is None:
            break
        with given.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    return summed_up(given.results)


def one_run(profile: str, keep: Path) -> dict[str, Any] | None:
    """One run as a line of the file; None when it was interrupted."""
    began, wall, before = datetime.now(UTC), time.monotonic(), Used()
    command = (str(ROOT / "shakedown"), "qualify", "--host", "lab", "--profile", profile, "--json")
    child = subprocess.Popen((*command, "--runs", str(keep)), stdout=subprocess.PIPE)
    told: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        child.send_signal(signal.SIGTERM)

    former = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    output, _ = child.communicate()
    for number, handler in former.items():
        signal.signal(number, handler)
    seconds = time.monotonic() - wall
    if told:
        return None
    line: dict[str, Any] = {
        "at": began.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "commit": commit(),
        "profile": profile,
        "seconds": round(seconds),
        "others": round(Used().others_since(before) / seconds, 2),
        "load": round(os.getloadavg()[1], 1),
        "exit": child.returncode,
    }
    try:
        answer = json.loads(output)
    except ValueError:
        return {**line, "verdict": "", "missing": None, "qemu": "", "guard": None, "run": ""}
    run = Path(answer["run"])
    record = json.loads((run / "run.json").read_text())
    checks = answer["checks"]
    line |= {"verdict": answer["verdict"], "missing": checks["missing"] + checks["error"], "checks": checks}
    watched = record["evidence"]["host_telemetry"] or {}
    line |= {"qemu": record["evidence"]["engine"]["description"].split(",")[0].removeprefix("lab under ")}
    line |= {"guard": watched.get("emulator_mended"), "stages": answer["seconds"]}
    if answer["verdict"] == WANTED:
        shutil.rmtree(run)
    else:
        line |= {"run": run.name, "why": record["decision"]["reasons"][:5]}
    return line


class Used:
    """Processor seconds so far: of the machine, of the lab's QEMU, and of our children that ended."""

    def __init__(self) -> None:
        words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        user, nice, system, _idle, _wait, irq, soft, _steal = (int(word) / _TICKS for word in words)
        self.machine = user + nice + system + irq + soft
        state = running_state(lab_directory("default", 0))
        self.lab = state.process if state is not None else None
        self.lab_seconds = 0.0
        if self.lab is not None:
            fields = Path(f"/proc/{self.lab.pid}/stat").read_text().rpartition(")")[2].split()
            self.lab_seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.children = usage.ru_utime + usage.ru_stime

    def others_since(self, before: Used) -> float:
        """Processor seconds since then that neither we nor the lab used. A QEMU that ended since counts as
        somebody else's."""
        lab = self.lab_seconds - (before.lab_seconds if self.lab == before.lab else 0.0)
        return max(0.0, self.machine - before.machine - lab - (self.children - before.children))


def commit() -> str:
    """The commit that runs, with ``+`` where the tree differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ("git", "-C", str(ROOT), *arguments), capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return git("rev-parse", "--short=12", "HEAD") + changed


def summed_up(results: Path) -> int:
    """Print the sum; 0 when all are what is wanted."""
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    verdicts = Counter(line["verdict"] or f"exit {line['exit']}" for line in lines)
    busy = sum(1 for line in lines if line["others"] is not None and line["others"] >= BUSY)
    took = sorted(line["seconds"] for line in lines)
    acted = sum(line["guard"] or 0 for line in lines)
    print(
        f"{len(lines)} of {GOAL} runs, {busy} beside other work: {dict(verdicts)}; "
        f"the guard acted {acted} times"
    )
    if took:
        print(f"seconds: fastest {took[0]}, median {took[len(took) // 2]}, slowest {took[-1]}")
    return int(set(verdicts) - {WANTED} != set())


if __name__ == "__main__":
    sys.exit(main())
