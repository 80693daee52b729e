"""The planner: which GPUs, cores and memory a guest gets on a host, or every reason why it gets none."""

from __future__ import annotations

from collections import Counter

from harness.model.attachment import Attachment
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import GuestCell, NoPlan, PlacementPlan, PlannedGpu, Reason
from harness.model.topology import HostFacts
from harness.placement.buses import BUSES, expanders
from harness.placement.choose import LARGEST_SEARCH, SearchTooLarge, choose
from harness.placement.domain.write import ARCHITECTURE
from harness.placement.explain import explain
from harness.placement.memory import MINIMUM_MIB
from harness.placement.ordinary import plan_ordinary
from harness.placement.pages import page_size
from harness.placement.placed import Placed, placed
from harness.placement.reasons import Code, reason, unique
from harness.placement.supply import NodeSupply, Offer, offer, survey
from harness.placement.units import Gpu, Inventory, take_stock

MAX_GPUS = BUSES
"""No guest has more PCI buses than this, so no request for more GPUs makes sense."""

UNKNOWN_DISTANCE = 255
"""How far nodes count as being when the host does not say (SLIT: unreachable), for the choice only."""

REMOTE_DISTANCE = 20
"""What a guest is told in that case: Linux's default for remote nodes (``REMOTE_DISTANCE``)."""


def plan(
    facts: HostFacts,
    request: GuestRequest,
    policy: PlacementPolicy,
    mode: Attachment,
    given: tuple[PlacementPlan, ...] = (),
) -> PlacementPlan | NoPlan:
    """Place one guest beside those ``given``, or say every reason why that cannot be.

    ``mode`` says which devices there are, what goes with each, and what forbids handing one over.

    Pure: the same facts give the same plan. Each GPU owns the floor of (its node's cores less the reserved)
    by (GPUs there), whole cores, and the same part of the node's memory. How GPUs are chosen is said at
    ``harness.placement.choose.choose``.
    """
    if facts.architecture not in (None, ARCHITECTURE):
        message = f"the host is {facts.architecture}: guests are made for {ARCHITECTURE} (q35) only"
        return NoPlan(reasons=(reason(Code.ARCHITECTURE_UNSUPPORTED, message),))
    held = placed(facts, given)
    wrong = (*_request_reasons(request, policy, held), *held.reasons)
    if wrong:
        return NoPlan(reasons=unique(wrong))
    stock = take_stock(facts, policy.selector, held, mode)
    supplies = survey(facts, policy, stock.per_node, held)
    if request.gpus == 0:
        return plan_ordinary(supplies, request, held)
    return _plan_gpus(facts, request, policy, stock, supplies)


def _plan_gpus(
    facts: HostFacts,
    request: GuestRequest,
    policy: PlacementPolicy,
    stock: Inventory,
    supplies: dict[int, NodeSupply],
) -> PlacementPlan | NoPlan:
    offers = {node: offer(supplies[node], request) for node in stock.per_node if node in supplies}

    def feasible(counts: dict[int, int]) -> bool:
        return page_size(offers, counts) is not None

    usable = tuple(
        unit for unit in stock.units if all(g.node in offers and not offers[g.node].reasons for g in unit)
    )
    try:
        chosen = choose(usable, request.gpus, lambda a, b: _distance(facts, a, b), feasible)
    except SearchTooLarge:
        message = f"more than {LARGEST_SEARCH} different sets of {request.gpus} GPUs: too many to compare"
        return NoPlan(reasons=(reason(Code.SEARCH_TOO_LARGE, message),))
    if chosen is None:
        return NoPlan(reasons=explain(facts, request, policy, stock, offers))
    return _assemble(facts, request, chosen, offers)


