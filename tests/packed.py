"""The payload as a guest has it: packed, unpacked into a folder, and started from there."""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.workloads.base import Place, started
from harness.workloads.files import payload_files


@cache
def packed() -> Path:
    """A folder that holds the packed payload, for the whole process. Tests only read it."""
    folder = Path(tempfile.mkdtemp(prefix="payload-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unpack(folder)
    return folder


def unpack(folder: Path) -> None:
    """Put the payload there."""
    for name, content in payload_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def argv(module: str, arguments: Mapping[str, Any]) -> list[str]:
    """The command line that starts a module of it, by this interpreter."""
    return list(started(Place(python=sys.executable, payload=str(packed())), module, arguments))


def job(module: str) -> str:
    """Full name of ``vram.job``."""
    workload, _, name = module.partition(".")
    return f"harness.workloads.{workload}.payload.{name}"


def code(text: str) -> list[str]:
    """The command line of a program that may import the payload."""
    return [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(packed())!r})\n{text}"]
