"""Memory that guests may have of a node, per page size: capacity, what is left, and a GPU's share."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.guest import PlacementPolicy
from harness.model.topology import HugepagePool, NumaNode

MIB = 1 << 20
MINIMUM_MIB = 64
"""Less than this boots no kernel with an initramfs: a plan for it would be a promise nobody can keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Memory of one node in pages of one size; ``page_kib`` None means ordinary pages."""

    page_kib: int | None
    capacity_mib: int
    """What all guests of ours could have together."""
    free_mib: int
    """What is left of it beside the guests already placed."""

    def round_down(self, mib: int) -> int:
        """The largest multiple of the page size up to ``mib``."""
        page = self.page_mib
        return mib // page * page

    def round_up(self, mib: int) -> int:
        """The smallest multiple of the page size from ``mib``."""
        page = self.page_mib
        return -(-mib // page) * page

    @property
    def page_mib(self) -> int:
        """Page size in MiB; ordinary memory is dealt out by the MiB."""
        return 1 if self.page_kib is None else self.page_kib // 1024

    def share(self, cores: int, of: int) -> int:
        """MiB that go with ``cores`` of the node's ``of`` guest cores, in whole pages."""
        return self.round_down(self.capacity_mib * cores // of) if of > 0 else 0


def pools(
    node: NumaNode, policy: PlacementPolicy, *, running: dict[int | None, int], placed: dict[int | None, int]
) -> tuple[Pool, ...]:
    """The node's pools, largest pages first, ordinary memory last.

    ``running`` and ``placed`` are MiB by page size of guests that already run (their pages are no longer
    free in the facts) and of guests only planned. A pool whose free pages are unknown counts as empty; one
    that the host does not have is left out.
    """
    found = [
        _huge(page_kib, pool, running.get(page_kib, 0), placed.get(page_kib, 0))
        for page_kib, pool in _sizes(node)
        if policy.use_hugepages and pool.total
    ]
    set_aside = sum(max(size, 0) * max(p.total or 0, 0) for size, p in node.hugepages.items())
    capacity = (max((node.memory_bytes or 0) - set_aside, 0)) // MIB - policy.reserved_memory_mib_per_node
    used = running.get(None, 0) + placed.get(None, 0)
    capacity = max(capacity, 0)
    found.append(Pool(page_kib=None, capacity_mib=capacity, free_mib=max(capacity - used, 0)))
    return tuple(found)


def _sizes(node: NumaNode) -> list[tuple[int, HugepagePool]]:
    """The node's pools by page size in KiB, largest first; memory is dealt out by the MiB, so in no smaller
    ones. x86 has 1 GiB and 2 MiB, Arm with 64 KiB pages also 512 MiB."""
    sizes = sorted((size for size in node.hugepages if size > 0 and size % MIB == 0), reverse=True)
    return [(size // 1024, node.hugepages[size]) for size in sizes]


def _huge(page_kib: int, pool: HugepagePool, running: int, placed: int) -> Pool:
    free = max(pool.free or 0, 0) * page_kib // 1024
    return Pool(page_kib=page_kib, capacity_mib=free + running, free_mib=max(free - placed, 0))


def page_name(page_kib: int | None) -> str:
    """``1 GiB pages``, ``2 MiB pages`` or ``ordinary pages``."""
    if page_kib is None:
        return "ordinary pages"
    return f"{page_kib >> 20} GiB pages" if page_kib >= 1 << 20 else f"{page_kib >> 10} MiB pages"
