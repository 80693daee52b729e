"""A lab description becomes a command line that QEMU builds exactly so."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.lab.machine import (
    ANYWHERE,
    can_be_kept,
    kernel_arguments,
    machine_arguments,
    monitor_argument,
    nvme_devices,
    validate,
)
from harness.model.inventory import LabDevice, LabFile, LabNode

_NODE = LabNode(cores=4, memory_mib=4608, hugepages_2m=1408)
DEFAULT = LabFile(
    name="default",
    nodes=(_NODE, _NODE),
    devices=(
        LabDevice(node=0, companion=True),
        LabDevice(node=0),
        LabDevice(node=1, companion=True),
        LabDevice(node=1),
        LabDevice(kind="virtio-rng", node=1, link_width=4),
    ),
)


def _values(arguments: tuple[str, ...], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def _devices(lab: LabFile, accelerator: str = "tcg") -> list[str]:
    return _values(machine_arguments(lab, ANYWHERE, accelerator=accelerator), "-device")


def test_every_device_names_its_bus_so_that_none_lands_on_an_expander() -> None:
    """QEMU puts a device without ``bus=`` on the first free bus, an expander among them, and refuses."""
    without = [device for device in _devices(DEFAULT) if "bus=" not in device]
    assert without == ["intel-iommu,device-iotlb=on,caching-mode=on,intremap=off"]


def test_the_default_lab_has_two_nodes_with_two_stand_ins_each() -> None:
    devices = _devices(DEFAULT)
    assert "pxb-pcie,id=pxb0,bus=pcie.0,bus_nr=0x40,numa_node=0" in devices
    assert "pxb-pcie,id=pxb1,bus=pcie.0,bus_nr=0x80,numa_node=1" in devices
    ports = {device.split(",")[1]: device.split(",")[2] for device in devices if "root-port" in device}
    assert ports == {
        "id=rp0": "bus=pxb0",
        "id=rp1": "bus=pxb0",
        "id=rp2": "bus=pxb1",
        "id=rp3": "bus=pxb1",
        "id=rp4": "bus=pxb1",
    }
    assert "edu,dma_mask=0xffffffffffff,id=dev0,bus=rp0,addr=0x0,multifunction=on" in devices
    assert "ich9-intel-hda,id=dev0f1,bus=rp0,addr=0x0.1" in devices
    assert "edu,dma_mask=0xffffffffffff,id=dev1,bus=rp1,addr=0x0" in devices
    assert sum("ich9-intel-hda" in device for device in devices) == 2


def test_processors_memory_and_distances_follow_the_nodes() -> None:
    arguments = machine_arguments(DEFAULT, ANYWHERE, accelerator="tcg")
    assert _values(arguments, "-smp") == ["8,sockets=2,cores=4,threads=1"]
    assert _values(arguments, "-m") == ["9216"]
    assert _values(arguments, "-numa") == [
        "node,nodeid=0,cpus=0-3,memdev=mem0",
        "node,nodeid=1,cpus=4-7,memdev=mem1",
        "dist,src=0,dst=1,val=21",
    ]


def test_four_nodes_share_the_bus_numbers_and_know_all_distances() -> None:
    lab = dataclasses.replace(
        DEFAULT,
        nodes=(_NODE,) * 4,
        threads_per_core=2,
        devices=tuple(LabDevice(node=node) for node in (0, 1, 2, 3, 3)),
    )
    arguments = machine_arguments(lab, ANYWHERE, accelerator="tcg")
    buses = [int(d.split("bus_nr=")[1][:4], 16) for d in _values(arguments, "-device") if "bus_nr" in d]
    assert buses == [0x40, 0x70, 0xA0, 0xD0]
    assert sum(value.startswith("dist") for value in _values(arguments, "-numa")) == 6
    assert _values(arguments, "-smp") == ["32,sockets=4,cores=4,threads=2"]


@pytest.mark.parametrize("nodes", range(1, 17))
def test_bus_ranges_of_expanders_never_overlap(nodes: int) -> None:
    lab = dataclasses.replace(DEFAULT, nodes=(LabNode(cores=1, memory_mib=512),) * nodes, devices=())
    buses = [int(device.split("bus_nr=")[1][:4], 16) for device in _devices(lab) if "bus_nr" in device]
    gaps = [later - sooner for sooner, later in zip(buses, [*buses[1:], 0x100], strict=True)]
    assert len(buses) == nodes
    assert min(gaps) >= 8


def test_nodes_of_unequal_size_become_one_package_a_core() -> None:
    lab = dataclasses.replace(
        DEFAULT,
        nodes=(LabNode(cores=2, memory_mib=1024), LabNode(cores=6, memory_mib=1024)),
        devices=(),
    )
    arguments = machine_arguments(lab, ANYWHERE, accelerator="tcg")
    assert _values(arguments, "-smp") == ["8,sockets=8,cores=1,threads=1"]
    assert "node,nodeid=1,cpus=2-7,memdev=mem1" in _values(arguments, "-numa")


def test_a_node_without_cores_has_memory_only() -> None:
    lab = dataclasses.replace(
        DEFAULT, nodes=(_NODE, LabNode(cores=0, memory_mib=1024)), devices=(LabDevice(node=0),)
    )
    numa = _values(machine_arguments(lab, ANYWHERE, accelerator="tcg"), "-numa")
    assert "node,nodeid=1,memdev=mem1" in numa


def test_a_device_of_no_known_node_sits_on_the_root_bus() -> None:
    lab = dataclasses.replace(DEFAULT, devices=(LabDevice(node=0), LabDevice(node=None)))
    port = next(device for device in _devices(lab) if "id=rp1" in device)
    assert port.startswith("pcie-root-port,id=rp1,bus=pcie.0,addr=0x10,")


def test_links_are_those_of_the_description() -> None:
    lab = dataclasses.replace(DEFAULT, devices=(LabDevice(node=0, link_speed_gts=2.5, link_width=8),))
    assert any(device.endswith("x-speed=2_5,x-width=8") for device in _devices(lab))


def test_an_nvme_is_plugged_in_later_and_only_its_port_is_on_the_command_line() -> None:
    lab = dataclasses.replace(DEFAULT, devices=(LabDevice(node=0), LabDevice(kind="nvme", node=1)))
    devices = _devices(lab)
    assert nvme_devices(lab) == (1,)
    assert any("id=rp1,bus=pxb1" in device for device in devices)
    assert not any("dev1" in device for device in devices)


@pytest.mark.parametrize(
    ("iommu", "remapping", "device", "words"),
    [
        (
            "intel",
            False,
            "intel-iommu,device-iotlb=on,caching-mode=on,intremap=off",
            "intel_iommu=on iommu=pt",
        ),
        ("intel", True, "intel-iommu,device-iotlb=on,caching-mode=on,intremap=on", "intel_iommu=on iommu=pt"),
        ("amd", False, "amd-iommu,device-iotlb=on,intremap=off", "amd_iommu=on iommu=pt"),
    ],
)
def test_the_iommu_and_the_kernel_agree(iommu: str, remapping: bool, device: str, words: str) -> None:
    lab = dataclasses.replace(DEFAULT, iommu=iommu, interrupt_remapping=remapping)
    assert device in _devices(lab)
    assert words in kernel_arguments(lab, "tcg")


def test_a_lab_without_iommu_has_none_anywhere() -> None:
    lab = dataclasses.replace(DEFAULT, iommu="none")
    assert not any("iommu" in device for device in _devices(lab))
    assert "iommu" not in kernel_arguments(lab, "tcg")


def test_the_kernel_gets_hugepages_per_node_and_the_labs_own_words_last() -> None:
    lab = dataclasses.replace(DEFAULT, kernel_arguments=("isolcpus=3",))
    line = kernel_arguments(lab, "tcg")
    assert "hugepages=0:1408,1:1408" in line
    assert line.endswith(" isolcpus=3")


def test_nested_virtualisation_is_the_descriptions_choice() -> None:
    plain = dataclasses.replace(DEFAULT, nested_virtualization=False)
    assert _values(machine_arguments(DEFAULT, ANYWHERE, accelerator="tcg"), "-cpu")[0].endswith("+svm,+npt")
    assert _values(machine_arguments(plain, ANYWHERE, accelerator="tcg"), "-cpu")[0].endswith(",-svm")
    assert _values(machine_arguments(DEFAULT, ANYWHERE, accelerator="kvm"), "-cpu") == ["host"]


def test_an_emulated_kernel_does_not_clear_memory_byte_by_byte_and_still_boots() -> None:
    """``fsrm`` without ``erms`` is no processor that there is: Debian's 6.1 never came up on it."""
    model = _values(machine_arguments(DEFAULT, ANYWHERE, accelerator="tcg"), "-cpu")[0].split(",")
    assert {"erms=off", "fsrm=off"} <= set(model)


