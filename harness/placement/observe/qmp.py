"""What QEMU says of its own guest: the QMP commands to ask, and how to understand the answers.

Every command only reads. ``ask`` puts them; the answers, kept as ``{command: answer}``, are the transcript.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AliasPath, BaseModel, Field

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.reading import reader
from harness.serial import from_data, strict_json

T = TypeVar("T")


def command(execute: str, **arguments: str) -> str:
    """One QMP command as JSON text."""
    body: dict[str, Any] = {"execute": execute}
    return json.dumps({**body, "arguments": arguments} if arguments else body)


def monitor(line: str) -> str:
    """A command of QEMU's human monitor, for the two things that QMP itself does not tell."""
    return command("human-monitor-command", **{"command-line": line})


CPUS = command("query-cpus-fast")
MEMDEVS = command("query-memdev")
PCI = command("query-pci")
DEVICES = command("qom-list", path="/machine/peripheral")
STATUS = command("query-status")
MEMORY_TREE = monitor("info mtree -f")

QUERIES = (CPUS, MEMDEVS, PCI, DEVICES, STATUS, MEMORY_TREE)
"""What is asked first; ``follow_ups`` depends on the answers."""

_RANGE = re.compile(
    r"^\s*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:nv-)?ram\): (\S+)(?: @([0-9a-f]{16}))?(?: KVM)?\s*$"
)
_TRANSLATED = re.compile(r"Host virtual address for 0x([0-9a-f]+) \((.+)\) is 0x([0-9a-f]{1,16})\s*")


Whole = Annotated[int, Field(ge=0)]
Id16 = Annotated[int, Field(ge=0, le=0xFFFF)]


class Vcpu(BaseModel):
    """A vCPU's thread on the host and its guest cell (None where QEMU does not say)."""

    index: Whole = Field(alias="cpu-index")
    tid: Whole = Field(alias="thread-id")
    cell: Whole | None = Field(default=None, validation_alias=AliasPath("props", "node-id"))


class Memdev(BaseModel):
    """A RAM backend."""

    id: str
    size: Whole
    policy: str
    host_nodes: tuple[Whole, ...] = Field(alias="host-nodes")
    address: int | None = None
    """Where it begins in QEMU's own memory, None where QEMU does not say. It does so elsewhere."""


class _Device(BaseModel):
    bus: Whole
    slot: Whole
    function: Whole
    qdev_id: str
    vendor: Id16 = Field(validation_alias=AliasPath("id", "vendor"))
    device: Id16 = Field(validation_alias=AliasPath("id", "device"))
    behind: tuple[_Device, ...] = Field(default=(), validation_alias=AliasPath("pci_bridge", "devices"))

    @property
    def address(self) -> PciAddress:
        """QMP does not name a PCI domain: QEMU's x86 machines have one."""
        return PciAddress(0, self.bus, self.slot, self.function)


class _Bus(BaseModel):
    devices: tuple[_Device, ...]


class _Child(BaseModel):
    name: str
    type: str


class _Status(BaseModel):
    status: str


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
        hostdevs = _hostdev_ids(answers)
        places = _memory_places(_answer(answers, MEMORY_TREE, str))
    except ParseError:
        return ()
    return (
        *(_host_of(device) for device in hostdevs),
        *(monitor(f"gpa2hva {guest:#x}") for guest, _ in places.values()),
    )


@reader("QEMU's answer")
def parse_qmp(answers: Mapping[str, str]) -> QmpReading:
    """The answers as a value. Raises ParseError when one that is always given is absent or misshapen."""
    buses = _answer(answers, PCI, tuple[_Bus, ...])
    return QmpReading(
        vcpus=_answer(answers, CPUS, tuple[Vcpu, ...]),
        memdevs=_memdevs(answers),
        functions=tuple(f for bus in buses for f in _functions(bus.devices)),
        hostdevs={i: _host_address(answers, i) for i in _hostdev_ids(answers)},
        state=_answer(answers, STATUS, _Status).status[:40] if STATUS in answers else None,
    )


def _answer(answers: Mapping[str, str], query: str, kind: type[T]) -> T:
    if query not in answers:
        raise ParseError(f"QEMU was not asked {query}")
    try:
        data = strict_json(answers[query])
    except ValueError as error:
        raise ParseError(f"QEMU's answer to {query} is not JSON") from error
    if not isinstance(data, dict) or "return" not in data:
        raise ParseError(f"QEMU refused {query}: {str(data)[:200]}")
    return from_data(kind, data["return"], source=f"QEMU's answer to {query}")


def _memdevs(answers: Mapping[str, str]) -> tuple[Memdev, ...]:
    places = _memory_places(_answer(answers, MEMORY_TREE, str)) if MEMORY_TREE in answers else {}
    return tuple(
        memdev.model_copy(update={"address": _address(answers, memdev.id, places)})
        for memdev in _answer(answers, MEMDEVS, tuple[Memdev, ...])
    )


def _address(answers: Mapping[str, str], name: str, places: Mapping[str, tuple[int, int]]) -> int | None:
    if name not in places:
        return None
    guest, offset = places[name]
    query = monitor(f"gpa2hva {guest:#x}")
    if query not in answers:
        return None
    match = _TRANSLATED.fullmatch(_answer(answers, query, str).strip())
    if match is None or int(match[1], 16) != guest or _block_name(match[2]) != name:
        return None
    return int(match[3], 16) - offset


def _memory_places(tree: str) -> dict[str, tuple[int, int]]:
    """RAM block to (guest-physical address, offset in the block) of its first range in system memory."""
    found: dict[str, tuple[int, int]] = {}
    in_system = False
    for line in tree.splitlines():
        if line.startswith("FlatView"):
            in_system = False
        elif line.strip().startswith('AS "memory"'):
            in_system = True
        elif in_system and (match := _RANGE.match(line)):
            found.setdefault(_block_name(match[3]), (int(match[1], 16), int(match[4] or "0", 16)))
    return found


def _block_name(name: str) -> str:
    return name.removeprefix("/objects/")


def _functions(devices: Iterable[_Device], port: _Device | None = None, depth: int = 0) -> Iterator[Function]:
    if depth > 32:
        raise ParseError("QEMU's PCI tree is deeper than PCI allows")
    for device in devices:
        yield Function(
            id=device.qdev_id,
            address=device.address,
            vendor_device=f"{device.vendor:04x}:{device.device:04x}",
            port_id=None if port is None else port.qdev_id,
            port_address=None if port is None else port.address,
        )
        yield from _functions(device.behind, device, depth + 1)


def _hostdev_ids(answers: Mapping[str, str]) -> tuple[str, ...]:
    children = _answer(answers, DEVICES, tuple[_Child, ...])
    return tuple(child.name for child in children if child.type.startswith("child<vfio-pci"))


def _host_of(device: str) -> str:
    return command("qom-get", path=f"/machine/peripheral/{device}", property="host")


def _host_address(answers: Mapping[str, str], device: str) -> PciAddress | None:
    query = _host_of(device)
    if query not in answers or '"error"' in answers[query]:
        return None
    return _answer(answers, query, PciAddress)
