"""Password recovery in the guest: a hash is given, the password must be found from a word list.

Usage: ``hashing.py JSON`` with the parameters of ``harness.workloads.hashing``. Prints one line of strict
JSON: what was observed. The words come from a seed; which of them is the password, only the controller
knows. A hash that stays uncracked is an observation (``found`` null), not an error.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_MASK = (1 << 64) - 1
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_RATE = re.compile(r" ([0-9]+(?:\.[0-9]+)?)([KMGT]?)c/s ")
_SCALE = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_USER = "guest"


def word(seed: int, index: int) -> str:
    """Candidate ``index``: 12 letters of splitmix64's value number ``index`` from ``seed``."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return "".join([_ALPHABET[z >> shift & 31] for shift in range(0, 60, 5)])


def forget(pot: str, digest: str) -> None:
    """Take our hash out of john's pot: a password already known there would not be searched again."""
    try:
        with open(pot, encoding="utf-8", errors="surrogateescape") as stream:
            lines = stream.readlines()
    except FileNotFoundError:
        return
    kept = [line for line in lines if digest not in line]
    if len(kept) != len(lines):
        with open(pot, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.writelines(kept)


def john(job: dict[str, Any], tools: Any) -> tuple[dict[str, Any], str]:
    """John the Ripper 1.9 (Debian ``john``): the password it printed, and the rate it reports."""
    program = tools.find("john")
    pot = os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".john", "john.pot")  # john ignores $HOME, too
    forget(pot, job["digest"])
    version = re.search(r"version (\S+)", tools.run([program], ".")[1])
    argv = [program, "--format=md5crypt", "--wordlist=words", "--session=./session", "hash"]
    status, said = tools.run(argv, ".", environment={"OMP_NUM_THREADS": str(job["threads"])})
    forget(pot, job["digest"])
    if status or "Loaded 1 password hash" not in said:
        raise RuntimeError(f"john ended with status {status}: {said[-2000:]}")
    found = re.search(rf"^(\S+)\s+\({_USER}\)$", said, re.MULTILINE)
    rate = _RATE.findall(said)
    return {
        "found": found[1] if found else None,
        "reported_rate": float(rate[-1][0]) * _SCALE[rate[-1][1]] if rate else None,
    }, f"john {version[1] if version else 'unknown'}"


def hashcat(job: dict[str, Any], tools: Any) -> tuple[dict[str, Any], str]:
    """hashcat (mode 500, straight): needs an OpenCL runtime; status 1 means exhausted, not failed."""
    program = tools.find("hashcat")
    version = tools.run([program, "--version"], ".")[1].strip()
    argv = [
        program,
        "-m",
        "500",
        "-a",
        "0",
        "--potfile-disable",
        "--quiet",
        "-o",
        "found",
        job["digest"],
        "words",
    ]
    status, said = tools.run(argv, ".")
    if status not in (0, 1):
        raise RuntimeError(f"hashcat ended with status {status}: {said[-2000:]}")
    found = None
    if os.path.exists("found"):
        with open("found", encoding="utf-8", errors="backslashreplace") as stream:
            found = stream.readline().rstrip("\n").rpartition(":")[2] or None
    return {"found": found, "reported_rate": None}, f"hashcat {version}"


ENGINES = {"john": john, "hashcat": hashcat}


def observe(job: dict[str, Any], tools: Any) -> tuple[dict[str, Any], str]:
    """Write the word list, search, time it. Raises RuntimeError or MissingTool when it could not search."""
    with open("words", "w", encoding="ascii") as stream:
        stream.write("\n".join([word(job["seed"], index) for index in range(job["candidates"])]) + "\n")
    with open("hash", "w", encoding="ascii") as stream:
        stream.write(f"{_USER}:{job['digest']}\n")
    started = time.monotonic()
    observed, version = ENGINES[job["engine"]](job, tools)
    observed["seconds"], observed["candidates"] = time.monotonic() - started, job["candidates"]
    return observed, version


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # isolated mode leaves it out
    job = json.loads(argument)
    tools: Any = __import__("processes")
    tools.clear(job["folder"])
    os.chdir(job["folder"])
    try:
        observed, version = observe(job, tools)
    except (tools.MissingTool, RuntimeError, OSError) as error:
        print(json.dumps({"payload": "hashing", "error": str(error)}), flush=True)
        sys.exit(3)
    versions = {"engine": version, "python": sys.version.split()[0]}
    result = {"payload": "hashing", "engine": job["engine"], "observed": observed, "versions": versions}
    print(json.dumps(result, allow_nan=False), flush=True)
    tools.clear(".")


if __name__ == "__main__":
    main(sys.argv[1])
