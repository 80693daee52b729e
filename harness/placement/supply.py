"""What each NUMA node can still give to guests with GPUs, and why a node can give nothing."""

from __future__ import annotations

from dataclasses import dataclass

from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import Reason
from harness.model.topology import HostFacts, NumaNode
from harness.placement.cores import Core, node_cores, threads_per_core
from harness.placement.memory import MINIMUM_MIB, Pool, page_name, pools
from harness.placement.placed import Placed
from harness.placement.reasons import Code, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSupply:
    """One NUMA node as guests see it."""

    id: int
    gpus: int
    """GPUs there, whether or not they can be handed out: the share must not depend on who is broken."""
    guest_cores: int
    """Cores that are not the host's, taken or free."""
    free_cores: tuple[Core, ...]
    emulator_cpus: tuple[int, ...]
    """CPUs of the host's cores that no placed vCPU sits on."""
    pools: tuple[Pool, ...]
    threads: int
    reasons: tuple[Reason, ...]
    """Why it can hold no guest at all; empty for a usable node."""

    @property
    def share_cores(self) -> int:
        """Whole cores that each GPU of the node owns."""
        return self.guest_cores // self.gpus if self.gpus else 0

    @property
    def has_hugepages(self) -> bool:
        """Whether the node has any hugepages for guests."""
        return any(pool.page_kib is not None for pool in self.pools)

    def pool(self, page_kib: int | None) -> Pool | None:
        """The pool of pages of that size, or None."""
        return next((pool for pool in self.pools if pool.page_kib == page_kib), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a node gives to each GPU of one request, and to how many GPUs."""

    node: NodeSupply
    cores: int
    """Whole cores per GPU."""
    memory: dict[int | None, int]
    """MiB per GPU by page size."""
    limits: dict[int | None, int]
    """GPUs that can be served by page size: bounded by free cores and free pages."""
    full_share: bool
    """True when the request left the amount of memory open."""
    reasons: tuple[Reason, ...]


def survey(
    facts: HostFacts, policy: PlacementPolicy, gpus: dict[int, int], placed: Placed
) -> dict[int, NodeSupply]:
    """Every NUMA node's supply; ``gpus`` counts the GPUs on each."""
    threads = threads_per_core(facts)
    return {
        node.id: _node_supply(facts, node, policy, placed, gpus=gpus.get(node.id, 0), threads=threads)
        for node in facts.numa_nodes
    }


def _node_supply(
    facts: HostFacts, node: NumaNode, policy: PlacementPolicy, placed: Placed, *, gpus: int, threads: int
) -> NodeSupply:
    cores = node_cores(facts, node, reserved=policy.reserved_cores_per_node, threads=threads)
    taken = placed.vcpus | placed.emulators
    reserved_cpus = tuple(sorted(cpu for core in cores.reserved for cpu in core.cpus))
    emulator_cpus = tuple(cpu for cpu in reserved_cpus if cpu not in _cores_under(placed, cores.reserved))
    reasons: list[Reason] = []
    if not node.cpus:
        reasons.append(reason(Code.NODE_WITHOUT_CPUS, f"NUMA node {node.id} has no CPU online"))
    elif cores.unknown:
        message = f"NUMA node {node.id} has CPUs whose sibling threads are unknown, so its cores are unknown"
        reasons.append(reason(Code.TOPOLOGY_UNKNOWN, message))
    elif not emulator_cpus:
        message = (
            f"NUMA node {node.id} has no core left for emulator threads ({policy.reserved_cores_per_node} "
            "reserved, those under vCPUs of placed guests not counted)"
        )
        reasons.append(reason(Code.NO_EMULATOR_CORE, message))
    if node.memory_bytes is None:
        reasons.append(reason(Code.MEMORY_UNKNOWN, f"the memory of NUMA node {node.id} is unknown"))
    elif node.memory_bytes <= 0:
        reasons.append(reason(Code.NODE_WITHOUT_MEMORY, f"NUMA node {node.id} has no memory"))
    return NodeSupply(
        id=node.id,
        gpus=gpus,
        guest_cores=len(cores.guest),
        free_cores=tuple(core for core in cores.guest if not taken & set(core.cpus)),
        emulator_cpus=emulator_cpus,
        pools=pools(
            node,
            policy,
            running=placed.memory(node.id, running=True),
            placed=placed.memory(node.id, running=False),
        ),
        threads=threads,
        reasons=tuple(reasons),
    )


def _cores_under(placed: Placed, cores: tuple[Core, ...]) -> set[int]:
    """CPUs of those cores on which some placed vCPU sits, siblings included."""
    return {cpu for core in cores if placed.vcpus & set(core.cpus) for cpu in core.cpus}


def offer(node: NodeSupply, request: GuestRequest) -> Offer:
    """What ``node`` gives to each GPU of ``request``; with reasons wherever that falls short."""
    reasons = list(node.reasons)
    cores = node.share_cores
    if request.vcpus_per_gpu is not None:
        cores = -(-request.vcpus_per_gpu // node.threads)
    if not node.reasons:
        reasons.extend(_core_reasons(node, request, cores))
    memory = _memory_per_gpu(node, request)
    if not reasons and not memory:
        reasons.append(_memory_reason(node, request))
    limits: dict[int | None, int] = {}
    if not reasons:
        by_cores = len(node.free_cores) // cores
        limits = {
            page: min(by_cores, pool.free_mib // mib)
            for page, mib in memory.items()
            if (pool := node.pool(page)) is not None
        }
    return Offer(
        node=node,
        cores=cores,
        memory=memory,
        limits=limits,
        full_share=request.memory_mib_per_gpu is None,
        reasons=tuple(reasons),
    )


def _core_reasons(node: NodeSupply, request: GuestRequest, cores: int) -> list[Reason]:
    if node.share_cores < 1:
        message = (
            f"NUMA node {node.id} has {node.guest_cores} whole cores for guests and {node.gpus} GPUs: "
            "less than one core per GPU"
        )
        return [reason(Code.TOO_FEW_CORES, message)]
    if cores > node.share_cores:
        message = (
            f"{request.vcpus_per_gpu} vCPUs per GPU need {cores} whole cores; "
            f"a GPU of NUMA node {node.id} owns {node.share_cores}"
        )
        return [reason(Code.VCPUS_EXCEED_SHARE, message)]
    return []


def _memory_per_gpu(node: NodeSupply, request: GuestRequest) -> dict[int | None, int]:
    """MiB per GPU in each page size that can serve the request at all."""
    asked = request.memory_mib_per_gpu
    found: dict[int | None, int] = {}
    for pool in node.pools:
        share = pool.share(node.share_cores, node.guest_cores)
        need = share if asked is None else pool.round_up(asked)
        if MINIMUM_MIB <= need <= share:
            found[pool.page_kib] = need
    return found


def _memory_reason(node: NodeSupply, request: GuestRequest) -> Reason:
    shares = ", ".join(
        f"{pool.share(node.share_cores, node.guest_cores)} MiB in {page_name(pool.page_kib)}"
        for pool in node.pools
    )
    owns = f"a GPU of NUMA node {node.id} owns {shares}"
    if request.memory_mib_per_gpu is None:
        return reason(
            Code.TOO_LITTLE_MEMORY, f"{owns}: less than the {MINIMUM_MIB} MiB a guest needs to boot"
        )
    return reason(Code.MEMORY_EXCEEDS_SHARE, f"{request.memory_mib_per_gpu} MiB per GPU requested; {owns}")
