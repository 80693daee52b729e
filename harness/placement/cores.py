"""Whole cores of a NUMA node: which are the host's, which are handed to guests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.model.topology import HostFacts, NumaNode


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One physical core: its online hardware threads, ascending."""

    cpus: tuple[int, ...]
    isolated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCores:
    """Cores of one node, split. ``guest`` cores all have ``threads`` hardware threads or more."""

    reserved: tuple[Core, ...]
    guest: tuple[Core, ...]
    unknown: bool = False
    """True when the siblings of some online CPU are not known: whole cores cannot be told."""


def node_cores(facts: HostFacts, node: NumaNode, *, reserved: int, threads: int) -> NodeCores:
    """Cores of ``node``: the first ``reserved`` ones stay the host's, the rest may be guests'.

    Reserved are those outside ``isolcpus`` first, then the lowest numbers: CPU 0 does the kernel's chores,
    and isolated cores were set aside for guests. Guests get isolated cores first. A core with fewer than
    ``threads`` threads online is never handed out, nor is one whose threads lie on several nodes.
    """
    cores = _online_cores(facts, node)
    if cores is None:
        return NodeCores(reserved=(), guest=(), unknown=True)
    ordered = sorted(cores, key=lambda core: (core.isolated, core.cpus))
    kept = ordered[: max(reserved, 0)]
    guest = sorted(ordered[max(reserved, 0) :], key=lambda core: (not core.isolated, core.cpus))
    return NodeCores(reserved=tuple(kept), guest=tuple(core for core in guest if len(core.cpus) >= threads))


def threads_per_core(facts: HostFacts) -> int:
    """Hardware threads of the host's usual core (the commonest count; of equals the larger), at least 1.

    One sibling taken offline must neither halve every guest nor lend it a core that it does not own whole.
    """
    counts: Counter[int] = Counter()
    for node in facts.numa_nodes:
        counts.update(len(core.cpus) for core in _online_cores(facts, node) or ())
    return max(counts, key=lambda size: (counts[size], size), default=1)


def _online_cores(facts: HostFacts, node: NumaNode) -> tuple[Core, ...] | None:
    """Cores that lie wholly on the node; None when an online CPU's siblings are unknown."""
    by_id = {cpu.id: cpu for cpu in facts.cpus}
    here = {i for i in node.cpus if (cpu := by_id.get(i)) is None or cpu.online is not False}
    if any(i not in by_id or not by_id[i].siblings for i in here):
        return None
    offline = {cpu.id for cpu in facts.cpus if cpu.online is False}
    groups: dict[int, set[int]] = {}
    for i in sorted(here):
        # Sibling lists that disagree are merged: sharing too little would be the worse mistake.
        merged = {i, *(s for s in by_id[i].siblings if s not in offline)}
        for group in {id(groups[s]): groups[s] for s in merged if s in groups}.values():
            merged |= group
        for s in merged:
            groups[s] = merged
    whole = {min(g): g for g in groups.values() if g <= here}
    return tuple(
        Core(cpus=tuple(sorted(g)), isolated=any(by_id[i].isolated for i in g))
        for _, g in sorted(whole.items())
    )
