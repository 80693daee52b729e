"""Our own checks of domain XML, for everything that libvirt defines without a word.

libvirt's schema and ``define --validate`` accept overlapping bus ranges (the guest then silently loses
devices), two vCPUs on one host CPU, host CPUs and nodes that do not exist, memory that does not add up, and
two domains that claim one device. All that is looked for here, against the host's facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.errors import ParseError
from harness.model.placement import Reason
from harness.model.topology import HostFacts
from harness.placement.domain.check_devices import device_problems
from harness.placement.domain.read import DomainView, read_domain
from harness.placement.ranges import show
from harness.placement.reasons import Code, reason, unique


def problems(xml: str, facts: HostFacts, others: tuple[str, ...] = ()) -> tuple[Reason, ...]:
    """Everything wrong with a domain on this host beside the domains ``others``; empty when all is well.

    XML that cannot be read is a problem (``xml_invalid``), never an exception; of another domain, too: what
    it claims is then unknown.
    """
    try:
        domain = read_domain(xml)
    except ParseError as error:
        return (reason(Code.XML_INVALID, str(error)),)
    neighbours: list[DomainView] = []
    found: list[Reason] = []
    for text in others:
        try:
            neighbours.append(read_domain(text))
        except ParseError as error:
            found.append(reason(Code.XML_INVALID, f"another domain: {error}"))
    found.extend(_cpu_problems(domain, facts, neighbours))
    found.extend(_cell_problems(domain, facts))
    found.extend(_page_problems(domain, facts, neighbours))
    found.extend(device_problems(domain, facts, neighbours))
    return unique(tuple(found))


def _pinned(domain: DomainView) -> frozenset[int]:
    return frozenset(cpu for _, cpus in domain.pins for cpu in cpus)


def _cpu_problems(domain: DomainView, facts: HostFacts, neighbours: list[DomainView]) -> Iterator[Reason]:
    yield from _pin_problems(domain)
    emulator = domain.emulator or frozenset()
    if not emulator:
        yield reason(Code.EMULATOR_UNPINNED, "the emulator's threads are pinned to no CPU")
    yield from _existing_cpus(_pinned(domain) | emulator, facts)
    siblings = {cpu.id: frozenset(cpu.siblings) | {cpu.id} for cpu in facts.cpus}

    def cores(cpus: frozenset[int]) -> frozenset[int]:
        return frozenset(s for cpu in cpus for s in siblings.get(cpu, (cpu,)))

    own = cores(_pinned(domain))
    if clash := emulator & own:
        yield reason(Code.EMULATOR_ON_VCPU, f"the emulator is pinned to vCPU cores: CPUs {show(clash)}")
    for other in neighbours:
        theirs = _pinned(other)
        if clash := theirs & _pinned(domain):
            message = f"CPUs {show(clash)} are also used by vCPUs of domain {other.name!r}"
            yield reason(Code.CPU_SHARED, message)
        elif clash := theirs & own:
            message = f"domain {other.name!r} uses other threads of the same cores: CPUs {show(clash)}"
            yield reason(Code.CORE_SHARED, message)
        if clash := (emulator & cores(theirs)) | ((other.emulator or frozenset()) & own):
            message = f"emulator threads and vCPUs of this domain and {other.name!r} share CPUs {show(clash)}"
            yield reason(Code.EMULATOR_ON_VCPU, message)


def _pin_problems(domain: DomainView) -> Iterator[Reason]:
    pinned = {vcpu for vcpu, _ in domain.pins}
    unpinned = set(range(min(domain.vcpus, 1 << 16))) - pinned
    if unpinned:
        yield reason(Code.VCPU_UNPINNED, f"vCPUs {show(unpinned)} are pinned to no CPU")
    for vcpu, cpus in domain.pins:
        if len(cpus) != 1:
            message = f"vCPU {vcpu} is pinned to {len(cpus)} CPUs ({show(cpus)}) instead of one of its own"
            yield reason(Code.VCPU_NOT_DEDICATED, message)
    shared = {cpu: n for cpu, n in Counter(c for _, cpus in domain.pins for c in cpus).items() if n > 1}
    for cpu in sorted(shared):
        who = [str(vcpu) for vcpu, cpus in domain.pins if cpu in cpus]
        yield reason(Code.CPU_SHARED, f"CPU {cpu} is used by vCPUs {', '.join(who)} at once")


def _existing_cpus(cpus: frozenset[int], facts: HostFacts) -> Iterator[Reason]:
    known = {cpu.id: cpu for cpu in facts.cpus}
    online = {cpu for node in facts.numa_nodes for cpu in node.cpus}
    if missing := cpus - set(known) - online:
        yield reason(Code.CPU_MISSING, f"the host has no CPUs {show(missing)}")
    off = {c for c in cpus if c in known and (known[c].online is False or c not in online)}
    if off:
        yield reason(Code.CPU_OFFLINE, f"CPUs {show(off)} are offline or on no NUMA node")


def _cell_problems(domain: DomainView, facts: HostFacts) -> Iterator[Reason]:
    in_cells = {vcpu for cell in domain.cells for vcpu in cell.vcpus}
    if outside := set(range(min(domain.vcpus, 1 << 16))) - in_cells:
        yield reason(Code.VCPU_IN_NO_CELL, f"vCPUs {show(outside)} are in no guest cell")
    total = sum(cell.memory_kib for cell in domain.cells)
    if total != domain.memory_kib:
        message = f"the guest has {domain.memory_kib} KiB and its cells {total} KiB"
        yield reason(Code.MEMORY_MISMATCH, message)
    bound = [binding for binding in (domain.memory, *domain.memnodes.values()) if binding is not None]
    nodes = {node.id for node in facts.numa_nodes}
    if missing := {n for binding in bound for n in binding.nodes} - nodes:
        yield reason(
            Code.NODE_MISSING, f"memory is bound to NUMA nodes {show(missing)}, which the host does not have"
        )
    used: Counter[int] = Counter()
    for cell in domain.cells:
        binding = domain.memnodes.get(cell.id)
        if binding is None or binding.mode != "strict" or len(binding.nodes) != 1:
            message = f"the memory of guest cell {cell.id} is not bound strictly to one NUMA node"
            yield reason(Code.MEMORY_UNBOUND, message)
        else:
            used.update(binding.nodes)
        yield from _far_vcpus(domain, facts, cell.id, cell.vcpus)
    for node in sorted(n for n, times in used.items() if times > 1):
        yield reason(Code.CELLS_SHARE_NODE, f"several guest cells are bound to NUMA node {node}")


def _far_vcpus(domain: DomainView, facts: HostFacts, cell: int, vcpus: frozenset[int]) -> Iterator[Reason]:
    near = {cpu for n in domain.host_nodes(cell) if (node := facts.node(n)) is not None for cpu in node.cpus}
    online = {cpu for node in facts.numa_nodes for cpu in node.cpus}
    far = {cpu for vcpu, cpus in domain.pins if vcpu in vcpus for cpu in cpus if cpu in online} - near
    if near and far:
        message = f"vCPUs of guest cell {cell} are pinned to CPUs {show(far)}, which are not near its memory"
        yield reason(Code.VCPU_FAR, message)


def _page_problems(domain: DomainView, facts: HostFacts, neighbours: list[DomainView]) -> Iterator[Reason]:
    running = {d.name for d in facts.domains or ()}
    # A running domain's pages are missing from the free ones already.
    needs = Counter[tuple[int, int]]() if domain.name in running else _page_needs(domain)
    for other in neighbours:
        if other.name not in running:
            needs.update({key: kib for key, kib in _page_needs(other).items() if key in needs})
    for (node_id, page_kib), kib in sorted(needs.items()):
        node = facts.node(node_id)
        pool = None if node is None else node.hugepages.get(page_kib * 1024)
        if pool is None or not pool.total:
            message = f"NUMA node {node_id} has no hugepages of {page_kib} KiB"
            yield reason(Code.PAGE_SIZE_MISSING, message)
        elif (pool.free or 0) * page_kib < kib:
            message = (
                f"NUMA node {node_id} has {pool.free} hugepages of {page_kib} KiB free; "
                f"{-(-kib // page_kib)} are needed"
            )
            yield reason(Code.HUGEPAGES_SHORT, message)


def _page_needs(domain: DomainView) -> Counter[tuple[int, int]]:
    """KiB by host node and page size in KiB."""
    needs: Counter[tuple[int, int]] = Counter()
    for cell in domain.cells:
        page = domain.page_kib(cell.id)
        nodes = domain.host_nodes(cell.id)
        if page and len(nodes) == 1:
            needs[min(nodes), page] += cell.memory_kib
    return needs
