"""The identity of a GPU as a guest asks it: an isolated interpreter, pynvml from the image's folder, NVML."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.images.kinds import PYTHON_DIR
from harness.images.standin import binding_file
from harness.model.evidence import WorkloadResult
from harness.vendors.nvidia.standin.model import StandinCard, StandinScenario
from harness.workloads.base import Job, Place
from harness.workloads.registry import workload
from tests.native import nvml
from tests.native.conftest import Ran, gpu, judged, wrong
from tests.packed import packed

WHERE = str(nvml.ADDRESSES[0])


@pytest.fixture
def machine(tmp_path: Path) -> nvml.Machine:
    """One GPU, and pynvml where an image holds it."""
    found = nvml.Machine(nvml.build(tmp_path), tmp_path)
    found.scene(StandinScenario(name="test", card=StandinCard()))
    folder = tmp_path / "dist-packages"
    folder.mkdir()
    shutil.copy(binding_file(), folder)
    return found


def asked(machine: nvml.Machine, place: Place) -> WorkloadResult:
    job = Job(key="k1", guest="g1", tenant="t", devices=(gpu(WHERE),), place=place)
    environment = {**machine.environment(), "LD_LIBRARY_PATH": str(machine.folder)}
    argv = workload("device").prepare(job)
    done = subprocess.run(argv, capture_output=True, env=environment, check=False, timeout=60)
    return judged(Ran(done.returncode, done.stdout, done.stderr.decode(), job), "device")


def test_a_guest_tells_its_card_though_the_interpreter_knows_no_installed_packages(
    machine: nvml.Machine,
) -> None:
    place = Place(python=sys.executable, payload=str(packed()))
    result = asked(machine, replace(place, binding=str(machine.folder / "dist-packages")))
    assert wrong(result) == []
    assert len(result.answers) == 3
    without = asked(machine, replace(place, binding=str(machine.folder / "elsewhere")))
    assert (without.status, "pynvml is not installed" in without.detail) == ("lost", True)


def test_images_hold_pynvml_where_payloads_look() -> None:
    assert Place().binding == PYTHON_DIR
