"""Domain XML: what it says, and that libvirt itself takes it."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.errors import ConfigError
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.buses import expanders, pci_hole64_kib
from harness.placement.domain.check import problems
from harness.placement.domain.definition import GuestDefinition, functions, run_key
from harness.placement.domain.read import read_domain
from harness.placement.domain.write import render
from harness.placement.planner import plan
from harness.placement.ranges import read, show
from tests.placement.hosts import GIB, HUGE_2M, GpuSpec, host, lab_like
from tests.placement.libvirtd import private_libvirtd

DEFINITION = GuestDefinition(
    name="sd-1",
    uuid="3f2b8a52-6a0e-4c1e-9c55-0f8f2f7f7a10",
    run="run-7",
    disk="/var/lib/shakedown/sd-1.qcow2",
    backing="/srv/images/cpu.qcow2",
    serial_log="/var/lib/shakedown/sd-1.log",
    fw_cfg=(("opt/shakedown/key", 'a<b>&"c'),),
)


def planned(facts: HostFacts, gpus: int) -> PlacementPlan:
    answer = plan(facts, GuestRequest(name="sd-1", gpus=gpus), PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan), answer
    return answer


def tree(facts: HostFacts, gpus: int, **changes: Any) -> ET.Element:
    return ET.fromstring(render(planned(facts, gpus), dataclasses.replace(DEFINITION, **changes), VFIO))  # noqa: S314  our own


def test_one_expander_per_cell_with_one_root_port_per_gpu() -> None:
    root = tree(lab_like(), 3)
    expander = root.findall("devices/controller[@model='pcie-expander-bus']")
    assert [(e.find("target").get("busNr"), e.findtext("target/node")) for e in expander] == [  # type: ignore[union-attr]
        ("253", "0"),
        ("251", "1"),
    ]
    ports = {
        c.get("index"): c.find("address").get("bus")  # type: ignore[union-attr]
        for c in root.findall("devices/controller[@model='pcie-root-port']")
    }
    assert ports == {"2": "0x01", "3": "0x01", "5": "0x04", "6": "0x00", "7": "0x00"}
    gpus = [
        (h.find("alias").get("name"), h.find("source/address").get("bus"), h.find("address").get("bus"))  # type: ignore[union-attr]
        for h in root.findall("devices/hostdev")
        if h.find("address").get("function") == "0x0"  # type: ignore[union-attr]
    ]
    assert gpus == [("ua-gpu0", "0xc0", "0x02"), ("ua-gpu1", "0xc1", "0x03"), ("ua-gpu2", "0xc2", "0x05")]


def test_four_gpus_on_two_cells_take_buses_253_and_250() -> None:
    """The worked example of the formula: 256 less one and two, twice."""
    assert [bus.bus_number for bus in expanders(((0, 2), (1, 2)))] == [253, 250]


@given(st.lists(st.integers(1, 16), min_size=1, max_size=12))
def test_bus_ranges_never_overlap_nor_reach_the_root_buses(counts: list[int]) -> None:
    try:
        buses = expanders(enumerate(counts))
    except ValueError:
        assert sum(counts) + len(counts) > 240
        return
    taken = [n for b in buses for n in range(b.bus_number, b.bus_number + 1 + len(b.ports))]
    assert len(taken) == len(set(taken)) == sum(counts) + len(counts)
    assert min(taken) >= 8
    assert max(taken) <= 255
    indexes = [i for b in buses for i in (b.index, *b.ports)]
    assert indexes == list(range(1, len(indexes) + 1))


def test_more_gpus_than_a_guest_has_buses_for_are_refused() -> None:
    with pytest.raises(ValueError, match="PCI buses"):
        expanders([(0, 33)])
    with pytest.raises(ValueError, match="PCI buses"):
        expanders((cell, 30) for cell in range(9))


def test_companions_sit_on_their_gpus_slot_as_further_functions() -> None:
    root = tree(lab_like(), 1)
    found = []
    for hostdev in root.findall("devices/hostdev"):
        alias, address = hostdev.find("alias"), hostdev.find("address")
        assert alias is not None
        assert address is not None
        place = (address.get("bus"), address.get("slot"), address.get("function"))
        found.append((alias.get("name"), place, address.get("multifunction")))
    assert found == [
        ("ua-gpu0", ("0x02", "0x00", "0x0"), "on"),
        ("ua-gpu0-f1", ("0x02", "0x00", "0x1"), None),
    ]
    gpu = planned(lab_like(), 1).gpus[0]
    assert [name for name, _, _ in functions(gpu)] == [name for name, _, _ in found]


def test_memory_is_strict_per_cell_and_hugepages_name_their_cells() -> None:
    root = tree(lab_like(), 4)
    assert [dict(e.attrib) for e in root.findall("numatune/memnode")] == [
        {"cellid": "0", "mode": "strict", "nodeset": "0"},
        {"cellid": "1", "mode": "strict", "nodeset": "1"},
    ]
    page = root.find("memoryBacking/hugepages/page")
    assert page is not None
    assert dict(page.attrib) == {"size": "2048", "unit": "KiB", "nodeset": "0-1"}
    assert root.find("memoryBacking/source") is not None
    ordinary = tree(lab_like(hugepages=None), 4)
    assert ordinary.find("memoryBacking/hugepages") is None
    assert ordinary.find("memoryBacking/source") is None, "a private ordinary memfd costs every page twice"


def test_unequal_cells_hold_whole_sockets() -> None:
    root = tree(host([GpuSpec(), GpuSpec(), GpuSpec(node=1), GpuSpec(node=1)], cores=9, threads=2), 3)
    topology = root.find("cpu/topology")
    assert topology is not None
    shape = {key: int(value) for key, value in topology.attrib.items()}
    assert shape == {"sockets": 3, "dies": 1, "cores": 4, "threads": 2}
    assert [c.get("cpus") for c in root.findall("cpu/numa/cell")] == ["0-15", "16-23"]


def test_big_bars_get_a_window_by_kubevirts_formula_and_small_ones_get_none() -> None:
    big = host([GpuSpec(bar_bytes=128 * GIB), GpuSpec(bar_bytes=128 * GIB)], nodes=1)
    assert pci_hole64_kib(big, planned(big, 2)) == 512 << 20, "257 GiB, rounded up to a power of two"
    small = lab_like()
    assert pci_hole64_kib(small, planned(small, 4)) is None
    root = tree(big, 2, pci_hole64_kib=512 << 20, firmware="efi")
    assert root.findtext("devices/controller[@model='pcie-root']/pcihole64") == str(512 << 20)
    arguments = [e.get("value") for e in root.iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    assert arguments == ["-fw_cfg", f"name=opt/ovmf/X-PciMmio64Mb,string={512 << 10}"]
    assert tree(big, 2).find("devices/controller/pcihole64") is None


def test_what_does_not_fit_into_40_bits_gets_the_hosts_physical_addresses() -> None:
    """QEMU's default is 40 bits: it would not start, or the firmware find no window for the last GPUs."""
    facts = lab_like()
    small = planned(facts, 1)
    cells = tuple(dataclasses.replace(cell, memory_mib=1 << 20) for cell in small.cells)
    large = dataclasses.replace(small, cells=cells)
    window = dataclasses.replace(DEFINITION, pci_hole64_kib=64 << 20)

    def mode(plan: PlacementPlan, definition: GuestDefinition) -> str | None:
        found = ET.fromstring(render(plan, definition, VFIO)).find("cpu/maxphysaddr")  # noqa: S314  our own
        return None if found is None else found.get("mode")

    assert (mode(small, DEFINITION), mode(small, window), mode(large, DEFINITION)) == (
        None,
        "passthrough",
        "passthrough",
    )


