"""The host drawn: NUMA nodes with their cores, memory and GPUs, and where each guest landed on them."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.model.evidence import GuestEvidence
from harness.model.gpu import slot_name
from harness.model.pci import PciAddress
from harness.model.record import RunRecord
from harness.model.topology import Cpu, HostFacts, NumaNode, PciDevice
from reports.parts.drawing_guests import GAP, GUEST_HEIGHT, draw_guests
from reports.parts.drawing_scene import PAD, Scene, core_grid
from reports.parts.landing import landed_bytes, landed_cpus
from reports.parts.svg import add, drawing, guest_class, text, to_text, tooltip
from reports.parts.text import number, size
from reports.parts.view import companions, gpus

WIDTH = 1120.0
_CARD_HEIGHT = 62.0
_CARD_WIDTH = 122.0
_BAR = 9.0
_CHARACTER = 6.5
"""Width of a character of class ``tiny``, in the page's own font or in any other sans-serif."""


def host_drawing(record: RunRecord) -> str:
    """The drawing as inline SVG; empty when the run never learned the host's facts."""
    if record.evidence.facts is None or not record.evidence.facts.numa_nodes:
        return ""
    guests = tuple(g for g in record.evidence.guests if g.plan is not None)
    scene = Scene(record=record, facts=record.evidence.facts, guests=guests, gpus=gpus(record))
    columns = min(len(scene.nodes), 4)
    width = (WIDTH - GAP * (columns - 1)) / columns
    rows = [scene.nodes[i : i + columns] for i in range(0, len(scene.nodes), columns)]
    heights = [max(_panel_height(scene, node, width) for node in row) for row in rows]
    below = sum(heights) + GAP * len(rows)
    guest_top = below + (44 if guests else 0)
    root = drawing(WIDTH, guest_top + (GUEST_HEIGHT + 4 if guests else 0), f"Host {record.host.name}")
    backs, lines, fronts = (add(root, "g") for _ in range(3))  # lines run over panels and under cards
    anchors: dict[PciAddress, tuple[float, float]] = {}
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        for column, node in enumerate(row):
            x = column * (width + GAP)
            add(backs, "rect", x=x, y=top, width=width, height=height, rx=10, class_="panel")
            anchors |= _panel(fronts, scene, node, (x, top, width))
        top += height + GAP
    draw_guests(root, lines, guests, anchors, top=guest_top, width=WIDTH)
    return to_text(root)


