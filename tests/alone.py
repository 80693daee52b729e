"""Python in a process of its own, where a test can really close descriptors, fork, and change the rest."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]

_BEFORE = """
import fcntl, os, signal, sys, threading, time
from pathlib import Path
from harness.errors import *

def close_all():
    os.closerange(3, 65536)

def take_numbers(path, count=40):
    "What a test does that opens files of its own: it gets the numbers that were closed."
    return [os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND) for _ in range(count)]

def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.02)

def in_a_fork(function):
    "The status of a child that did this and ended without anything else."
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def alone(code: str, *arguments: object, cwd: Path = ROOT, seconds: float = 60) -> str:
    """What ``code`` prints; it fails the test when it raises or hangs. ``sys.argv[1:]`` are the arguments."""
    done = subprocess.run(
        (sys.executable, "-c", _BEFORE + textwrap.dedent(code), *(str(a) for a in arguments)),
        cwd=cwd,
        env=None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
