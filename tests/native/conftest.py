"""Payloads run as a guest runs them, with the stand-in driver library where the real one would be found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pynvml
import pytest

from harness.model.evidence import WorkloadResult
from harness.model.pci import PciAddress
from harness.vendors.nvidia.standin.model import StandinScenario, StandinSeries
from harness.workloads.base import GuestDevice, Job, Place
from harness.workloads.judge import judge
from harness.workloads.registry import workload
from tests.fakes.scripts import framed
from tests.native import fake
from tests.native.nvml import build
from tests.native.played import Play, Played
from tests.packed import packed

Perform = Callable[..., WorkloadResult]
A, B, C = "0000:01:00.0", "0000:02:00.0", "0001:03:00.0"


def gpu(address: str) -> GuestDevice:
    """An NVIDIA GPU at an address."""
    where = PciAddress.parse(address)
    return GuestDevice(address=where, vendor="10de", device="2335", host=where)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stand-in ``libcuda.so.1``."""
    if fake.compiler() is None:
        pytest.skip("no C compiler here")
    return fake.build(tmp_path_factory.mktemp("cuda"))


@dataclass
class Ran:
    """A payload's end."""

    status: int
    output: bytes
    errors: str
    job: Job


@pytest.fixture
def run(stand_in: Path) -> Callable[..., Ran]:
    """Run a workload's payload on the machine that ``said`` describes."""

    def perform(
        name: str, gpus: tuple[str, ...] = (), said: str | None = None, *, libraries: Path | None = None,
        sysroot: Path | None = None, **parameters: Any,
    ) -> Ran:  # fmt: skip
        place = Place(python=sys.executable, payload=str(packed()))
        job = Job(
            key="k1", guest="g1", tenant="run-g1", devices=tuple(map(gpu, gpus)), parameters=parameters,
            place=place,
        )  # fmt: skip
        *argv, argument = workload(name).prepare(job)
        if sysroot is not None:
            argument = json.dumps({**json.loads(argument), "sysroot": str(sysroot)})
        environment = fake.environment(libraries or stand_in, fake.machine(*gpus) if said is None else said)
        done = subprocess.run(
            [*argv, argument], capture_output=True, check=False, env=environment, timeout=60
        )
        return Ran(done.returncode, done.stdout, done.stderr.decode(), job)

    return perform


def judged(ran: Ran, name: str) -> WorkloadResult:
    """What the controller makes of it, by way of the runner's frame."""
    status = {
        "key": "k1", "state": "done", "created": False, "pid": 7, "exit": ran.status, "stopped": False,
        "started": 10.5, "ended": 12.75, "now": 13.0, "boot": "b", "stdout_bytes": len(ran.output),
        "stderr_bytes": 0, "stdout_total": len(ran.output), "stderr_total": 0,
    }  # fmt: skip
    return judge(
        workload(name),
        ran.job,
        framed("runner", {"status": json.dumps(status) + "\n", "stdout": ran.output, "stderr": b""}),
    )


def wrong(result: WorkloadResult) -> list[str]:
    """Names of the wrong answers."""
    assert result.status == "done", result.detail
    return [answer.name for answer in result.answers if not answer.ok]


@pytest.fixture
def play(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[Play]:
    """Play a scenario of these series; it ends with the test, or with the next one."""
    began: list[Played] = []

    def end() -> None:
        if began:
            began.pop().end()
            pynvml.nvmlShutdown()

    def begin(*series: StandinSeries, gpus: int = 1, **values: Any) -> Played:
        end()
        scenario = StandinScenario(name="series", series=series, **values)
        began.append(Played(build(tmp_path_factory.getbasetemp()), tmp_path, scenario, gpus))
        # By its name alone pynvml would find whichever NVML this process loaded first.
        pynvml.nvmlLib = began[-1].library
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml.nvmlInit()
        return began[-1]

    yield begin
    end()
