"""``qualify --dry-run``: what a run would change, in words, and nothing changed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.attach.bare import ATTACHMENT as BARE
from harness.attach.vfio import ATTACHMENT as VFIO
from harness.config.files import load_host, load_lab
from harness.errors import LabError
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.inventory import HostControlRef, HostFile
from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan
from harness.placement import planner
from harness.stages.dry_run import _of_guest, changes
from tests.placement import hosts
from tests.stages.stand_ins import FakeAccess, a_demand

WORK = "/var/lib/shakedown"


def of_guest(gpus: int, facts=None) -> list[str]:
    facts = facts or hosts.lab_like()
    request = GuestRequest(name=f"g-{gpus}gpu", gpus=gpus)
    answer = planner.plan(facts, request, PlacementPolicy(), VFIO)
    return _of_guest(a_demand(request.name, gpus=gpus), answer, facts, WORK, "shakedown-1234")


def test_every_function_that_a_guest_takes_is_named_with_its_driver() -> None:
    facts = hosts.with_device(hosts.lab_like(), hosts.gpu_address(0, 1), driver="snd_hda_intel")
    lines = of_guest(4, facts)
    plan = planner.plan(facts, GuestRequest(name="g-4gpu", gpus=4), PlacementPolicy(), VFIO)
    assert isinstance(plan, PlacementPlan)
    taken = [line for line in lines if line.startswith("take ")]
    assert len(taken) == len(plan.hostdevs) == 6
    assert (
        f"take {hosts.gpu_address(0, 1)} from snd_hda_intel to vfio-pci for g-4gpu, and return it"
        in "\n".join(taken)
    )
    assert f"take {hosts.gpu_address(0)} from no driver to vfio-pci" in "\n".join(taken)


def test_files_network_and_domain_are_named() -> None:
    text = "\n".join(of_guest(1))
    assert "start a transient network like shakedown-1234" in text
    assert f"write {WORK}/runs/RUN/shakedown-RUN-g-1gpu.qcow2" in text
    assert re.search(
        r"define and run domain shakedown-RUN-g-1gpu: CPUs \d.*MiB on node \d.* in pages of 2048 KiB", text
    )


def test_a_guest_that_cannot_be_placed_says_every_reason() -> None:
    (line,) = of_guest(9)
    assert line.startswith("guest g-9gpu would not be started: ")


@pytest.fixture
def here(tmp_path) -> HostFile:
    """This machine as a host that is only looked at, with an image of one's own."""
    image = tmp_path / "own.qcow2"
    image.write_bytes(b"QFI\xfb" + b"\0" * 100)
    return dataclasses.replace(
        load_host("example"),
        name="here",
        ssh=None,
        control=HostControlRef(kind="local"),
        guest_image=str(image),
        work_dir=str(tmp_path / "work"),
    )


def _tree(directory: Path) -> list[str]:
    return sorted(str(p) for p in directory.rglob("*"))


def test_a_dry_run_looks_at_a_real_machine_and_changes_nothing(here, tmp_path) -> None:
    before = _tree(tmp_path)
    lines = changes(here, (a_demand("16gpu", gpus=16),), lambda _text: None, mode=VFIO)
    assert _tree(tmp_path) == before
    assert lines[0].startswith("on here: write claims for ")
    assert any(line.startswith("copy the guest image (0 MiB)") for line in lines)
    assert any(line.startswith("guest 16gpu would not be started") for line in lines)
    assert lines[-1].startswith("release everything")


def test_guests_that_live_together_are_told_with_devices_and_cpus_of_their_own(here, monkeypatch) -> None:
    @contextmanager
    def opened(*_arguments: object, **_options: object) -> Iterator[FakeAccess]:
        yield FakeAccess()

    monkeypatch.setattr("harness.stages.dry_run.open_host", opened)
    monkeypatch.setattr("harness.facts.collect", lambda _transport, *, work_dir: (hosts.lab_like(), b""))
    pair = tuple(a_demand(f"2x2gpu-{letter}", gpus=2, group="2x2gpu") for letter in "ab")
    alone = a_demand("4gpu", gpus=4)
    lines = changes(here, (*pair, alone), lambda _text: None, mode=VFIO)
    taken = {
        name: [line.split()[1] for line in lines if line.startswith("take ") and f"for {name}," in line]
        for name in ("2x2gpu-a", "2x2gpu-b", "4gpu")
    }
    assert len(taken["4gpu"]) == 6, "it comes after them, and gets what they gave back"
    assert taken["2x2gpu-a"]
    assert taken["2x2gpu-b"]
    assert not set(taken["2x2gpu-a"]) & set(taken["2x2gpu-b"])


def test_a_card_that_is_split_is_left_alone_and_its_user_named(here, monkeypatch) -> None:
    @contextmanager
    def opened(*_arguments: object, **_options: object) -> Iterator[FakeAccess]:
        yield FakeAccess()

    card = hosts.gpu_address(0)
    part = hosts.device(PciAddress(0, card.bus, 0x10, 0), physfn=card, iommu_group=400, driver="vfio-pci")
    facts = hosts.lab_like(extra=(part,))
    monkeypatch.setattr("harness.stages.dry_run.open_host", opened)
    monkeypatch.setattr("harness.facts.collect", lambda _transport, *, work_dir: (facts, b""))
    lines = changes(here, (a_demand("4gpu", gpus=4),), lambda _text: None, mode=VFIO)
    said = f"has virtual functions in use: {part.address} is bound to vfio-pci"
    assert f"leave {card} alone, without a reset and in no guest: it {said}" in lines
    (refused,) = [line for line in lines if line.startswith("guest 4gpu would not be started")]
    assert said in refused


def test_a_bare_run_is_told_without_guests_and_needs_no_image(here, tmp_path) -> None:
    before = _tree(tmp_path)
    host = dataclasses.replace(here, guest_image=str(tmp_path / "there is none.qcow2"))
    demand = a_demand("bare", "vram", "pcie", gpus=0)
    lines = changes(host, (demand,), lambda _text: None, mode=BARE)
    assert _tree(tmp_path) == before
    assert lines[0].startswith("on here: write claims for the machine, ")
    assert f"write {tmp_path}/work/runs/RUN/bare: the loads" in lines[1]
    assert lines[2] == "run on bare metal: vram, pcie"
    assert not [line for line in lines if "domain" in line or "image" in line or "network" in line]


@pytest.mark.parametrize("kind", ["cpu", "nvidia"])
def test_an_image_that_is_not_there_yet_is_told_and_not_built(here, monkeypatch, tmp_path, kind) -> None:
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(tmp_path / "cache"))
    before = _tree(tmp_path)
    host = dataclasses.replace(here, guest_image=kind)
    lines = changes(host, (a_demand("1gpu", gpus=1),), lambda _text: None, mode=VFIO)
    assert _tree(tmp_path) == before
    (line,) = [line for line in lines if "image" in line]
    assert line.startswith(f"build the guest image {kind} on this machine (takes minutes and up to ")


def test_a_lab_that_is_not_up_is_neither_built_nor_started(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(LabError, match="lab default is not running") as caught:
        changes(load_host("lab"), (a_demand("1gpu", gpus=1),), lambda _text: None, mode=VFIO, labs=load_lab)
    assert "shakedown lab up default" in caught.value.remedy
    assert not (tmp_path / "cache").exists()
