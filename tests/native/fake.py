"""Builds the stand-in driver library once a session, and gives environments in which payloads load it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.native.ptx import ROOT

SOURCE = ROOT / "tests/native/fake_cuda.c"
MIB = 1 << 20


def compiler() -> str | None:
    """A C compiler, or None."""
    return next((path for name in ("gcc", "cc") if (path := shutil.which(name))), None)


def build(folder: Path) -> Path:
    """Compile ``libcuda.so.1`` into ``folder``; returns the folder."""
    found = compiler()
    assert found is not None
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"]
    include = f"-I{ROOT / 'harness/vendors/nvidia/kernels'}"
    subprocess.run([found, *flags, include, "-o", folder / "libcuda.so.1", SOURCE], check=True)
    return folder


def machine(*addresses: str, mib: int = 8, more: str = "") -> str:
    """What FAKE_CUDA says of a machine with these GPUs: ``mib`` for us, a little for the driver."""
    return " ".join([*(f"device={a}" for a in addresses), f"total={total(mib)}", more]).strip()


def total(mib: int = 8) -> int:
    """Bytes of such a GPU."""
    return mib * MIB + mib * MIB // 32


def environment(folder: Path, said: str) -> dict[str, str]:
    """The environment of a process that finds the stand-in before any real driver."""
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "FAKE_CUDA": said}


def levers(folder: Path) -> Any:
    """The library in this process, for tests that change the machine between calls."""
    library = ctypes.CDLL(str(folder / "libcuda.so.1"))
    library.fake_set_stuck.argtypes = [ctypes.c_uint64, ctypes.c_uint, ctypes.c_uint]
    return library
