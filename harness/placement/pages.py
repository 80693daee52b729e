"""The page size that backs a guest: one for all its cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.placement.supply import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSize:
    """A page size in KiB; ``kib`` None means ordinary pages."""

    kib: int | None


def allowed_sizes(offers: Mapping[int, Offer], nodes: Mapping[int, int]) -> tuple[int | None, ...]:
    """Page sizes that may back a guest on these nodes, largest first.

    Where every node has hugepages the guest gets hugepages or nothing: falling back in silence would hide
    that they ran out. Where some node has none, the guest gets ordinary pages throughout.
    """
    if not all(offers[node].node.has_hugepages for node in nodes):
        return (None,)
    sizes = {pool.page_kib for node in nodes for pool in offers[node].node.pools if pool.page_kib is not None}
    return tuple(sorted(sizes, reverse=True))


def page_size(offers: Mapping[int, Offer], counts: Mapping[int, int]) -> PageSize | None:
    """The page size for a guest with so many GPUs on each node; None when none serves them all.

    Of the sizes that serve all nodes, the one that gives the guest least more than it asked for (a request
    is rounded up to whole pages) or, when it asked for its full share, the one that gives most; of equals the
    largest.
    """
    best: tuple[int, int | None] | None = None
    for size in allowed_sizes(offers, counts):
        if all(offers[node].limits.get(size, 0) >= count for node, count in counts.items()):
            total = sum(offers[node].memory[size] * count for node, count in counts.items())
            gain = total if all(offers[node].full_share for node in counts) else -total
            if best is None or gain > best[0]:
                best = (gain, size)
    return None if best is None else PageSize(kib=best[1])
