"""Captured transcripts: adding ``NAME.txt`` with the reviewed ``NAME.json`` adds a test."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness.facts import parse_transcript
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts
from harness.serial import from_json, to_data

CASES = sorted((Path(__file__).parent / "cases").glob("*.txt"))


def read(name: str) -> HostFacts:
    return parse_transcript((Path(__file__).parent / "cases" / f"{name}.txt").read_bytes())


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_captured_transcript_still_means_what_it_meant(case: Path) -> None:
    facts = parse_transcript(case.read_bytes())
    expected = json.loads(case.with_suffix(".json").read_text())
    assert to_data(facts) == expected
    assert from_json(HostFacts, case.with_suffix(".json").read_text()) == facts


def test_the_emulated_host_is_read_as_it_was_built() -> None:
    """Two nodes of four cores, two stand-ins on each, two of them with a companion function."""
    facts = read("emulated-host")
    assert [(n.id, n.cpus, n.distances) for n in facts.numa_nodes] == [
        (0, (0, 1, 2, 3), {0: 10, 1: 21}),
        (1, (4, 5, 6, 7), {0: 21, 1: 10}),
    ]
    assert all(n.hugepages[2 << 20].total == 32 for n in facts.numa_nodes)
    cards = [d for d in facts.pci_devices if d.id == "1234:11e8"]
    assert [(str(d.address), d.numa_node, d.slot_label) for d in cards] == [
        ("0000:41:00.0", 0, "1"),
        ("0000:42:00.0", 0, "2"),
        ("0000:81:00.0", 1, "3"),
        ("0000:82:00.0", 1, "4"),
    ]
    assert all(d.link is None and d.aer is None and d.reset_methods == ("bus",) for d in cards)
    group = facts.group(cards[0].iommu_group or -1)
    assert group is not None
    assert [str(a) for a in group.devices] == ["0000:41:00.0", "0000:41:00.1"]
    port = facts.device(cards[0].upstream[0])
    assert port is not None
    assert port.link is not None
    assert (port.link.speed_gts, port.link.width, port.header_type) == (16.0, 16, 1)
    assert facts.iommu.interrupt_remapping is False
    assert facts.iommu.unsafe_interrupts is True
    assert facts.domains == ()


def test_a_guest_an_offline_cpu_and_a_removed_card_are_seen() -> None:
    facts = read("emulated-host-with-guest")
    assert facts.domains is not None
    (guest,) = facts.domains
    assert (guest.name, guest.hostdevs, guest.running) == ("tenant", (PciAddress(0, 0x82, 0, 0),), True)
    assert facts.device_holders is not None
    assert {holder.pid for holder in facts.device_holders} == {guest.pid}
    held = facts.device(PciAddress(0, 0x82, 0, 0))
    assert held is not None
    assert (held.driver, held.driver_override) == ("vfio-pci", "vfio-pci")
    assert facts.device(PciAddress(0, 0x42, 0, 0)) is None
    assert facts.cpus[7].online is False
    assert facts.numa_nodes[1].cpus == (4, 5, 6)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_the_json_has_the_names_and_forms_that_others_rely_on(case: Path) -> None:
    data = to_data(parse_transcript(case.read_bytes()))
    for node in data["numa_nodes"]:
        assert node.keys() >= {"id", "cpus", "memory_bytes", "distances", "hugepages"}
        for size, pool in node["hugepages"].items():
            assert size.isdigit()
            assert pool.keys() == {"total", "free"}
    for cpu in data["cpus"]:
        assert cpu.keys() >= {"id", "online", "node", "package", "core", "siblings"}
    keys = {"address", "vendor", "device", "class", "numa_node", "iommu_group", "driver", "upstream"}
    for device in data["pci_devices"]:
        assert device.keys() >= keys | {"link", "reset_methods", "bars"}
        assert re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", device["address"])
        assert re.fullmatch(r"[0-9a-f]{4}", device["vendor"])
        assert re.fullmatch(r"[0-9a-f]{4}", device["device"])
        assert re.fullmatch(r"[0-9a-f]{6}", device["class"])
        if device["link"] is not None:
            assert device["link"].keys() == {"speed_gts", "width", "max_speed_gts", "max_width"}
