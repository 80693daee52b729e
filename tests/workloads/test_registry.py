"""Every workload is listed, named once, and known to the rest of the house."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from dataclasses import replace

import pytest

import harness.workloads
from harness.errors import ConfigError
from harness.images.kinds import KINDS
from harness.model.pci import PciAddress
from harness.workloads.applicable import applies
from harness.workloads.base import GuestDevice, Job, settings
from harness.workloads.registry import NAMES, spec, specs, workload, workloads


def test_every_folder_is_a_listed_workload_and_every_listed_one_a_folder() -> None:
    folders = {m.name for m in pkgutil.iter_modules(harness.workloads.__path__) if m.ispkg}
    assert folders == set(NAMES)
    assert list(NAMES) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_workload_is_what_its_folder_is_called(name: str) -> None:
    assert spec(name).name == name
    assert workload(name).spec is spec(name)
    for module in spec(name).jobs:
        assert callable(importlib.import_module(module).main)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=", ".join(NAMES)):
        workload("quake")


def test_listing_workloads_does_not_import_numpy() -> None:
    code = (
        "import sys; from harness.workloads.registry import workloads; workloads(); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("one", workloads(), ids=lambda w: w.spec.name)
def test_every_workload_prepares_an_isolated_command_with_its_defaults(one: object, job: Job) -> None:
    """In a guest that has what any of them needs: a stand-in accelerator and two GPUs."""
    where = [PciAddress.parse(f"0000:0{n}:00.0") for n in (2, 3)]
    pair = [GuestDevice(address=a, vendor="10de", device="2335", host=a) for a in where]
    argv = one.prepare(replace(job, devices=(*job.devices, *pair)))  # type: ignore[attr-defined]
    assert argv[:3] == ("/usr/bin/python3", "-I", "-S")
    assert argv[3:5] == ("/opt/shakedown/payload/harness/payload/start.py", one.spec.job)  # type: ignore[attr-defined]
    assert len(argv) == 6


@pytest.mark.parametrize("one", workloads(), ids=lambda w: w.spec.name)
@pytest.mark.parametrize(
    "parameters",
    [
        {"no_such": 1},
        {"seed": "one"},
        {"candidates": True},
        {"width": float("inf")},
        {"min_ssim": float("nan")},
    ],
)
def test_parameters_that_no_workload_could_take_are_refused(one: object, parameters: dict, job: Job) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError):
        settings(one.spec, Job(key="k", guest="g", tenant="t", parameters=parameters))  # type: ignore[attr-defined]


def test_a_whole_number_serves_where_a_fraction_is_wanted() -> None:
    given = settings(spec("transcode"), Job(key="k", guest="g", tenant="t", parameters={"min_psnr_db": 31}))
    assert given["min_psnr_db"] == 31
    assert given["width"] == 320


def test_the_device_workload_applies_only_to_guests_with_devices(job: Job) -> None:
    assert applies("device", job)
    assert not applies("device", Job(key="k", guest="g", tenant="t"))
    assert applies("hashing", Job(key="k", guest="g", tenant="t"))


def test_reading_the_data_of_workloads_loads_no_judge() -> None:
    """A profile is read, and help is shown, without them."""
    code = (
        "import sys; from harness.workloads.registry import specs; specs(); "
        "sys.exit(any(name.endswith('.answers') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_images_hold_the_packages_that_workloads_name() -> None:
    for one in specs():
        assert set(one.packages) <= set(KINDS["cpu"].packages) & set(KINDS["nvidia"].packages)
        assert set(one.gpu_packages) <= set(KINDS["nvidia"].packages)
        assert not set(one.gpu_packages) - set(one.packages) & set(KINDS["cpu"].packages)