def _assemble(
    facts: HostFacts, request: GuestRequest, chosen: tuple[Gpu, ...], offers: dict[int, Offer]
) -> PlacementPlan | NoPlan:
    counts = Counter(gpu.node for gpu in chosen)
    nodes = sorted(counts)
    page = page_size(offers, counts)
    if page is None:  # not reachable: the set was feasible
        return NoPlan(reasons=(reason(Code.NO_COMMON_PAGE_SIZE, "no page size is available on all nodes"),))
    cells: list[GuestCell] = []
    vcpupin: dict[int, int] = {}
    for cell_id, node in enumerate(nodes):
        own = offers[node]
        cores = own.node.free_cores[: own.cores * counts[node]]
        cpus = [cpu for core in cores for cpu in core.cpus[: own.node.threads]]
        vcpus = tuple(range(len(vcpupin), len(vcpupin) + len(cpus)))
        vcpupin.update(zip(vcpus, cpus, strict=True))
        memory = own.memory[page.kib] * counts[node]
        cells.append(GuestCell(id=cell_id, host_node=node, vcpus=vcpus, memory_mib=memory))
    try:
        buses = expanders((cell_id, counts[node]) for cell_id, node in enumerate(nodes))
    except ValueError as error:
        return NoPlan(reasons=(reason(Code.TOO_MANY_BUSES, str(error)),))
    ordered = sorted(chosen, key=lambda gpu: (gpu.node, gpu.address))
    ports = [port for bus in buses for port in bus.ports]
    return PlacementPlan(
        guest=request.name,
        gpus=tuple(
            PlannedGpu(
                host=gpu.address,
                guest_cell=nodes.index(gpu.node),
                host_node=gpu.node,
                alias=f"ua-gpu{number}",
                root_port_bus=ports[number],
                companions=gpu.companions,
            )
            for number, gpu in enumerate(ordered)
        ),
        cells=tuple(cells),
        vcpupin=vcpupin,
        emulatorpin=tuple(sorted(cpu for node in nodes for cpu in offers[node].node.emulator_cpus)),
        hugepage_kib=page.kib,
        threads_per_core=offers[nodes[0]].node.threads,
        distances=_guest_distances(facts, nodes),
    )


def _distance(facts: HostFacts, a: int, b: int) -> int:
    node = facts.node(a)
    return UNKNOWN_DISTANCE if node is None else node.distances.get(b, UNKNOWN_DISTANCE)


def _guest_distances(facts: HostFacts, nodes: list[int]) -> dict[int, dict[int, int]]:
    """Host distances between the guest's cells: 10 to itself, 11 to 254 to others (SLIT's range; a host that
    says 10 of another node gets 11, as KubeVirt does)."""

    def between(a: int, b: int) -> int:
        if a == b:
            return 10
        node = facts.node(a)
        said = REMOTE_DISTANCE if node is None else node.distances.get(b, REMOTE_DISTANCE)
        return min(max(said, 11), 254)

    return {i: {j: between(a, b) for j, b in enumerate(nodes)} for i, a in enumerate(nodes)}


def _request_reasons(request: GuestRequest, policy: PlacementPolicy, held: Placed) -> tuple[Reason, ...]:
    found: list[Reason] = []
    if not 0 <= request.gpus <= MAX_GPUS:
        found.append(reason(Code.BAD_REQUEST, f"{request.gpus} GPUs requested: 0 to {MAX_GPUS} are allowed"))
    for what, value, least in (
        ("vCPUs per GPU", request.vcpus_per_gpu, 1),
        ("MiB per GPU", request.memory_mib_per_gpu, MINIMUM_MIB),
        ("vCPUs", request.vcpus, 1),
        ("MiB", request.memory_mib, MINIMUM_MIB),
    ):
        if value is not None and value < least:
            found.append(
                reason(Code.BAD_REQUEST, f"{value} {what} requested: a guest needs at least {least}")
            )
    for what, value in (
        ("reserved_cores_per_node", policy.reserved_cores_per_node),
        ("reserved_memory_mib_per_node", policy.reserved_memory_mib_per_node),
    ):
        if value < 0:
            found.append(reason(Code.BAD_POLICY, f"{what} is {value}: it cannot be negative"))
    if request.name in held.names:
        found.append(reason(Code.NAME_TAKEN, f"a guest named {request.name!r} is already placed"))
    return tuple(found)