def _cards_per_row(width: float) -> int:
    return max(1, int((width - 2 * PAD + 8) // (_CARD_WIDTH + 8)))


def _panel_height(scene: Scene, node: NumaNode | None, width: float) -> float:
    cards = len(scene.gpus_of(node))
    card_rows = -(-cards // _cards_per_row(width))
    height = 54.0 + card_rows * (_CARD_HEIGHT + 8) + PAD
    if node is not None:
        height += core_grid(scene.cores_of(node), width).height + 16
        height += (_BAR + 6) * len(scene.guests) + 22
    return height


def _panel(
    parent: ET.Element, scene: Scene, node: NumaNode | None, place: tuple[float, float, float]
) -> dict[PciAddress, tuple[float, float]]:
    """Draw one node; returns where each of its GPU cards can be tied to."""
    left, top, width = place
    x, y = left + PAD, top + 24
    if node is None:
        text(parent, x, y, "Unknown NUMA node", class_="node")
        text(parent, x, y + 17, "the kernel does not report where these devices are", class_="small")
        return _cards(parent, scene, node, (x, y + 30, width))
    text(parent, x, y, f"NUMA node {node.id}", class_="node")
    text(parent, x, y + 17, _node_words(scene, node), class_="small")
    y = _cores(parent, scene, node, (x, y + 30, width))
    y = _memory(parent, scene, node, (x, y + 4, width))
    return _cards(parent, scene, node, (x, y + 8, width))


def _node_words(scene: Scene, node: NumaNode) -> str:
    cores = len(scene.cores_of(node))
    words = [f"{cores} cores, {len(node.cpus)} CPUs", size(node.memory_bytes)]
    for page, pool in sorted(node.hugepages.items()):
        if pool.total:
            words.append(f"{pool.total} pages of {size(page)}")
    others = [f"{d} to node {n}" for n, d in sorted(node.distances.items()) if n != node.id]
    if others and len(others) <= 3:
        words.append(f"distance {', '.join(others)}")
    return " · ".join(words)


def _cores(parent: ET.Element, scene: Scene, node: NumaNode, place: tuple[float, float, float]) -> float:
    x, y, width = place
    cores = scene.cores_of(node)
    grid = core_grid(cores, width)
    threads = max((len(core) for core in cores), default=1)
    step = threads * grid.cell + 10
    for index, core in enumerate(cores):
        left = x + (index % grid.per_row) * step
        top = y + (index // grid.per_row) * (grid.cell + 8)
        add(
            parent,
            "rect",
            x=left - 2,
            y=top - 2,
            width=len(core) * grid.cell + 4,
            height=grid.cell + 4,
            rx=4,
            class_="core",
        )
        for offset, cpu in enumerate(core):
            _thread(parent, scene, cpu, (left + offset * grid.cell, top, grid.cell))
    return y + grid.height


def _thread(parent: ET.Element, scene: Scene, cpu: Cpu, place: tuple[float, float, float]) -> None:
    """One hardware thread: a stripe for each guest that was given it, or grey for the host's own."""
    x, y, cell = place
    group = add(parent, "g")
    add(
        group, "rect", x=x + 1, y=y + 1, width=cell - 2, height=cell - 2, rx=2, class_=_idle_class(scene, cpu)
    )
    owners = [(i, g) for i, g in enumerate(scene.guests) if g.plan and cpu.id in g.plan.vcpupin.values()]
    stripe = (cell - 2) / max(1, len(owners))
    strayed = []
    for order, (index, guest) in enumerate(owners):
        state = "" if _came_true(guest, cpu.id) else " unproven"
        add(
            group,
            "rect",
            x=x + 1 + order * stripe,
            y=y + 1,
            width=stripe,
            height=cell - 2,
            class_=f"{guest_class(index)}{state}",
        )
    for guest in scene.guests:
        planned = guest.plan.vcpupin if guest.plan else {}
        strayed += [
            v for v, cpus in landed_cpus(guest).items() if cpu.id in cpus and planned.get(v) != cpu.id
        ]
    if strayed:
        add(group, "rect", x=x, y=y, width=cell, height=cell, rx=3, class_="stray")
    if cell >= 15:
        style = "cpu on" if owners else "cpu"
        text(group, x + cell / 2, y + cell / 2 + 3.2, str(cpu.id), class_=style, text_anchor="middle")
    tooltip(group, _thread_words(cpu, [g.name for _, g in owners], strayed))


def _idle_class(scene: Scene, cpu: Cpu) -> str:
    if cpu.online is False:
        return "offline"
    emulator = any(g.plan and cpu.id in g.plan.emulatorpin for g in scene.guests)
    return "emulator" if emulator else "idle"


def _thread_words(cpu: Cpu, owners: list[str], strayed: list[int]) -> str:
    words = [f"CPU {cpu.id}"]
    words.append(f"vCPUs of {', '.join(owners)}" if owners else "not given to any guest")
    if strayed:
        words.append("a vCPU that was planned elsewhere may run here")
    return "; ".join(words)


def _came_true(guest: GuestEvidence, cpu: int) -> bool:
    landed = landed_cpus(guest)
    planned = guest.plan.vcpupin if guest.plan else {}
    return any(pin == cpu and landed.get(vcpu) == (cpu,) for vcpu, pin in planned.items())


def _memory(parent: ET.Element, scene: Scene, node: NumaNode, place: tuple[float, float, float]) -> float:
    """A thin bar for each guest: its pages here against the node's memory, red where not planned."""
    x, y, width = place
    if not scene.guests:
        return y
    text(parent, x, y + 8, "memory", class_="small")
    y += 16
    label = _CHARACTER * max(len(guest.name) for guest in scene.guests) + 8
    left, full = x + label, width - 2 * PAD - 110 - label
    for index, guest in enumerate(scene.guests):
        planned = (
            sum(c.memory_mib << 20 for c in guest.plan.cells if c.host_node == node.id) if guest.plan else 0
        )
        found = landed_bytes(guest).get(node.id, 0)
        row = add(parent, "g")
        text(row, x, y + 8, guest.name, class_="tiny")
        add(row, "rect", x=left, y=y, width=full, height=_BAR, rx=3, class_="idle")
        total = node.memory_bytes or max(planned, found, 1)
        _bar(row, (left, y, full), min(1.0, planned / total), f"{guest_class(index)} unproven")
        expected = min(found, planned)
        _bar(row, (left, y, full), min(1.0, expected / total), guest_class(index))
        if found > planned:
            start = left + full * min(1.0, expected / total)
            _bar(row, (start, y, full), min(1.0, (found - expected) / total), "bad")
        words = size(found or planned) + ("" if found or not planned else " planned")
        text(row, left + full + 8, y + 8, words if found or planned else "–", class_="tiny")
        y += _BAR + 6
    return y + 6


def _slot_words(gpu: PciDevice) -> str:
    """Firmware gives a label (``PCIe Slot 5``) or only the number of a slot."""
    return slot_name(gpu.slot_label) if gpu.slot_label else "slot unknown"


def _bar(parent: ET.Element, place: tuple[float, float, float], share: float, style: str) -> None:
    x, y, full = place
    if share > 0:
        add(parent, "rect", x=x, y=y, width=max(2.0, full * share), height=_BAR, rx=3, class_=style)


def _cards(
    parent: ET.Element, scene: Scene, node: NumaNode | None, place: tuple[float, float, float]
) -> dict[PciAddress, tuple[float, float]]:
    x, y, width = place
    per_row = _cards_per_row(width)
    anchors = {}
    for index, gpu in enumerate(scene.gpus_of(node)):
        left = x + (index % per_row) * (_CARD_WIDTH + 8)
        top = y + (index // per_row) * (_CARD_HEIGHT + 8)
        _card(parent, scene, gpu, (left, top))
        anchors[gpu.address] = (left + _CARD_WIDTH / 2, top + _CARD_HEIGHT)
    return anchors


def _card(parent: ET.Element, scene: Scene, gpu: PciDevice, place: tuple[float, float]) -> None:
    x, y = place
    group = add(parent, "g")
    add(group, "rect", x=x, y=y, width=_CARD_WIDTH, height=_CARD_HEIGHT, rx=6, class_="card")
    owners = [
        i for i, g in enumerate(scene.guests) if g.plan and any(p.host == gpu.address for p in g.plan.gpus)
    ]
    stripe = (_CARD_HEIGHT - 8) / max(1, len(owners))
    for order, index in enumerate(owners):
        add(
            group,
            "rect",
            x=x + 4,
            y=y + 4 + order * stripe,
            width=5,
            height=stripe,
            class_=guest_class(index),
        )
    text(group, x + 15, y + 17, str(gpu.address), class_="address")
    text(group, x + 15, y + 31, _slot_words(gpu), class_="small")
    text(group, x + 15, y + 43, _link_words(scene.facts, gpu), class_="tiny")
    others = companions(scene.record, gpu.address)
    with_others = " + ." + ",.".join(str(o.function) for o in others) if others else ""
    text(group, x + 15, y + 55, f"{gpu.id}{with_others}", class_="tiny")
    serial = gpu.serial or "unknown"
    tooltip(group, f"{gpu.address}, {gpu.id}, serial {serial}, IOMMU group {gpu.iommu_group}")


def _link_words(facts: HostFacts, gpu: PciDevice) -> str:
    """The link of the card's root port: a conventional PCI card has none itself."""
    port = facts.device(gpu.upstream[-1]) if gpu.upstream else None
    link = (port.link if port else None) or gpu.link
    if link is None or link.speed_gts is None or link.width is None:
        return "link unknown"
    return f"port {number(link.speed_gts)} GT/s x{link.width}"
