"""Memory for the demanded guests: hugepages, counted per node and never as a global sum."""

from __future__ import annotations

from harness.checks.answers import failed, host_facts, listing, ok, seen
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.outcome import Action, CheckResult
from harness.model.topology import HostFacts

_KIB = 1 << 10
_MIB = 1 << 20


def _hugepages(case: Case, _subject: Subject) -> CheckResult:
    """What guests that live at the same time need of each node, against its free pages."""
    facts = host_facts(case)
    if not case.host.placement.use_hugepages:
        return ok("the host file does not ask for hugepages")
    pools = {node.id: node.hugepages for node in facts.numa_nodes}
    evidence = tuple(seen(case, f"numa_nodes[{node}].hugepages", pool) for node, pool in pools.items())
    if not pools:
        raise MissingEvidence("the facts list no NUMA node")
    unknown = [
        n for n, pool in pools.items() if any(p.total is None or p.free is None for p in pool.values())
    ]
    if unknown:
        raise MissingEvidence(f"the hugepage pools of node {listing(unknown)} could not be read")
    if not any(pool.total for sizes in pools.values() for pool in sizes.values()):
        return failed(
            "the host has no hugepages: guest memory would be pinned in ordinary pages, slowly and on "
            "any node",
            "add default_hugepagesz=1G hugepagesz=1G hugepages=<node>:<count>,... to the kernel command "
            "line, one term per node, and reboot",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    if not any(guest.plan is not None for guest in case.evidence.guests):
        raise MissingEvidence("no guest was planned, so the memory needed is unknown")
    short, tight = _needs(case, facts)
    if short:
        return failed(
            f"too few free hugepages: {listing(short)}",
            "release hugepages that other processes hold, or reserve more at boot: hugepages=<node>:<count> "
            "on the kernel command line (1 GiB pages fragment later)",
            Action.FIX_CONFIG,
            evidence=evidence,
        )
    least = case.evidence.host_telemetry.hugepages_free_min if case.evidence.host_telemetry else {}
    lowest = f"; fewest pages free while guests ran: {_fewest(least)}" if least else ""
    return ok(f"free before the guests: {listing(tight)}{lowest}", evidence=evidence)


def _fewest(least: dict[str, int]) -> str:
    """Of ``node/page bytes`` to pages."""
    parts = [(key.partition("/"), count) for key, count in least.items()]
    return listing([f"{count} of {_pages(size)} on node {node}" for (node, _, size), count in parts])


def _pages(size: str) -> str:
    return f"{int(size[:18]) // _KIB} KiB" if size.isdecimal() else "unknown size"


def _needs(case: Case, facts: HostFacts) -> tuple[list[str], list[str]]:
    """Where too little is free, and for each node what is needed at most of what is free."""
    short: list[str] = []
    most: dict[tuple[int, int], tuple[int, str]] = {}
    need: dict[tuple[str, int, int], int] = {}
    """Group, node and page size to bytes."""
    for guest in case.evidence.guests:
        if guest.plan is None:
            continue
        if guest.plan.hugepage_kib is None:
            short.append(f"{guest.name} was planned on ordinary pages")
            continue
        for cell in guest.plan.cells:
            key = (guest.group or guest.name, cell.host_node, guest.plan.hugepage_kib * _KIB)
            need[key] = need.get(key, 0) + cell.memory_mib * _MIB
    for (group, node_id, size), wanted in need.items():
        node = facts.node(node_id)
        pool = node.hugepages.get(size) if node is not None else None
        free = (pool.free or 0) * size if pool is not None else 0
        if free < wanted:
            short.append(f"{group} needs {wanted // _MIB} MiB on node {node_id}, {free // _MIB} MiB are free")
        said = f"{free // _MIB} MiB on node {node_id}, of which {group} needs {wanted // _MIB} MiB"
        most[node_id, size] = max(most.get((node_id, size), (0, "")), (wanted, said))
    return short, [said for _, said in most.values()]


CHECKS = (
    Check(
        id="host.hugepages",
        title="Does every node have enough free hugepages for the planned guests?",
        why="A guest cell is bound to its node; free pages on other nodes do not help.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        needs=WITH_GUESTS,
        judge=_hugepages,
    ),
)
