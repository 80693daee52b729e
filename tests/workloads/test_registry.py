"""Every workload is listed, named once, and known to the rest of the house."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import replace

import pytest

import harness.workloads
from harness.config_rules import WORKLOAD_NAMES
from harness.errors import ConfigError
from harness.images.guest import KINDS
from harness.model.pci import PciAddress
from harness.workloads.applicable import applies
from harness.workloads.base import GuestDevice, Job, settings
from harness.workloads.registry import workload

HELPERS = {
    "render_golden",
    "ssim",
    "stream_golden",
    "applicable",
    "base",
    "entries",
    "memory_patterns",
    "bcrypt",
    "files",
    "hashcat",
    "hunts",
    "judge",
    "md4",
    "md5crypt",
    "residue",
    "runs",
    "tensor_answers",
    "tensor_reference",
    "tensorflow_library",
    "transcode_clips",
    "transcode_source",
}


def test_every_module_that_is_not_a_helper_is_a_listed_workload() -> None:
    modules = {m.name for m in pkgutil.iter_modules(harness.workloads.__path__)} - HELPERS
    assert modules == {w.name for w in WORKLOADS}
    for name in modules:
        assert importlib.import_module(f"harness.workloads.{name}").WORKLOAD in WORKLOADS


def test_profiles_know_the_same_names() -> None:
    assert set(WORKLOAD_NAMES) == {w.name for w in WORKLOADS}


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=", ".join(w.name for w in WORKLOADS)):
        workload("quake")


def test_listing_workloads_does_not_import_numpy() -> None:
    import subprocess

    code = "import sys, harness.workloads; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("one", WORKLOADS, ids=lambda w: w.name)
def test_every_workload_prepares_an_isolated_command_with_its_defaults(one: object, job: Job) -> None:
    """In a guest that has what any of them needs: a stand-in accelerator and two GPUs."""
    where = [PciAddress.parse(f"0000:0{n}:00.0") for n in (2, 3)]
    pair = [GuestDevice(address=a, vendor="10de", device="2335", host=a) for a in where]
    argv = one.prepare(replace(job, devices=(*job.devices, *pair)))  # type: ignore[attr-defined]
    assert argv[:3] == ("/usr/bin/python3", "-I", "-S")
    assert argv[3].startswith("/opt/shakedown/payload/")
    assert len(argv) == 5


@pytest.mark.parametrize("one", WORKLOADS, ids=lambda w: w.name)
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
        settings(one, Job(key="k", guest="g", tenant="t", parameters=parameters))  # type: ignore[arg-type]


def test_a_whole_number_serves_where_a_fraction_is_wanted() -> None:
    given = settings(
        workload("transcode"), Job(key="k", guest="g", tenant="t", parameters={"min_psnr_db": 31})
    )
    assert given["min_psnr_db"] == 31
    assert given["width"] == 320


def test_the_device_workload_applies_only_to_guests_with_devices(job: Job) -> None:
    assert applies("device", job)
    assert not applies("device", Job(key="k", guest="g", tenant="t"))
    assert applies("hashing", Job(key="k", guest="g", tenant="t"))


IMPLIED = {"util-linux", "libstdc++6", "libgl1"}
"""Debian's own necessities, and what ffmpeg depends on (libavdevice draws by OpenGL, too)."""
BARE_ONLY = {"pocl-opencl-icd"}
"""hashcat on a processor: too heavy for a guest, so no image has its runtime."""


def test_the_image_for_gpus_holds_the_tools_that_workloads_name() -> None:
    named = {tool for one in WORKLOADS for tool in one.tools}
    assert named - IMPLIED - BARE_ONLY <= set(KINDS["nvidia"].packages)
