"""A plan, or the reasons there is none, drawn for people."""

from __future__ import annotations

from typing import TextIO

from harness.model.placement import GuestCell, NoPlan, PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.memory import page_name
from harness.placement.ranges import show
from harness.shown import clean

WIDTH = 100
"""Columns used when not on a terminal."""


def draw(answer: PlacementPlan | NoPlan, facts: HostFacts, out: TextIO) -> None:
    """Print ``answer``; with colour and lines as wide as the terminal only when there is one."""
    from rich.console import Console  # noqa: PLC0415  0.1 s that --json need not pay
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=out, highlight=False, width=None if out.isatty() else WIDTH, soft_wrap=True)
    if isinstance(answer, NoPlan):
        console.print(Text(f"No plan, for {_count(len(answer.reasons), 'reason')}:", style="bold"))
        for reason in answer.reasons:
            console.print(Text(f"  {reason.code}: {_line(reason.message)}"))
        return
    host = _line(facts.hostname or "the host")
    total = f"{_count(len(answer.gpus), 'GPU')}, {len(answer.vcpupin)} vCPUs, {answer.memory_mib} MiB"
    pages = page_name(answer.hugepage_kib)
    console.print(Text(f"Guest {_line(answer.guest)} on {host}: {total} in {pages}", style="bold"))
    for cell in answer.cells:
        for line in _cell_lines(answer, cell):
            console.print(Text(line))
    console.print(Text(f"  emulator threads on CPUs {show(answer.emulatorpin)}"))
    if len(answer.cells) > 1:
        far = ", ".join(
            f"{a.id} to {b.id}: {answer.distances[a.id][b.id]}"
            for a in answer.cells
            for b in answer.cells
            if a.id < b.id
        )
        console.print(Text(f"  distances between guest cells: {far}"))


def _cell_lines(plan: PlacementPlan, cell: GuestCell) -> list[str]:
    cpus = show(plan.vcpupin[vcpu] for vcpu in cell.vcpus)
    lines = [
        f"  NUMA node {cell.host_node} -> guest cell {cell.id}",
        f"    {cell.memory_mib} MiB; vCPUs {show(cell.vcpus)} on CPUs {cpus}",
    ]
    for gpu in plan.gpus:
        if gpu.guest_cell == cell.id:
            along = f" with {', '.join(map(str, gpu.companions))}" if gpu.companions else ""
            lines.append(f"    GPU {gpu.host}{along} -> {gpu.alias}, guest bus {gpu.root_port_bus}")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _line(text: str) -> str:
    return clean(text)
