"""NUMA nodes: CPUs, memory, distances and hugepages; numbers may be sparse, nodes may lack CPUs or memory."""

from __future__ import annotations

import re

from harness.facts import ask
from harness.facts.cpu import without_offline
from harness.facts.frames import Frames
from harness.facts.notation import count, id_list, id_mask, kib
from harness.model.topology import HugepagePool, NumaNode

_NODE_NAME = re.compile(r"node(\d{1,5})")
_POOL = re.compile(r"node(\d{1,5})/hugepages/hugepages-(\d{1,12})kB/(nr_hugepages|free_hugepages)")


def read_nodes(frames: Frames) -> tuple[NumaNode, ...]:
    """Every node that the kernel has a directory for, ascending, with its online CPUs."""
    found = [(int(match[1]), path) for path, match in frames.children(ask.NODE, _NODE_NAME)]
    if not found:
        frames.warnings.append("the kernel reports no NUMA nodes: locality is unknown")
    # `distance` has one column for each online node (drivers/base/node.c: node_read_distance).
    online = id_list(frames.text(f"{ask.NODE}/online")) or tuple(number for number, _ in found)
    initiators = id_list(frames.text(f"{ask.NODE}/has_generic_initiator"))
    pools = _pools(frames)
    nodes = []
    for number, path in found:
        meminfo = frames.text(f"{path}/meminfo")
        nodes.append(
            NumaNode(
                id=number,
                cpus=_cpus(frames, path, number),
                memory_bytes=kib(meminfo, "MemTotal"),
                free_bytes=kib(meminfo, "MemFree"),
                distances=_distances(frames, path, number, online),
                hugepages=pools.get(number, {}),
                generic_initiator=None if initiators is None else number in initiators,
            )
        )
    return tuple(nodes)


def _cpus(frames: Frames, path: str, number: int) -> tuple[int, ...]:
    found = id_list(frames.text(f"{path}/cpulist"))
    if found is None:
        found = id_mask(frames.text(f"{path}/cpumap"))
    if found is None:
        frames.warnings.append(f"node {number} does not report which CPUs it has")
        return ()
    return without_offline(frames, found)


def _distances(frames: Frames, path: str, number: int, online: tuple[int, ...]) -> dict[int, int]:
    words = (frames.text(f"{path}/distance") or "").split()
    values = [value for word in words if (value := count(word)) is not None and value > 0]
    if len(values) != len(online) or len(values) != len(words):
        if words:
            frames.warnings.append(
                f"node {number} gives {len(words)} distances for {len(online)} online nodes: unknown"
            )
        return {}
    return dict(zip(online, values, strict=True))


def _pools(frames: Frames) -> dict[int, dict[int, HugepagePool]]:
    """Node to page size in bytes to pool."""
    values: dict[tuple[int, int], dict[str, int | None]] = {}
    for match, text in frames.matching(ask.NODE, _POOL):
        values.setdefault((int(match[1]), int(match[2]) * 1024), {})[match[3]] = count(text)
    pools: dict[int, dict[int, HugepagePool]] = {}
    for (node, size), pool in sorted(values.items()):
        pools.setdefault(node, {})[size] = HugepagePool(
            total=pool.get("nr_hugepages"), free=pool.get("free_hugepages")
        )
    return pools
