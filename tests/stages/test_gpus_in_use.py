"""GPUs that a process of the host has open are not taken from NVIDIA's driver: that would hang the host."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.config.files import load_host, load_profile
from harness.errors import ParseError, ProvisionError
from harness.model.topology import PciDevice
from harness.stages.boundary import Stopped
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.guest.group import guest_site
from harness.stages.host.gpus_in_use import SCRIPT, asked_of, refuse_held
from harness.vendors.nvidia.names import NAMES as NVIDIA
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport
from tests.fakes.scripts import answering, really
from tests.placement import hosts
from tests.stages.stand_ins import RUN, FakeAccess, FakeLease, a_recorder, evidence, quiet

FREE = hosts.lab_like().pci_devices[0]
HELD = dataclasses.replace(FREE, driver="nvidia")
ADDRESS = str(HELD.address)


def ask(*rows: str, gpu: PciDevice = HELD, blind: bool = False) -> FakeHost:
    host = FakeHost()
    frames = {**({"blind": ""} if blind else {}), "held": "\n".join(rows)}
    host.on("gpus-in-use", answering("gpus-in-use", frames))
    refuse_held(FakeTransport(host), (gpu,))
    return host


def test_a_gpu_in_use_is_refused_with_who_uses_it_and_how_to_free_it() -> None:
    with pytest.raises(ProvisionError, match="can hang it") as caught:
        ask(f"{ADDRESS}\t/dev/nvidia3\t812\tnvidia-persiste")
    said = f"nvidia-persiste (pid 812) has {ADDRESS} open as /dev/nvidia3"
    assert said in caught.value.message
    assert f"driverctl set-override {ADDRESS} vfio-pci" in caught.value.remedy


def test_where_processes_cannot_be_seen_nothing_is_taken() -> None:
    with pytest.raises(ProvisionError, match="cannot see whether a process"):
        ask(blind=True)


def test_a_gpu_that_nobody_uses_may_be_taken() -> None:
    assert len(ask().calls) == 1


@pytest.mark.parametrize("driver", [None, "vfio-pci", "nouveau"])
def test_drivers_that_let_go_are_not_asked_about(driver) -> None:
    assert ask(blind=True, gpu=dataclasses.replace(FREE, driver=driver)).calls == []


@pytest.mark.parametrize("row", ["held", "0000:ff:00.0\t/dev/nvidia0\t1\tx", "other\tx"])
def test_a_row_that_says_something_else_is_an_error(row: str) -> None:
    with pytest.raises(ParseError):
        ask(row)


@pytest.mark.parametrize(
    ("node", "minor", "found"),
    [
        ("/dev/nvidia3", "Device Minor: \t 3\n", True),
        ("/dev/dri/renderD128", "Device Minor: \t 3\n", True),
        ("/dev/nvidia33", "Device Minor: \t 3\n", False),
        ("/dev/nvidiactl", "Device Minor: \t 3\n", False),
        ("/dev/nvidia0", "Device Minor: \t 3\n", False),
        ("/dev/nvidia0", "", True),
        ("/dev/nvidiactl", "", False),
    ],
)
def test_the_real_script_finds_who_has_the_gpus_own_nodes_open(
    tmp_path: Path, node: str, minor: str, found: bool
) -> None:
    information = tmp_path / "driver" / "nvidia" / "gpus" / ADDRESS / "information"
    information.parent.mkdir(parents=True)
    information.write_text(f"Model: \t\t NVIDIA H200\nIRQ:   \t\t 0\n{minor}GPU Excluded:\t No\n")
    (tmp_path / "devices" / ADDRESS / "drm" / "renderD128").mkdir(parents=True)
    (tmp_path / "12" / "fd").mkdir(parents=True)
    (tmp_path / "12" / "comm").write_text("nv\t-host\nengine\n")
    (tmp_path / "12" / "fd" / "9").symlink_to(node)
    places = {"/sys/bus/pci/devices": str(tmp_path / "devices"), "/proc/": f"{tmp_path}/"}
    words = asked_of(ADDRESS, NVIDIA)
    told = words[1].replace("/proc/", f"{tmp_path}/")
    rows = really(SCRIPT, ADDRESS, told, words[2], changes=places).rows("held")
    assert [row[2:] for row in rows] == ([("12", "nv-hostengine")] if found else [])


def test_a_run_with_a_gpu_in_use_ends_before_its_reset_and_its_guests(tmp_path: Path) -> None:
    access = FakeAccess()
    held = f"{ADDRESS}\t/dev/nvidia0\t9\tnv-hostengine\n"
    access.host.on("gpus-in-use", answering("gpus-in-use", {"held": held}))
    recorder = a_recorder(tmp_path / "runs")
    context = RunContext(
        run=RUN,
        recorder=recorder,
        host=load_host("example"),
        profile=load_profile("smoke"),
        demands=(),
        clock=FakeClock(),
        progress=quiet(),
    )
    host = ClaimedHost(
        context=context,
        access=access,  # type: ignore[arg-type]
        facts=hosts.lab_like(),
        gpus=(HELD,),
        lease=FakeLease(),  # type: ignore[arg-type]
    )
    with pytest.raises(Stopped), guest_site(host):
        pytest.fail("it was prepared for guests")
    assert [label for _, label in access.host.calls] == ["gpus-in-use"]
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind) == ("readiness", "ProvisionError")
    recorder.close()


class NoLibvirt(FakeHypervisor):
    """libvirt that is not installed, or does not answer."""

    def version(self) -> str:
        raise ProvisionError("libvirt does not answer", remedy="start libvirtd")


def test_a_host_without_libvirt_is_told_before_anything_is_reset_or_an_image_built(tmp_path: Path) -> None:
    access = FakeAccess(libvirt=NoLibvirt())
    access.host.on("gpus-in-use", answering("gpus-in-use", {"held": ""}))
    recorder = a_recorder(tmp_path / "runs")
    context = RunContext(
        run=RUN,
        recorder=recorder,
        host=load_host("example"),
        profile=load_profile("smoke"),
        demands=(),
        clock=FakeClock(),
        progress=quiet(),
    )
    host = ClaimedHost(
        context=context,
        access=access,  # type: ignore[arg-type]
        facts=hosts.lab_like(),
        gpus=(HELD,),
        lease=FakeLease(),  # type: ignore[arg-type]
    )
    with pytest.raises(Stopped), guest_site(host):
        pytest.fail("it was prepared for guests")
    assert [label for _, label in access.host.calls] == ["gpus-in-use"]
    (error,) = evidence(recorder).errors
    assert (error.stage, error.remedy) == ("readiness", "start libvirtd")
    recorder.close()
