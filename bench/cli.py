"""How long the command line takes to answer, beside a bare import of its library, in one run.

    python bench/cli.py [ROUNDS]

Prints the fastest and the median of each, interleaved so that both see the same machine. The figure to keep:
``shakedown --help`` at most 3 times ``python -c "import typer"``.
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMIT = 3.0
ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "python -c 'import typer'": (sys.executable, "-P", "-c", "import typer"),
    "shakedown --help": (sys.executable, "-P", "-m", "harness", "--help"),
    "./shakedown --help": (str(ROOT / "shakedown"), "--help"),
    "shakedown inventory check": (sys.executable, "-P", "-m", "harness", "inventory", "check"),
}


def seconds(argv: tuple[str, ...]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and return 1 when the limit is broken."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for argv in COMMANDS.values():
        seconds(argv)  # byte code and page cache
    for _ in range(rounds):
        for name, argv in COMMANDS.items():
            taken[name].append(seconds(argv))
    print(f"Python {platform.python_version()}, {platform.platform()}, {rounds} rounds")
    for name, values in taken.items():
        fastest, median = 1000 * min(values), 1000 * statistics.median(values)
        print(f"{name:28} fastest {fastest:6.0f} ms   median {median:6.0f} ms")
    bare, ours, *_ = (statistics.median(values) for values in taken.values())
    print(f"shakedown --help is {ours / bare:.2f} times a bare import of typer (limit {LIMIT:.0f})")
    return int(ours > LIMIT * bare)


if __name__ == "__main__":
    sys.exit(main())