def test_the_runs_key_is_read_back_and_foreign_text_has_none() -> None:
    text = render(planned(lab_like(), 1), DEFINITION, VFIO)
    assert run_key(text) == "run-7"
    for foreign in ("", "<domain/>", "\x00", "<!DOCTYPE x [<!ENTITY a 'b'>]><domain>&a;</domain>"):
        assert run_key(foreign) is None


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a\nb"},
        {"name": "../x"},
        {"uuid": "no"},
        {"mac": "52:54:00"},
        {"disk": "relative"},
        {"cmdline": "quiet\x00"},
        {"firmware": "coreboot"},
        {"fw_cfg": (("etc/x", "1"),)},
        {"fw_cfg": (("opt/ovmf/x", "1"),)},
        {"run": "\x1b[31m"},
    ],
)
def test_what_no_domain_can_carry_is_refused_at_once(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be used in a domain"):
        dataclasses.replace(DEFINITION, **change)


def test_markup_in_values_stays_text() -> None:
    root = tree(lab_like(), 1, cmdline='a=<b> & "c"', kernel="/k", initrd="/i")
    assert root.findtext("os/cmdline") == 'a=<b> & "c"'
    entry = root.find("sysinfo/entry")
    assert entry is not None
    assert entry.text == 'a<b>&"c'


@pytest.mark.parametrize("gpus", [0, 1, 2, 3, 4])
def test_what_the_planner_and_the_renderer_make_passes_our_own_checks(gpus: int) -> None:
    for facts in (lab_like(), lab_like(hugepages=None), lab_like(threads=2, cores=8)):
        text = render(planned(facts, gpus), DEFINITION, VFIO)
        assert problems(text, facts) == ()
        assert read_domain(text).memory_kib == planned(facts, gpus).memory_mib * 1024


@given(st.sets(st.integers(0, 4096), max_size=60))
def test_number_lists_survive_being_written_and_read(numbers: set[int]) -> None:
    assert read(show(numbers)) == numbers


@given(st.text(alphabet="0123456789-,^ x", max_size=20))
def test_any_text_is_a_number_list_or_a_value_error(text: str) -> None:
    try:
        numbers = read(text)
    except ValueError:
        return
    assert all(0 <= n < 1 << 16 for n in numbers)


# libvirt's word. Without KVM for the unprivileged daemon, `kvm` and host-passthrough become their emulated
# counterparts; everything else is defined as rendered.


@pytest.fixture(scope="module")
def libvirt_connection() -> Iterator[Any]:
    try:
        with private_libvirtd() as connection:
            yield connection
    except RuntimeError as error:
        pytest.skip(f"no private libvirtd: {error}")


EMULATED = {"domain_type": "qemu", "cpu_mode": "maximum"}
CASES: dict[str, tuple[HostFacts, int, dict[str, Any]]] = {
    **{f"lab with {n}": (lab_like(), n, {}) for n in (0, 1, 2, 3, 4)},
    "ordinary pages": (lab_like(hugepages=None), 4, {}),
    "efi and a window": (
        host([GpuSpec(), GpuSpec(node=1)], cores=9, threads=2),
        2,
        {"firmware": "efi", "pci_hole64_kib": 512 << 20},
    ),
    "direct kernel boot": (lab_like(), 1, {"kernel": "/k", "initrd": "/i", "cmdline": "console=ttyS0"}),
    "sixteen GPUs on eight nodes": (
        host(
            [GpuSpec(node=i // 2) for i in range(16)], nodes=8, cores=15, threads=2, hugepages={HUGE_2M: 512}
        ),
        16,
        {},
    ),
    "more than 255 vCPUs": (host([GpuSpec(), GpuSpec(node=1)], cores=67, threads=2), 2, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_libvirt_defines_what_we_render_with_validation_on(case: str, libvirt_connection: Any) -> None:
    import libvirt

    facts, gpus, changes = CASES[case]
    answer = planned(facts, gpus)
    text = render(answer, dataclasses.replace(DEFINITION, **EMULATED, **changes), VFIO)
    domain = libvirt_connection.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        back = domain.XMLDesc(0)
    finally:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
    assert run_key(back) == "run-7", "our mark survives libvirt"
    assert problems(back, facts) == (), "and the placement, too"
    assert {h.source for h in read_domain(back).hostdevs} == set(answer.hostdevs)


def test_libvirt_takes_overlapping_buses_which_is_why_we_look(libvirt_connection: Any) -> None:
    import libvirt

    facts = lab_like()
    text = render(planned(facts, 4), dataclasses.replace(DEFINITION, **EMULATED), VFIO)
    wrong = text.replace('busNr="250"', 'busNr="252"')
    domain = libvirt_connection.defineXMLFlags(wrong, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    domain.undefine()
    assert [p.code for p in problems(wrong, facts)] == ["bus_overlap"]
