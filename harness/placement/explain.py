"""Every reason why no set of GPUs serves a request."""

from __future__ import annotations

from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import Reason
from harness.model.topology import HostFacts
from harness.placement.gpus import missing_listed
from harness.placement.memory import page_name
from harness.placement.pages import allowed_sizes
from harness.placement.reasons import Code, reason, unique
from harness.placement.supply import Offer
from harness.placement.units import Gpu, Inventory


def explain(
    facts: HostFacts,
    request: GuestRequest,
    policy: PlacementPolicy,
    stock: Inventory,
    offers: dict[int, Offer],
) -> tuple[Reason, ...]:
    """The reasons, those of the whole host first, then of nodes, then of single GPUs; each once."""
    unusable = {node for node, offer in offers.items() if offer.reasons}
    free = [unit for unit in stock.units if all(gpu.node not in unusable for gpu in unit)]
    usable = sum(len(unit) for unit in free)
    found: list[Reason] = []
    if usable < request.gpus:
        message = f"{request.gpus} GPUs requested; {usable} of the host's {stock.total} GPUs can be assigned"
        found.append(reason(Code.TOO_FEW_GPUS, message))
    else:
        found.extend(_group_sizes(request, [len(unit) for unit in free]))
        shortages = [
            r for node in sorted(offers) for r in _shortages(request, offers[node], _free_on(free, node))
        ]
        found.extend(shortages)
        if not found:
            message = "no page size is available on all the NUMA nodes that the guest needs"
            found.append(reason(Code.NO_COMMON_PAGE_SIZE, message))
    for address in missing_listed(facts, policy.selector):
        message = f"the host file lists {address} as a GPU, but the host has no such function"
        found.append(reason(Code.GPU_LISTED_MISSING, message))
    found.extend(r for node in sorted(offers) for r in offers[node].reasons)
    found.extend(r for refused in stock.refused for r in refused.reasons)
    return unique(tuple(found))


def _free_on(units: list[tuple[Gpu, ...]], node: int) -> int:
    """GPUs of the units that lie on the node."""
    return sum(gpu.node == node for unit in units for gpu in unit)


def _group_sizes(request: GuestRequest, sizes: list[int]) -> list[Reason]:
    reachable = {0}
    for size in sizes:
        reachable |= {total + size for total in reachable}
    if request.gpus in reachable:
        return []
    message = (
        f"no {request.gpus} GPUs can be taken without splitting an IOMMU group between guests "
        f"(free groups hold {', '.join(map(str, sorted(sizes)))} GPUs)"
    )
    return [reason(Code.GROUP_SHARED, message)]


def _shortages(request: GuestRequest, offer: Offer, free: int) -> list[Reason]:
    """Why the node cannot serve all of its free GPUs, or as many as asked."""
    node = offer.node
    if offer.reasons or not free:
        return []
    wanted = min(free, request.gpus)
    found: list[Reason] = []
    cores = len(node.free_cores)
    if cores // offer.cores < wanted:
        message = (
            f"NUMA node {node.id} has {cores} whole cores free after the guests already placed; {wanted} "
            f"GPUs need {offer.cores * wanted}"
        )
        found.append(reason(Code.CORES_TAKEN, message))
    sizes = allowed_sizes({node.id: offer}, {node.id: wanted})
    served = [size for size in sizes if size in offer.memory]
    pools = {pool.page_kib: pool for pool in node.pools}
    if all(pools[size].free_mib < offer.memory[size] * wanted for size in served):
        code = Code.HUGEPAGES_SHORT if node.has_hugepages else Code.MEMORY_SHORT
        have = ", ".join(f"{pools[size].free_mib} MiB free in {page_name(size)}" for size in sizes)
        need = min((offer.memory[size] for size in served), default=request.memory_mib_per_gpu or 0) * wanted
        asks = f"{wanted} GPUs need {need} MiB" if need else "too little for a guest"
        found.append(reason(code, f"NUMA node {node.id} has {have}; {asks}"))
    return found
