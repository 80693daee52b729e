"""Domain XML as values: only what placement is judged by. Reads our XML, libvirt's and other people's."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import ParseError, why
from harness.model.pci import PciAddress
from harness.placement.ranges import read
from harness.reading import reader

_UNITS = {
    "b": 1,
    "bytes": 1,
    "KB": 1000,
    "k": 1024,
    "KiB": 1024,
    "MB": 1000**2,
    "M": 1 << 20,
    "MiB": 1 << 20,
    "GB": 1000**3,
    "G": 1 << 30,
    "GiB": 1 << 30,
    "TB": 1000**4,
    "T": 1 << 40,
    "TiB": 1 << 40,
}
"""libvirt's memory units (formatdomain, ``<memory>``); KiB when none is said."""

LARGEST_XML = 16 << 20
"""No domain is described in more bytes than this; libvirt itself refuses buffers beyond it."""

LARGEST_DEVICES = 2048
"""A guest has 256 PCI buses; nothing real comes near this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A guest cell."""

    id: int
    vcpus: frozenset[int]
    memory_kib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """``<memory>`` or ``<memnode>`` of ``<numatune>``."""

    mode: str
    nodes: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A PCI controller: its index, what it is plugged into, and an expander's target."""

    index: int
    model: str
    parent: int | None
    bus_number: int | None
    cell: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hostdev:
    """A host function and the guest bus it is put on."""

    source: PciAddress
    guest_bus: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainView:
    """A domain, as far as placement goes. Lists keep repetitions: they are the mistakes looked for."""

    name: str
    vcpus: int
    memory_kib: int
    cells: tuple[Cell, ...]
    pins: tuple[tuple[int, frozenset[int]], ...]
    emulator: frozenset[int] | None
    memory: Binding | None
    memnodes: dict[int, Binding]
    pages: tuple[tuple[int, frozenset[int] | None], ...]
    """Page size in KiB and the cells it is for; None for all."""
    controllers: tuple[Controller, ...]
    hostdevs: tuple[Hostdev, ...]

    def page_kib(self, cell: int) -> int | None:
        """Page size that backs a cell; None for ordinary pages."""
        return next((size for size, cells in self.pages if cells is None or cell in cells), None)

    def host_nodes(self, cell: int) -> frozenset[int]:
        """Host nodes that a cell's memory is bound to; empty when it is not bound."""
        binding = self.memnodes.get(cell, self.memory)
        return frozenset() if binding is None else binding.nodes


@reader("domain XML")
def read_domain(xml: str) -> DomainView:
    """The domain that ``xml`` describes. Raises ParseError on anything that is not one."""
    if len(xml) > LARGEST_XML:
        raise ParseError(f"domain XML of {len(xml)} characters: more than {LARGEST_XML}")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ParseError("domain XML with a document type: this is not supported")
    try:
        root = ET.fromstring(xml)  # noqa: S314  entities were refused above
        if root.tag != "domain":
            raise ParseError(f"not a domain: the XML's root is {root.tag[:80]!r}")
        return _view(root)
    except (ET.ParseError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise ParseError(f"domain XML cannot be read: {why(error)}") from error


def _view(root: ET.Element) -> DomainView:
    if (count := sum(1 for _ in root.iterfind("devices/*"))) > LARGEST_DEVICES:
        raise ParseError(f"a domain with {count} devices: more than {LARGEST_DEVICES}")
    emulator = root.find("cputune/emulatorpin")
    memory = root.find("numatune/memory")
    return DomainView(
        name=root.findtext("name") or "",
        vcpus=_number(root.findtext("vcpu") or "1"),
        memory_kib=_kib(root.find("memory")),
        cells=tuple(_cells(root)),
        pins=tuple(
            (_number(pin.attrib["vcpu"]), read(pin.attrib["cpuset"]))
            for pin in root.iterfind("cputune/vcpupin")
        ),
        emulator=None if emulator is None else read(emulator.attrib["cpuset"]),
        memory=None if memory is None else _binding(memory),
        memnodes={_number(e.attrib["cellid"]): _binding(e) for e in root.iterfind("numatune/memnode")},
        pages=tuple(_pages(root)),
        controllers=tuple(_controllers(root)),
        hostdevs=tuple(_hostdevs(root)),
    )


def _cells(root: ET.Element) -> Iterator[Cell]:
    for position, element in enumerate(root.iterfind("cpu/numa/cell")):
        yield Cell(
            id=_number(element.get("id", str(position))),
            vcpus=read(element.get("cpus", "")),
            memory_kib=_number(element.get("memory", "0")) * _unit(element) // 1024,
        )


def _pages(root: ET.Element) -> Iterator[tuple[int, frozenset[int] | None]]:
    for page in root.iterfind("memoryBacking/hugepages/page"):
        nodes = page.get("nodeset")
        size = _number(page.attrib["size"]) * _unit(page) // 1024
        yield size, None if nodes is None else read(nodes)


def _controllers(root: ET.Element) -> Iterator[Controller]:
    for element in root.iterfind("devices/controller[@type='pci']"):
        target = element.find("target")
        number = None if target is None else target.get("busNr")
        node = None if target is None else target.findtext("node")
        yield Controller(
            index=_number(element.attrib["index"]),
            model=element.get("model", ""),
            parent=_bus(element.find("address")),
            bus_number=None if number is None else _number(number),
            cell=None if node is None else _number(node),
        )


def _hostdevs(root: ET.Element) -> Iterator[Hostdev]:
    for element in root.iterfind("devices/hostdev[@type='pci']"):
        source = element.find("source/address")
        if source is None:
            raise ParseError("a hostdev without a source address")
        address = PciAddress(
            _number(source.get("domain", "0")),
            _number(source.attrib["bus"]),
            _number(source.attrib["slot"]),
            _number(source.attrib["function"]),
        )
        yield Hostdev(source=address, guest_bus=_bus(element.find("address")))


def _bus(address: ET.Element | None) -> int | None:
    if address is None or address.get("type") != "pci":
        return None
    return _number(address.get("bus", "0"))


def _binding(element: ET.Element) -> Binding:
    return Binding(mode=element.get("mode", ""), nodes=read(element.get("nodeset", "")))


def _kib(element: ET.Element | None) -> int:
    return 0 if element is None else _number(element.text or "0") * _unit(element) // 1024


def _unit(element: ET.Element) -> int:
    return _UNITS[element.get("unit", "KiB")]


def _number(text: str) -> int:
    """A number as libvirt writes it: decimal or ``0x`` hexadecimal, never negative."""
    text = text.strip()
    if len(text) > 24:
        raise ValueError("a number of more than 24 digits")
    value = int(text, 16) if text.lower().startswith("0x") else int(text)
    if value < 0:
        raise ValueError(f"{text} is negative")
    return value
