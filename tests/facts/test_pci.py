"""PCI functions from captured attributes: unknown stays unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.facts.assemble import assemble
from harness.facts.frames import Frames
from harness.facts.pci_config import config_reads, device_serial, header_type, vpd_serial
from harness.model.pci import PciAddress
from harness.model.topology import PciDevice

ROOT = "/sys/bus/pci/devices"


def read_one(
    attributes: dict[str, str | bytes] | None = None,
    *,
    name: str = "0000:41:00.0",
    links: dict[str, str] | None = None,
    marks: tuple[str, ...] = (),
    gone: bool = False,
) -> PciDevice:
    """The one function with these attributes (and a sane identity unless they say otherwise)."""
    values: dict[str, str | bytes] = {"vendor": "0x10de", "device": "0x2330", "class": "0x030200"}
    values.update(attributes or {})
    path = f"{ROOT}/{name}"
    frames = Frames(
        files={f"{path}/{k}": v if isinstance(v, bytes) else v.encode() for k, v in values.items()},
        links={f"{path}{k}": v for k, v in (links or {}).items()},
        listings={ROOT: (name,)},
        present={f"{path}/{mark}" for mark in marks} | (set() if gone else {path}),
    )
    return assemble(frames).pci_devices[0]


def test_an_unknown_node_is_not_node_0() -> None:
    assert read_one({"numa_node": "-1\n"}).numa_node is None
    assert read_one({}).numa_node is None
    assert read_one({"numa_node": "0\n"}).numa_node == 0


@pytest.mark.parametrize(
    ("speed", "width", "expected"),
    [
        ("16.0 GT/s PCIe\n", "16\n", (16.0, 16)),
        ("2.5 GT/s", "1", (2.5, 1)),
        ("Unknown\n", "0\n", (None, None)),
        ("Unknown speed\n", "255\n", (None, None)),
        ("64.0 GT/s PCIe", "63", (64.0, None)),
        ("fast", "wide", (None, None)),
    ],
)
def test_link_speed_and_width_are_read_or_unknown(
    speed: str, width: str, expected: tuple[float | None, int | None]
) -> None:
    link = read_one({"current_link_speed": speed, "current_link_width": width}).link
    assert link is not None
    assert (link.speed_gts, link.width) == expected
    assert (link.max_speed_gts, link.max_width) == (None, None)


def test_a_conventional_function_has_no_link() -> None:
    assert read_one().link is None


def test_upstream_ports_go_from_the_nearest_to_the_root_port() -> None:
    target = "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0/0000:42:08.0/0000:43:00.0"
    device = read_one(name="0000:43:00.0", links={"": target})
    assert [str(a) for a in device.upstream] == ["0000:42:08.0", "0000:41:00.0", "0000:40:01.0"]


def test_a_root_bus_inside_a_device_ends_the_chain_and_may_have_a_long_domain() -> None:
    target = "/sys/devices/pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0/10000:e1:00.0"
    device = read_one(name="10000:e1:00.0", links={"": target})
    assert str(device.address) == "10000:e1:00.0"
    assert device.upstream == (PciAddress(0x10000, 0xE0, 6, 0),)


def test_group_driver_and_physical_function_come_from_links() -> None:
    device = read_one(
        {"driver_override": "(null)\n"},
        links={
            "/iommu_group": "/sys/kernel/iommu_groups/15",
            "/driver": "/sys/bus/pci/drivers/vfio-pci",
            "/physfn": "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0",
        },
        name="0000:41:00.4",
    )
    assert (device.iommu_group, device.driver, device.driver_override) == (15, "vfio-pci", None)
    assert device.physfn == PciAddress(0, 0x41, 0, 0)


def test_bars_have_sizes_and_flags_and_unused_lines_are_none() -> None:
    resource = "\n".join(
        [
            "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200",
            "0x0000383800000000 0x000038481fffffff 0x000000000014220c",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x000000000000c000 0x000000000000c07f 0x0000000000040101",
            "hostile",
            "0x0000000000000000 0x0000000000000000 0x0000000000000000",
            "0x00000000fe000000 0x00000000fe07ffff 0x0000000000046200",
            "0x00000000f1000000 0x00000000f1ffffff 0x0000000000140204",
        ]
    )
    device = read_one({"resource": resource}, marks=("resource1_resize",))
    assert [(b.index, b.size, b.io, b.prefetchable, b.is_64bit, b.resizable) for b in device.bars] == [
        (0, 16 << 20, False, False, False, False),
        (1, 0x1020000000, False, True, True, True),
        (3, 128, True, False, False, False),
        (6, 512 << 10, False, True, False, False),
    ]


def test_aer_totals_are_read_where_they_are() -> None:
    text = "RxErr 1\nBadTLP 2\nTOTAL_ERR_COR 3\n"
    device = read_one({"aer_dev_correctable": text, "aer_rootport_total_err_fatal": "7\n"})
    assert device.aer is not None
    assert (device.aer.correctable, device.aer.nonfatal, device.aer.rootport_fatal) == (3, None, 7)
    assert read_one().aer is None


def test_power_reset_and_virtual_function_numbers() -> None:
    device = read_one(
        {
            "power_state": "D3cold\n",
            "d3cold_allowed": "1\n",
            "power/control": "auto\n",
            "reset_method": "flr bus\n",
            "boot_vga": "0\n",
            "sriov_totalvfs": "16\n",
            "sriov_numvfs": "0\n",
        },
        marks=("reset",),
    )
    assert (device.power_state, device.d3cold_allowed, device.power_control) == ("D3cold", True, "auto")
    assert (device.reset_methods, device.reset_file, device.boot_vga) == (("flr", "bus"), True, False)
    assert (device.sriov_totalvfs, device.sriov_numvfs) == (16, 0)
    assert read_one({"power_state": "unknown\n"}).power_state is None


def test_a_device_that_went_away_is_marked_and_says_nothing_else() -> None:
    device = read_one({"numa_node": "1"}, gone=True)
    assert device.vanished
    assert (device.vendor, device.numa_node, device.config_ok) == ("ffff", None, None)


@pytest.mark.parametrize("vendor", ["", "0x10", "10de", "0x10de\n0x1234", "<script>", "0xzzzz"])
def test_a_malformed_identity_is_unknown_and_said_so(vendor: str) -> None:
    path = f"{ROOT}/0000:41:00.0"
    frames = Frames(
        files={f"{path}/vendor": vendor.encode()}, listings={ROOT: ("0000:41:00.0",)}, present={path}
    )
    facts = assemble(frames)
    assert facts.pci_devices[0].vendor == "ffff"
    assert "0000:41:00.0 does not report its vendor" in facts.warnings


def test_names_that_are_no_addresses_are_left_out_with_a_warning() -> None:
    facts = assemble(Frames(listings={ROOT: ("../../etc", "0000:00:00.0\x1b[2J")}))
    assert facts.pci_devices == ()
    assert len([w for w in facts.warnings if "not a PCI address" in w]) == 2


def test_a_slot_is_found_for_the_card_and_for_what_lies_behind_it() -> None:
    frames = Frames(
        listings={ROOT: ("0000:41:00.0", "0000:42:00.0")},
        present={f"{ROOT}/0000:41:00.0", f"{ROOT}/0000:42:00.0"},
        links={f"{ROOT}/0000:42:00.0": "/sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0/0000:42:00.0"},
        files={"/sys/bus/pci/slots/PCIe Slot 3/address": b"0000:41:00\n"},
    )
    assert [d.slot_label for d in assemble(frames).pci_devices] == ["PCIe Slot 3", "PCIe Slot 3"]


def test_a_header_of_all_ones_is_a_lost_device_but_not_for_virtual_functions() -> None:
    assert config_reads(b"\xff" * 64, virtual=False) is False
    assert config_reads(b"\xff" * 64, virtual=True) is None
    assert config_reads(b"\xde\x10" + bytes(62), virtual=False) is True
    assert config_reads(b"", virtual=False) is None
    assert config_reads(None, virtual=False) is None


def test_header_type_leaves_out_the_multifunction_bit() -> None:
    assert header_type(bytes(14) + b"\x81") == 1
    assert header_type(b"\xff" * 64) == 0x7F


def test_the_device_serial_number_capability_is_found_behind_another() -> None:
    config = bytearray(4096)
    config[0x100:0x104] = (0x0001 | 1 << 16 | 0x148 << 20).to_bytes(4, "little")
    config[0x148:0x14C] = (0x0003 | 1 << 16).to_bytes(4, "little")
    config[0x14C:0x154] = bytes.fromhex("887766fffe443322")
    assert device_serial(bytes(config)) == "22-33-44-fe-ff-66-77-88"
    config[0x148:0x14C] = (0x0002 | 1 << 16 | 0x100 << 20).to_bytes(4, "little")
    assert device_serial(bytes(config)) is None  # a loop ends


def test_the_serial_number_of_vital_product_data() -> None:
    area = b"PN\x04H100SN\x0a1320923001"
    vpd = b"\x82\x03\x00GPU\x90" + len(area).to_bytes(2, "little") + area + b"\x78"
    assert vpd_serial(vpd) == "1320923001"
    assert vpd_serial(b"\x82\x03\x00GPU\x78") is None


@given(st.binary(max_size=600))
def test_no_bytes_make_the_configuration_readers_fail(content: bytes) -> None:
    vpd_serial(content)
    header_type(content)
    assert device_serial(content) is None or len(content) > 0x100
