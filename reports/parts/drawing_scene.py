"""What the host drawing is made of, and how a panel lays out its cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.evidence import GuestEvidence
from harness.model.record import RunRecord
from harness.model.topology import Cpu, HostFacts, NumaNode, PciDevice

PAD = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that the drawing is made of."""

    record: RunRecord
    facts: HostFacts
    guests: tuple[GuestEvidence, ...]
    gpus: tuple[PciDevice, ...]

    @property
    def nodes(self) -> tuple[NumaNode | None, ...]:
        """Every node, and None as the place of GPUs whose node is unknown."""
        known = {node.id for node in self.facts.numa_nodes}
        lost = any(gpu.numa_node not in known for gpu in self.gpus)
        return (*self.facts.numa_nodes, *((None,) if lost else ()))

    def gpus_of(self, node: NumaNode | None) -> tuple[PciDevice, ...]:
        """GPUs on ``node``; for None those that are on no known node."""
        known = {each.id for each in self.facts.numa_nodes}
        if node is None:
            return tuple(g for g in self.gpus if g.numa_node not in known)
        return tuple(g for g in self.gpus if g.numa_node == node.id)

    def cores_of(self, node: NumaNode) -> tuple[tuple[Cpu, ...], ...]:
        """Whole cores of a node: their hardware threads together, offline CPUs alone."""
        cores: dict[tuple[int, ...], list[Cpu]] = {}
        for cpu in self.facts.cpus:
            if cpu.node == node.id:
                cores.setdefault(cpu.siblings or (cpu.id,), []).append(cpu)
        return tuple(tuple(threads) for _, threads in sorted(cores.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How one panel lays out its cores."""

    cell: float
    per_row: int
    rows: int

    @property
    def height(self) -> float:
        """Height of all rows."""
        return self.rows * (self.cell + 8)


def core_grid(cores: Sequence[Sequence[Cpu]], width: float) -> Grid:
    """The largest cells with which the cores of a panel ``width`` wide take at most four rows."""
    threads = max((len(core) for core in cores), default=1)
    for cell in (38.0, 30.0, 24.0, 19.0, 15.0, 12.0):
        per_row = max(1, int((width - 2 * PAD + 6) // (threads * cell + 10)))
        rows = -(-len(cores) // per_row) if cores else 0
        if rows <= 4:
            break
    return Grid(cell=cell, per_row=per_row, rows=rows)
