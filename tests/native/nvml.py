"""The NVML stand-in, built once a session, and pynvml asked through it in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.images.standin import compile_argv
from harness.model.pci import PciAddress
from harness.vendors.nvidia.standin.model import StandinFault, StandinFaultKind, StandinScenario
from harness.vendors.nvidia.standin.scenario import scenario_text
from harness.vendors.standin import LIBRARY, sources

ADDRESSES = tuple(PciAddress(0, bus, 0, 0) for bus in (0x17, 0x65, 0x66, 0xE3))
ASKER = Path(__file__).with_name("nvml_asker.py")
_START = """
import ctypes, sys
library, count = ctypes.CDLL(sys.argv[1]), ctypes.c_uint()
print(library.nvmlInit_v2())
library.nvmlDeviceGetCount_v2(ctypes.byref(count))
library.shakedownStandinProblem.restype = ctypes.c_char_p
print(count.value, library.shakedownStandinProblem().decode(), sep="\\n")
"""


@cache
def build(folder: Path) -> Path:
    """The library, compiled into ``folder`` as the product compiles it."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here")
    library = folder / LIBRARY
    subprocess.run(compile_argv(compiler, sources(), str(library)), check=True, timeout=120)
    return library


def fault(kind: str, **values: Any) -> StandinFault:
    """A fault of the first GPU, from the start."""
    return StandinFault(kind=StandinFaultKind(kind), **{"gpu": 0, **values})


@dataclass(frozen=True)
class Machine:
    """A machine with the stand-in in place of a driver."""

    library: Path
    folder: Path

    @property
    def kmsg(self) -> Path:
        """Its kernel log."""
        return self.folder / "kmsg"

    @property
    def load(self) -> Path:
        """Its GPUs are busy while this exists (when told to heed it)."""
        return self.folder / "load"

    def scene(
        self, scenario: StandinScenario | str | bytes, gpus: int = 1, *, load_file: bool = False
    ) -> Path:
        """Lay a scenario down; a str or bytes is taken as its text."""
        text = scenario.encode() if isinstance(scenario, str) else scenario
        if isinstance(text, StandinScenario):
            load = str(self.load) if load_file else ""
            text = scenario_text(text, ADDRESSES[:gpus], kmsg=str(self.kmsg), load_file=load)
        path = self.folder / "scenario"
        path.write_bytes(text)
        return path

    def environment(self) -> dict[str, str]:
        """In which the stand-in finds its scenario."""
        return {**os.environ, "SHAKEDOWN_NVML_SCENARIO": str(self.folder / "scenario")}

    def ask(self, *steps: tuple[Any, ...], wrapper: tuple[str, ...] = ()) -> list[Any]:
        """Answers of nvmlInit and of each step (``nvml_asker.py``)."""
        timed = [list(step) if isinstance(step[0], int | float) else [0, *step] for step in steps]
        done = subprocess.run(
            (*wrapper, sys.executable, str(ASKER), str(self.library), json.dumps(timed)),
            env=self.environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        return list(json.loads(done.stdout))

    def start(self) -> tuple[int, int, str]:
        """What nvmlInit answers, how many GPUs there are, and what is wrong with the scenario."""
        done = subprocess.run(
            (sys.executable, "-I", "-S", "-c", _START, str(self.library)),
            env=self.environment(), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        code, count, problem = done.stdout.splitlines()
        return int(code), int(count), problem
