"""Password recovery in the guest: hashes are given, their passwords must be found.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.hashing``. Prints one line of strict
JSON: what was observed. Words come from a seed; which of them is a password, only the controller knows. A
hash that stays uncracked is an observation, not an error. Exit status 3: it could not be tried here; 4: the
demanded GPU does not work. john is here, hashcat in ``hashcat.py``.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import sys
import time

from harness.payload import processes as tools
from harness.workloads.hashing.payload.words import word

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_RATE = re.compile(r" ([0-9]+(?:\.[0-9]+)?)([KMGT]?)c/s ")
_SCALE = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_USER = "guest"


class BrokenEngine(Exception):
    """The tool is here, and the demanded GPU does not work with it: exit status 4."""


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


def john(job: dict[str, Any]) -> tuple[dict[str, Any], str]:
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


def by_john(job: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """Write the word list, search, time it. Raises RuntimeError or MissingTool when it could not search."""
    with open("words", "w", encoding="ascii") as stream:
        stream.write("\n".join([word(job["seed"], index) for index in range(job["candidates"])]) + "\n")
    with open("hash", "w", encoding="ascii") as stream:
        stream.write(f"{_USER}:{job['digest']}\n")
    started = time.monotonic()
    observed, version = john(job)
    observed["seconds"], observed["candidates"] = time.monotonic() - started, job["candidates"]
    return observed, "john", version


def observe(job: dict[str, Any]) -> tuple[dict[str, Any], str, str]:
    """What was seen, the engine, and the tool's version; by the tool that was asked for and no other."""
    if job["tool"] == "john":
        return by_john(job)
    from harness.workloads.hashing.payload import hashcat as beside

    try:
        seen: tuple[dict[str, Any], str, str] = beside.observe(job)
    except beside.BrokenEngine as error:
        if job["engine"] == "gpu":
            raise BrokenEngine(str(error)) from error
        raise RuntimeError(str(error)) from error
    return seen


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    tools.clear(job["folder"])
    os.chdir(job["folder"])
    try:
        observed, engine, version = observe(job)
    except (tools.MissingTool, BrokenEngine, RuntimeError, OSError) as error:
        print(json.dumps({"payload": "hashing", "error": str(error)[-3000:]}), flush=True)
        sys.exit(4 if isinstance(error, BrokenEngine) else 3)
    versions = {"engine": version, "python": sys.version.split()[0]}
    result = {"payload": "hashing", "engine": engine, "observed": observed, "versions": versions}
    print(json.dumps(result, allow_nan=False), flush=True)
    os.chdir(job["folder"])
    tools.clear(".")
