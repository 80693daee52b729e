"""The NVML stand-in with a time that the caller turns: an hour of readings in a second, without waiting.

    played = Played(build(folder), folder, scenario, gpus=8)
    values = played.record(("power", "temperature"), seconds=3600)     # [rows, GPUs, readings], 10 a second
    played.end()

Each GPU begins cold and idle at second 0 and lives on by what is recorded; a second ``record`` goes on where
the first one ended. Any call of pynvml, or a reader of the payload's ``sampler_reads.py``, can be made in
between (``turn`` moves the time on): they answer as of that second. Where a call would fail there is NaN. The
same scenario and seed give the same values.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pynvml

from harness.model.pci import PciAddress
from harness.vendors.nvidia.standin.model import StandinScenario, StandinSeries
from harness.vendors.nvidia.standin.scenario import scenario_text

_SCENARIO = "SHAKEDOWN_NVML_SCENARIO"


class Played:
    """One library of this process, playing one scenario; only one at a time."""

    def __init__(self, library: Path, folder: Path, scenario: StandinScenario, gpus: int = 1) -> None:
        path = folder / "played.scenario"
        addresses = [PciAddress(0, n + 1, 0, 0) for n in range(gpus)]
        path.write_bytes(scenario_text(scenario, addresses, kmsg=str(folder / "played.kmsg")))
        self.library = ctypes.CDLL(str(library))
        self.gpus = gpus
        self.library.shakedownStandinProblem.restype = ctypes.c_char_p
        self.turn(0.0)
        before = os.environ.get(_SCENARIO)
        os.environ[_SCENARIO] = str(path)
        code = self.library.nvmlInit_v2()
        os.environ.pop(_SCENARIO)
        if before is not None:
            os.environ[_SCENARIO] = before
        if code:
            raise ValueError(f"nvmlInit: {code}: {self.library.shakedownStandinProblem().decode()}")

    def turn(self, seconds: float) -> None:
        """Move the time on to that second of the scenario; never back."""
        if self.library.shakedownStandinSetTime(ctypes.c_double(seconds)):
            raise ValueError(f"the time cannot be turned to {seconds}")

    def record(self, readings: Sequence[str], seconds: float, step: float = 0.1) -> npt.NDArray[np.float64]:
        """``[rows, GPUs, readings]`` for so many seconds from now on, in our units.

        The names are those of ``READINGS`` of the scenario, texts excepted; values are
        as fine as NVML tells them.
        """
        rows = round(seconds / step)
        out = np.empty((rows, self.gpus, len(readings)))
        code = self.library.shakedownStandinRecord(
            " ".join(readings).encode(), ctypes.c_double(step), ctypes.c_uint(rows),
            out.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        if code:
            raise ValueError(f"cannot be recorded: {readings}")
        return out

    def end(self) -> None:
        """As a driver that is unloaded: the next one begins anew."""
        self.library.nvmlShutdown()


Play = Callable[..., Played]
"""What the fixture ``play`` gives: series of a scenario, ``gpus``, and other values of it."""


def series(reading: str, *points: tuple[float, Any], **values: Any) -> StandinSeries:
    return StandinSeries(reading=reading, points=points, **values)


def call(name: str, *arguments: Any, pick: Any = None) -> Callable[[Any], Any]:
    def ask(gpu: Any) -> Any:
        found = getattr(pynvml, "nvmlDeviceGet" + name)(gpu, *arguments)
        return found if pick is None else found[pick] if isinstance(pick, int) else getattr(found, pick)

    return ask


def asked(ask: Callable[[Any], Any], gpu: Any) -> Any:
    """None where the card does not offer it."""
    try:
        return ask(gpu)
    except (pynvml.NVMLError, AssertionError):
        return None
