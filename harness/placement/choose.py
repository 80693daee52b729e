"""The best set of GPUs for a guest, by exhaustive search over sets that really differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.model.pci import PciAddress
from harness.placement.units import Gpu

LARGEST_SEARCH = 300_000
"""Candidate sets that are looked at; 16 GPUs that all differ make 12,870 at most."""

LOCAL_DISTANCE = 10
"""Distance of a NUMA node to itself (ACPI specification, SLIT)."""

Feasible = Callable[[dict[int, int]], bool]
"""Whether nodes can serve a guest that takes so many GPUs of each (host node to count)."""


class SearchTooLarge(Exception):
    """More candidate sets than ``LARGEST_SEARCH``; the planner turns it into a reason."""


@dataclass(frozen=True, slots=True)
class _Class:
    """Units that differ by address only; ``masks[k]`` is the set of its ``k`` lowest units."""

    size: int
    masks: tuple[int, ...]


def choose(
    units: tuple[tuple[Gpu, ...], ...], wanted: int, distance: Callable[[int, int], int], feasible: Feasible
) -> tuple[Gpu, ...] | None:
    """The ``wanted`` GPUs to hand out, in order of address; None when no set of whole units is feasible.

    What is best, most important first:

    1. fewest NUMA nodes, then the least sum of distances between them;
    2. fewest root complexes, then fewest switches;
    3. the rest stays most useful: groups of several GPUs go to guests that can take them whole; the GPUs
       left are near each other (least sum of NUMA distances over their pairs), then together under root
       complexes, then under switches;
    4. lowest addresses.

    Raises SearchTooLarge.
    """
    gpus = sorted((gpu for unit in units for gpu in unit), key=lambda gpu: gpu.address)
    if not 0 < wanted <= len(gpus):
        return None
    # The lowest address has the highest bit: of two sets of one size, the greater number has the lower
    # addresses.
    bit = {gpu.address: 1 << (len(gpus) - 1 - index) for index, gpu in enumerate(gpus)}
    scale = _Scale(gpus, bit, distance)
    best: tuple[tuple[int, int], tuple[int, ...]] | None = None
    best_mask = 0
    for mask, wholeness in _sets(_classes(units, bit), wanted):
        counts = scale.nodes(mask)
        span = scale.span(counts)
        if best is not None and span > best[0]:
            continue
        if not feasible(counts):
            continue
        score = (span, (*scale.spread(mask), -wholeness, *scale.rest(mask), -mask))
        if best is None or score < best:
            best, best_mask = score, mask
    return None if best is None else tuple(gpu for gpu in gpus if bit[gpu.address] & best_mask)


class _Scale:
    """Measures sets of GPUs, given as bit masks."""

    def __init__(
        self, gpus: list[Gpu], bit: dict[PciAddress, int], distance: Callable[[int, int], int]
    ) -> None:
        nodes: defaultdict[int, int] = defaultdict(int)
        roots: defaultdict[object, int] = defaultdict(int)
        switches: defaultdict[object, int] = defaultdict(int)
        for gpu in gpus:
            root, switch = gpu.place
            nodes[gpu.node] |= bit[gpu.address]
            roots[gpu.node, root] |= bit[gpu.address]
            switches[gpu.node, root, switch] |= bit[gpu.address]
        self._all = (1 << len(gpus)) - 1
        self._nodes = dict(sorted(nodes.items()))
        self._roots = tuple(roots.values())
        self._switches = tuple(switches.values())
        self._between = {
            (a, b): 2 * LOCAL_DISTANCE if a == b else distance(a, b) + distance(b, a)
            for a in nodes
            for b in nodes
        }
        self._rest_cache: dict[tuple[int, ...], int] = {}

    def nodes(self, mask: int) -> dict[int, int]:
        """GPUs of the set per NUMA node, nodes without any left out."""
        return {n: count for n, members in self._nodes.items() if (count := (mask & members).bit_count())}

    def span(self, counts: dict[int, int]) -> tuple[int, int]:
        """Number of nodes, and the sum of distances between them, both ways."""
        used = tuple(counts)
        pairs = (self._between[a, b] for i, a in enumerate(used) for b in used[i + 1 :])
        return len(used), sum(pairs)

    def spread(self, mask: int) -> tuple[int, int]:
        """Root complexes and switches that the set touches."""
        return sum(bool(mask & m) for m in self._roots), sum(bool(mask & m) for m in self._switches)

    def rest(self, mask: int) -> tuple[int, int, int]:
        """How scattered the GPUs left over are; less is better."""
        left = self._all & ~mask
        counts = tuple((left & members).bit_count() for members in self._nodes.values())
        if counts not in self._rest_cache:
            self._rest_cache[counts] = self._pair_distances(counts)
        together = (
            -sum((left & members).bit_count() ** 2 for members in places)
            for places in (self._roots, self._switches)
        )
        return (self._rest_cache[counts], *together)  # type: ignore[return-value]

    def _pair_distances(self, counts: tuple[int, ...]) -> int:
        total = 0
        numbered = list(zip(self._nodes, counts, strict=True))
        for i, (a, of_a) in enumerate(numbered):
            total += of_a * (of_a - 1) // 2 * self._between[a, a]
            total += sum(of_a * of_b * self._between[a, b] for b, of_b in numbered[i + 1 :])
        return total


def _classes(units: tuple[tuple[Gpu, ...], ...], bit: dict[PciAddress, int]) -> list[_Class]:
    alike: defaultdict[object, list[int]] = defaultdict(list)
    sizes: dict[object, int] = {}
    for unit in units:
        key: object = tuple(sorted((gpu.node, gpu.place) for gpu in unit))
        alike[key].append(sum(bit[gpu.address] for gpu in unit))
        sizes[key] = len(unit)
    classes = []
    for key, masks in alike.items():
        sums = [0]
        for mask in sorted(masks, reverse=True):
            sums.append(sums[-1] | mask)
        classes.append(_Class(sizes[key], tuple(sums)))
    return classes


def _sets(classes: list[_Class], wanted: int) -> Iterator[tuple[int, int]]:
    """Every set of ``wanted`` GPUs made of whole units, as a mask with the sum of its units' squared sizes.

    Of units that differ by address only the lowest are taken, so each kind of set appears once.
    """
    if _count(classes, wanted) > LARGEST_SEARCH:
        raise SearchTooLarge
    rest = [0]
    for kind in reversed(classes):
        rest.insert(0, rest[0] + kind.size * (len(kind.masks) - 1))

    def extend(index: int, left: int, mask: int, wholeness: int) -> Iterator[tuple[int, int]]:
        if left == 0:
            yield mask, wholeness
            return
        if left > rest[index]:
            return
        kind = classes[index]
        for taken in range(min(left // kind.size, len(kind.masks) - 1), -1, -1):
            yield from extend(
                index + 1,
                left - taken * kind.size,
                mask | kind.masks[taken],
                wholeness + taken * kind.size**2,
            )

    return extend(0, wanted, 0, 0)


def _count(classes: list[_Class], wanted: int) -> int:
    ways = [1] + [0] * wanted
    for kind in classes:
        ways = [
            sum(ways[total - k * kind.size] for k in range(len(kind.masks)) if k * kind.size <= total)
            for total in range(wanted + 1)
        ]
    return ways[wanted]
