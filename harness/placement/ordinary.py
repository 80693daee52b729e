"""Guests without GPUs: they live on what no GPU owns."""

from __future__ import annotations

from harness.model.guest import GuestRequest
from harness.model.placement import GuestCell, NoPlan, PlacementPlan, Reason
from harness.placement.memory import MINIMUM_MIB, Pool, page_name
from harness.placement.placed import Placed
from harness.placement.reasons import Code, reason, unique
from harness.placement.supply import NodeSupply


def plan_ordinary(
    supplies: dict[int, NodeSupply], request: GuestRequest, held: Placed
) -> PlacementPlan | NoPlan:
    """A guest without GPUs on one NUMA node, on cores and memory that are no GPU's share.

    It gets the cores asked for (one when not said) and the memory asked for (as much of the node's as its
    cores are of the node's guest cores when not said), from the node where least is left over afterwards,
    nodes without GPUs first. Shares of GPUs count as taken whether or not a guest has them.
    """
    best: tuple[tuple[bool, int, int], PlacementPlan] | None = None
    reasons: list[Reason] = []
    for node_id in sorted(supplies):
        node = supplies[node_id]
        answer = _on_node(node, request, held)
        if isinstance(answer, PlacementPlan):
            rank = (node.gpus > 0, _spare_cores(node, held), node_id)
            if best is None or rank < best[0]:
                best = (rank, answer)
        else:
            reasons.extend(answer)
    if best is not None:
        return best[1]
    if not supplies:
        reasons.append(reason(Code.NODE_MISSING, "the host lists no NUMA node"))
    return NoPlan(reasons=unique(tuple(reasons)))


def _on_node(node: NodeSupply, request: GuestRequest, held: Placed) -> PlacementPlan | list[Reason]:
    cores = -(-(request.vcpus or 1) // node.threads)
    spare = _spare_cores(node, held)
    if node.reasons:
        return list(node.reasons)
    if spare < cores:
        message = (
            f"NUMA node {node.id} has {spare} whole cores that belong to no GPU; the guest needs {cores}"
        )
        return [reason(Code.TOO_FEW_CORES, message)]
    memory = _memory(node, request, cores, held)
    if memory is None:
        left = ", ".join(
            f"{_spare_mib(node, pool, held)} MiB in {page_name(pool.page_kib)}" for pool in node.pools
        )
        wanted = request.memory_mib if request.memory_mib is not None else MINIMUM_MIB
        message = f"NUMA node {node.id} has {left} that belong to no GPU; the guest needs {wanted} MiB"
        return [reason(Code.TOO_LITTLE_MEMORY, message)]
    page_kib, mib = memory
    # From the far end of the node's cores, so that GPU shares stay together at the near end.
    taken = sorted(node.free_cores[-cores:], key=lambda core: core.cpus)
    cpus = [cpu for core in taken for cpu in core.cpus[: node.threads]]
    return PlacementPlan(
        guest=request.name,
        gpus=(),
        cells=(GuestCell(id=0, host_node=node.id, vcpus=tuple(range(len(cpus))), memory_mib=mib),),
        vcpupin=dict(enumerate(cpus)),
        emulatorpin=node.emulator_cpus,
        hugepage_kib=page_kib,
        threads_per_core=node.threads,
        distances={0: {0: 10}},
    )


def _spare_cores(node: NodeSupply, held: Placed) -> int:
    """Cores that no GPU owns less those of guests without GPUs; the cores must be free, too, once every GPU
    that is still to be placed has got its share."""
    unowned = node.guest_cores - node.share_cores * node.gpus - held.ordinary_cores[node.id]
    waiting = node.share_cores * (node.gpus - held.gpus[node.id])
    return max(min(unowned, len(node.free_cores) - waiting), 0)


def _spare_mib(node: NodeSupply, pool: Pool, held: Placed) -> int:
    """The same of memory."""
    share = pool.share(node.share_cores, node.guest_cores) if node.gpus else 0
    unowned = pool.capacity_mib - share * node.gpus - held.ordinary_mib[node.id, pool.page_kib]
    return max(min(unowned, pool.free_mib - share * (node.gpus - held.gpus[node.id])), 0)


def _memory(
    node: NodeSupply, request: GuestRequest, cores: int, held: Placed
) -> tuple[int | None, int] | None:
    """Page size in KiB and MiB, hugepages preferred; None when nothing suffices."""
    for pool in node.pools:
        share = pool.share(cores, node.guest_cores)
        need = share if request.memory_mib is None else pool.round_up(request.memory_mib)
        if MINIMUM_MIB <= need <= _spare_mib(node, pool, held):
            return pool.page_kib, need
    return None
