"""On which NUMA nodes of the host a process has its pages, summed up from ``numa_maps``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PAGES = re.compile(r" N(\d{1,5})=(\d{1,15})")
_SIZE = re.compile(r" kernelpagesize_kB=(\d{1,12})")
_NODE = re.compile(r"(\d{1,22}) MiB on node (\d{1,5})")
MOVED_SHARE = 0.01
"""Of a guest's memory that may lie elsewhere than before: what ``memory_on_node_share`` allows it anyway.
QEMU's own heap grows and shrinks by less."""


def node_pages(files: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """``numa_maps`` of each process as one line: ``pages 128 MiB on node 0, 4 MiB on node 1``."""
    found: dict[str, tuple[str, ...]] = {}
    for path, lines in files.items():
        nodes: dict[int, int] = {}
        for line in lines:
            size = _SIZE.search(line)
            for node, count in _PAGES.findall(line) if size is not None else ():
                kib = int(count) * int(size[1]) if size is not None else 0
                nodes[int(node)] = nodes.get(int(node), 0) + kib
        words = ", ".join(f"{kib // 1024} MiB on node {node}" for node, kib in sorted(nodes.items()))
        found[path] = (f"pages {words}",) if words else ()
    return found


def moved(before: str, after: str) -> bool:
    """Whether another share of the pages lies on some node than before. More of them alone is no move."""
    old, new = _shares(before), _shares(after)
    return any(abs(old.get(node, 0.0) - new.get(node, 0.0)) > MOVED_SHARE for node in {*old, *new})


def _shares(words: str) -> dict[str, float]:
    nodes = {node: int(mib) for mib, node in _NODE.findall(words)}
    whole = sum(nodes.values())
    return {node: mib / whole for node, mib in nodes.items()} if whole else {}
