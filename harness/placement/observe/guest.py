"""Understands ``observe/guest.sh``: PCI functions and NUMA nodes as the guest's own kernel knows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import ParseError
from harness.facts.notation import count, hex_digits, id_list, kib
from harness.model.pci import PciAddress
from harness.model.placement import GuestNode
from harness.placement.observe.scripts import GUEST
from harness.reading import reader
from harness.scripts.protocol import lines_of, read_answer

_ADDRESS = r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_PATH = re.compile(rf"({_ADDRESS}) /sys/devices/((?:[^/]+/)*)\1")
_PCI_FILE = re.compile(rf"\./({_ADDRESS})/(vendor|device|class|numa_node|local_cpulist):(.*)", re.DOTALL)
_NODE_FILE = re.compile(r"\./node(\d{1,5})/(cpulist|distance|meminfo):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFunction:
    """One PCI function inside the guest; None where its kernel does not say (``numa_node`` -1)."""

    address: PciAddress
    vendor_device: str | None
    class_code: str | None
    numa_node: int | None
    local_cpus: tuple[int, ...] | None
    port: PciAddress | None
    """The bridge right above it; None on a root bus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReading:
    """Everything one transcript says."""

    functions: dict[PciAddress, GuestFunction]
    nodes: tuple[GuestNode, ...]


@reader("the output about the guest's placement")
def parse_guest(raw: bytes, nonce: str | None = None) -> GuestReading:
    """A guest transcript as a value. Raises ParseError when it is incomplete or shows no NUMA node.

    A kernel without NUMA support has no node directory at all: such a guest cannot prove its placement.
    """
    parts = read_answer(raw, GUEST.name, nonce).contents()
    if missing := [title for title in ("pci.paths", "pci.files", "nodes") if title not in parts]:
        raise ParseError(f"the output about the guest's placement lacks its part {missing[0]!r}")
    nodes = _nodes(lines_of(parts["nodes"]))
    if not nodes:
        raise ParseError(
            "the guest's kernel reports no NUMA node", remedy="use a guest kernel built with CONFIG_NUMA"
        )
    ports = _ports(lines_of(parts["pci.paths"]))
    files: dict[PciAddress, dict[str, str]] = {}
    for line in lines_of(parts["pci.files"]):
        if (match := _PCI_FILE.fullmatch(line)) and (address := _address(match[1])):
            files.setdefault(address, {}).setdefault(match[2], match[3].strip())
    return GuestReading(
        functions={address: _function(address, files[address], ports) for address in sorted(files)},
        nodes=nodes,
    )


def _ports(lines: list[str]) -> dict[PciAddress, PciAddress]:
    found = {}
    for line in lines:
        match = _PATH.fullmatch(line)
        above = match[2].rstrip("/").rpartition("/")[2] if match else ""
        address, port = _address(match[1]) if match else None, _address(above)
        if address is not None and port is not None:
            found[address] = port
    return found


def _address(text: str) -> PciAddress | None:
    """An address; None for what is none, though it may have the form of one (``0000:00:3f.3``)."""
    try:
        return PciAddress.parse(text)
    except ValueError:
        return None


def _function(
    address: PciAddress, files: Mapping[str, str], ports: Mapping[PciAddress, PciAddress]
) -> GuestFunction:
    vendor, device = hex_digits(files.get("vendor"), 4), hex_digits(files.get("device"), 4)
    return GuestFunction(
        address=address,
        vendor_device=f"{vendor}:{device}" if vendor and device else None,
        class_code=hex_digits(files.get("class"), 6),
        numa_node=count(files.get("numa_node")),
        local_cpus=id_list(files.get("local_cpulist")),
        port=ports.get(address),
    )


def _nodes(lines: list[str]) -> tuple[GuestNode, ...]:
    files: dict[int, dict[str, list[str]]] = {}
    for line in lines:
        if match := _NODE_FILE.fullmatch(line):
            files.setdefault(int(match[1]), {}).setdefault(match[2], []).append(match[3])
    found = []
    for node in sorted(files):
        cpus = id_list(files[node].get("cpulist", ["unknown"])[0].strip())
        if cpus is None:
            raise ParseError(f"the guest's kernel does not report which CPUs node {node} has")
        distances = [count(word) for word in files[node].get("distance", [""])[0].split()]
        found.append(
            GuestNode(
                id=node,
                cpus=cpus,
                memory_bytes=kib("\n".join(files[node].get("meminfo", [])), "MemTotal"),
                distances=tuple(d for d in distances if d is not None) if None not in distances else (),
            )
        )
    return tuple(found)