def test_nothing_listens_but_loopback_ssh_and_a_private_socket() -> None:
    """No telnet monitor, no VNC, no port on other addresses."""
    arguments = machine_arguments(DEFAULT, ANYWHERE, accelerator="tcg")
    text = " ".join(arguments)
    assert "telnet" not in text
    assert "vnc" not in text
    assert _values(arguments, "-netdev") == ["user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"]
    assert _values(arguments, "-qmp") == [monitor_argument(Path("monitor"))]


def test_commas_in_paths_are_doubled_so_that_they_add_no_option() -> None:
    paths = dataclasses.replace(ANYWHERE, images=Path("/a,readonly=off/b"))
    fsdev = _values(machine_arguments(DEFAULT, paths, accelerator="tcg"), "-fsdev")
    assert fsdev == ["local,id=images,path=/a,,readonly=off/b,security_model=none,readonly=on"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodes": ()}, "at least one node"),
        ({"nodes": (LabNode(cores=0, memory_mib=512),)}, "at least one node with one core"),
        ({"nodes": (LabNode(cores=1, memory_mib=0),)}, "memory_mib"),
        ({"nodes": (LabNode(cores=1, memory_mib=512, hugepages_2m=300),), "devices": ()}, "hugepages_2m"),
        ({"iommu": "arm"}, "intel, amd, none"),
        ({"distance": 5}, "distance"),
        ({"devices": (LabDevice(node=2),)}, "device 0: there is no node 2"),
        ({"devices": (LabDevice(kind="gpu", node=0),)}, "kind 'gpu'"),
        ({"devices": (LabDevice(node=0, link_speed_gts=3.0),)}, "link_speed_gts"),
        ({"devices": (LabDevice(node=0, link_width=3),)}, "link_width"),
        ({"devices": (LabDevice(kind="nvme", node=0, companion=True),)}, "only edu"),
        ({"devices": (LabDevice(node=0),) * 64}, "more devices on node 0"),
    ],
)
def test_a_description_that_cannot_be_built_is_refused_in_words(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(LabError, match=words):
        validate(dataclasses.replace(DEFAULT, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(("iommu", "kept"), [("intel", True), ("none", True), ("amd", False)])
def test_only_machines_that_qemu_can_save_are_kept(iommu: str, kept: bool) -> None:
    assert can_be_kept(dataclasses.replace(DEFAULT, iommu=iommu)) is kept
