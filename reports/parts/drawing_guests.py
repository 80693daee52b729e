"""The guests of the host drawing: a box each, tied to the GPUs it was given."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from harness.model.evidence import GuestEvidence
from harness.model.pci import PciAddress
from reports.parts.svg import add, guest_class, text
from reports.parts.text import size

GAP = 18.0
GUEST_HEIGHT = 62.0
_WIDEST = 260.0


def draw_guests(
    root: ET.Element,
    lines: ET.Element,
    guests: tuple[GuestEvidence, ...],
    anchors: Mapping[PciAddress, tuple[float, float]],
    *,
    top: float,
    width: float,
) -> None:
    """Draw a box for each guest at ``top`` and tie it to its GPUs' anchors: dashed while unproven, red
    where the guest found the device in another cell than planned.
    """
    count = len(guests)
    if not count:
        return
    box = min(_WIDEST, (width - GAP * (count - 1)) / count)
    left = (width - count * box - GAP * (count - 1)) / 2
    for index, guest in enumerate(guests):
        x = left + index * (box + GAP)
        group = add(root, "g")
        add(
            group,
            "rect",
            x=x,
            y=top,
            width=box,
            height=GUEST_HEIGHT,
            rx=8,
            class_=f"guest {guest_class(index)}-edge",
        )
        text(group, x + 12, top + 21, guest.name, class_="node")
        text(group, x + 12, top + 38, _guest_words(guest), class_="small")
        text(group, x + 12, top + 53, _guest_state(guest), class_="small")
        ties = [g for g in guest.plan.gpus if g.host in anchors] if guest.plan else []
        for order, planned in enumerate(ties):
            start = x + box * (order + 1) / (len(ties) + 1)
            _tie(
                lines,
                (start, top),
                anchors[planned.host],
                f"{guest_class(index)}-line {_tie_state(guest, planned.host)}",
            )


def _tie(lines: ET.Element, start: tuple[float, float], end: tuple[float, float], style: str) -> None:
    (x1, y1), (x2, y2) = start, end
    bend = max(18.0, (y1 - y2) * 0.6)
    add(
        lines,
        "path",
        d=f"M{x1:.1f},{y1:.1f} C{x1:.1f},{y1 - bend:.1f} {x2:.1f},{y2 + bend:.1f} {x2:.1f},{y2:.1f}",
        class_=style,
    )
    add(lines, "circle", cx=x2, cy=y2, r=3, class_=style)


def _tie_state(guest: GuestEvidence, gpu: PciAddress) -> str:
    """``proven`` when the guest saw the device in its planned cell, ``unproven`` or ``wrong`` else."""
    planned = next((p for p in guest.plan.gpus if p.host == gpu), None) if guest.plan else None
    if guest.observed is None or planned is None:
        return "dashed"
    seen = next((g for g in guest.observed.gpus if g.host == gpu), None)
    return "proven" if seen is not None and seen.guest_numa_node == planned.guest_cell else "wrong"


def _guest_words(guest: GuestEvidence) -> str:
    plan = guest.plan
    if plan is None:
        return "not planned"
    gpus, vcpus = len(plan.gpus), len(plan.vcpupin)
    words = (
        f"{gpus} GPU{'' if gpus == 1 else 's'}",
        f"{vcpus} vCPU{'' if vcpus == 1 else 's'}",
        size(plan.memory_mib << 20),
    )
    return " · ".join(words)


def _guest_state(guest: GuestEvidence) -> str:
    if guest.boot_seconds is not None:
        return f"reached {guest.boot_seconds:.1f} s after its start"
    return "started, never reached" if guest.started else "never started"
