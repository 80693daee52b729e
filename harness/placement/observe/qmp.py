"""What QEMU says of its own guest: the QMP commands to ask, and how to understand the answers.

Every command only reads. ``ask`` puts them; the answers, kept as ``{command: answer}``, are the transcript.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ParseError, why
from harness.model.pci import PciAddress
from harness.reading import reader
from harness.serial import strict_json


def command(execute: str, **arguments: str) -> str:
    """One QMP command as JSON text."""
    body: dict[str, Any] = {"execute": execute}
    return json.dumps({**body, "arguments": arguments} if arguments else body)


def monitor(line: str) -> str:
    """A command of QEMU's human monitor, for the two things that QMP itself does not tell."""
    return command("human-monitor-command", **{"command-line": line})


CPUS = command("query-cpus-fast")
IOTHREADS = command("query-iothreads")
MEMDEVS = command("query-memdev")
PCI = command("query-pci")
DEVICES = command("qom-list", path="/machine/peripheral")
STATUS = command("query-status")
MEMORY_TREE = monitor("info mtree -f")

QUERIES = (CPUS, IOTHREADS, MEMDEVS, PCI, DEVICES, STATUS, MEMORY_TREE)
"""What is asked first; ``follow_ups`` depends on the answers."""

_RANGE = re.compile(
    r"^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?ram\): (\S+)(?: @([0-9a-f]{16}))?(?: KVM)?\s*$"
)
_TRANSLATED = re.compile(r"Host virtual address for 0x([0-9a-f]+) \((.+)\) is 0x([0-9a-f]{1,16})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vcpu:
    """A vCPU's thread on the host and its guest cell (None where QEMU does not say)."""

    index: int
    tid: int
    cell: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memdev:
    """A RAM backend. ``address`` is where it begins in QEMU's own memory, None where QEMU does not say."""

    id: str
    size: int
    policy: str
    host_nodes: tuple[int, ...]
    address: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A PCI function of the guest by its QEMU id, and the bridge above it."""

    id: str
    address: PciAddress
    vendor_device: str
    port_id: str | None
    port_address: PciAddress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QmpReading:
    """Everything the answers say."""

    vcpus: tuple[Vcpu, ...]
    iothreads: dict[int, str]
    """Thread to name."""
    memdevs: tuple[Memdev, ...]
    functions: tuple[Function, ...]
    hostdevs: dict[str, PciAddress | None]
    """QEMU id of each VFIO device to its address on the host; None where QEMU would not say."""
    state: str | None = None
    """``running``, ``paused`` ...; None for a transcript in which that was not asked."""


def ask(qmp: Callable[[str], str]) -> dict[str, str]:
    """Put every question through ``qmp`` (one JSON command in, its answer out) and keep the answers."""
    answers = {query: qmp(query) for query in QUERIES}
    answers.update({query: qmp(query) for query in follow_ups(answers)})
    return answers


def follow_ups(answers: Mapping[str, str]) -> tuple[str, ...]:
    """Second questions: where each VFIO device is on the host, and where each RAM block begins.

    Answers that cannot be read lead to no further question; ``parse_qmp`` will say what is wrong.
    """
    try:
        hostdevs = _hostdev_ids(_answer(answers, DEVICES))
        places = _memory_places(_answer(answers, MEMORY_TREE))
    except ParseError:
        return ()
    return (
        *(_host_of(device) for device in hostdevs),
        *(monitor(f"gpa2hva {guest:#x}") for guest, _ in places.values()),
    )


@reader("QEMU's answer")
def parse_qmp(answers: Mapping[str, str]) -> QmpReading:
    """The answers as a value. Raises ParseError when one that is always given is absent or misshapen."""
    try:
        return QmpReading(
            vcpus=tuple(_vcpu(item) for item in _answer(answers, CPUS)),
            iothreads={int(item["thread-id"]): str(item["id"]) for item in _answer(answers, IOTHREADS)},
            memdevs=_memdevs(answers),
            functions=tuple(f for bus in _answer(answers, PCI) for f in _functions(bus["devices"], None, 0)),
            hostdevs={i: _host_address(answers, i) for i in _hostdev_ids(_answer(answers, DEVICES))},
            state=str(_answer(answers, STATUS)["status"])[:40] if STATUS in answers else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ParseError(f"QEMU's answer is not in the expected form: {why(error)}"[:300]) from error


def _answer(answers: Mapping[str, str], query: str) -> Any:
    if query not in answers:
        raise ParseError(f"QEMU was not asked {query}")
    try:
        data = strict_json(answers[query])
    except ValueError as error:
        raise ParseError(f"QEMU's answer to {query} is not JSON") from error
    if not isinstance(data, dict) or "return" not in data:
        raise ParseError(f"QEMU refused {query}: {str(data)[:200]}")
    return data["return"]


def _vcpu(item: dict[str, Any]) -> Vcpu:
    cell = item.get("props", {}).get("node-id")
    return Vcpu(
        index=int(item["cpu-index"]), tid=int(item["thread-id"]), cell=None if cell is None else int(cell)
    )


def _memdevs(answers: Mapping[str, str]) -> tuple[Memdev, ...]:
    tree = _answer(answers, MEMORY_TREE) if MEMORY_TREE in answers else ""
    places = _memory_places(tree)
    found = []
    for item in _answer(answers, MEMDEVS):
        name = str(item["id"])
        found.append(
            Memdev(
                id=name,
                size=int(item["size"]),
                policy=str(item["policy"]),
                host_nodes=tuple(int(node) for node in item["host-nodes"]),
                address=_address(answers, name, places),
            )
        )
    return tuple(found)


def _address(answers: Mapping[str, str], name: str, places: Mapping[str, tuple[int, int]]) -> int | None:
    if name not in places:
        return None
    guest, offset = places[name]
    query = monitor(f"gpa2hva {guest:#x}")
    if query not in answers:
        return None
    match = _TRANSLATED.fullmatch(str(_answer(answers, query)).strip())
    if match is None or int(match[1], 16) != guest or _block_name(match[2]) != name:
        return None
    return int(match[3], 16) - offset


def _memory_places(tree: Any) -> dict[str, tuple[int, int]]:
    """RAM block to (guest-physical address, offset in the block) of its first range in system memory."""
    found: dict[str, tuple[int, int]] = {}
    in_system = False
    for line in str(tree).splitlines():
        if line.startswith("FlatView"):
            in_system = False
        elif line.strip().startswith('AS "memory"'):
            in_system = True
        elif in_system and (match := _RANGE.match(line)):
            found.setdefault(_block_name(match[3]), (int(match[1], 16), int(match[4] or "0", 16)))
    return found


def _block_name(name: str) -> str:
    return name.removeprefix("/objects/")


def _functions(devices: list[dict[str, Any]], port: dict[str, Any] | None, depth: int) -> list[Function]:
    if depth > 32:
        raise ParseError("QEMU's PCI tree is deeper than PCI allows")
    found = []
    for item in devices:
        identity = item["id"]
        found.append(
            Function(
                id=str(item["qdev_id"]),
                address=_guest_address(item),
                vendor_device=f"{int(identity['vendor']):04x}:{int(identity['device']):04x}",
                port_id=None if port is None else str(port["qdev_id"]),
                port_address=None if port is None else _guest_address(port),
            )
        )
        found.extend(_functions(item.get("pci_bridge", {}).get("devices", []), item, depth + 1))
    return found


def _guest_address(item: dict[str, Any]) -> PciAddress:
    # QMP does not name a PCI domain: QEMU's x86 machines have one.
    return PciAddress(0, int(item["bus"]), int(item["slot"]), int(item["function"]))


def _hostdev_ids(listing: Any) -> tuple[str, ...]:
    if not isinstance(listing, list) or not all(isinstance(item, dict) for item in listing):
        raise ParseError("QEMU's list of devices is not in the expected form")
    kinds = [(str(item.get("name")), str(item.get("type"))) for item in listing]
    return tuple(name for name, kind in kinds if kind.startswith("child<vfio-pci"))


def _host_of(device: str) -> str:
    return command("qom-get", path=f"/machine/peripheral/{device}", property="host")


def _host_address(answers: Mapping[str, str], device: str) -> PciAddress | None:
    query = _host_of(device)
    if query not in answers or '"error"' in answers[query]:
        return None
    return PciAddress.parse(_answer(answers, query))
