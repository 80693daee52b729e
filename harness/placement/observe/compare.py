"""Plan against observation: every place where they disagree, both sides named.

A difference whose observed side is ``UNKNOWN`` says that a layer was silent: no proof of health, and no
proof of a fault either. The rules are those of ``reference/passthrough.md`` section 3: one dedicated host
CPU per vCPU, in the thread's own mask and in its cgroup; every other thread among the emulator's CPUs; each
guest cell's memory bound to, and lying on, its host node; each device where its plan says, by every layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.placement import (
    Difference,
    GuestCell,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
)
from harness.placement.observe.compare_guest import compare_devices, compare_guest
from harness.placement.observe.difference import UNKNOWN, cpus, difference

_HUGE_KIB = 2048
"""Smallest hugepage in use (x86 and ordinary arm64); guests planned without hugepages have smaller pages."""


def compare(
    plan: PlacementPlan, observed: ObservedPlacement, *, memory_share: float
) -> tuple[Difference, ...]:
    """All differences, first that it does not run, then those of threads. ``memory_share`` is the least share
    (0 to 1) of a cell's memory that must lie on its planned node."""
    return (
        *compare_state(observed),
        *compare_threads(plan, observed),
        *compare_kernel_threads(plan, observed),
        *compare_memory(plan, observed, memory_share=memory_share),
        *compare_guest(plan, observed),
        *compare_devices(plan, observed),
    )


def compare_state(observed: ObservedPlacement) -> tuple[Difference, ...]:
    """A guest that QEMU does not let run."""
    if observed.state in (None, "running"):
        return ()
    return (difference("qemu", "state of the guest", "running", observed.state or UNKNOWN),)


def compare_threads(plan: PlacementPlan, observed: ObservedPlacement) -> tuple[Difference, ...]:
    """Threads of the QEMU process: each vCPU on its one CPU, every other one among the emulator's."""
    threads = [thread for thread in observed.threads if not thread.kernel]
    found: list[Difference] = []
    for vcpu in sorted(plan.vcpupin):
        found.extend(_vcpu(plan, vcpu, [thread for thread in threads if thread.vcpu == vcpu]))
    for thread in threads:
        if thread.vcpu is None:
            found.extend(_emulator(plan, thread))
        elif thread.vcpu not in plan.vcpupin:
            found.append(difference("qemu", f"vCPU {thread.vcpu}", "no such vCPU", f"thread {thread.tid}"))
    return tuple(found)


def compare_kernel_threads(plan: PlacementPlan, observed: ObservedPlacement) -> tuple[Difference, ...]:
    """Kernel threads that work for the guest, which libvirt does not always confine."""
    planned = f"CPUs {cpus(plan.emulatorpin)} (emulator)"
    return tuple(
        difference("kernel", f"kernel thread {t.name}", planned, f"CPUs {cpus(t.cpus_allowed)}")
        for t in observed.threads
        if t.kernel and not _within(t.cpus_allowed, plan.emulatorpin)
    )


def _vcpu(plan: PlacementPlan, vcpu: int, threads: Sequence[ObservedThread]) -> Iterator[Difference]:
    cpu = plan.vcpupin[vcpu]
    if len(threads) != 1:
        tids = ", ".join(str(thread.tid) for thread in threads) or "none"
        yield difference("qemu", f"thread of vCPU {vcpu}", f"one, on CPU {cpu}", tids)
        return
    thread = threads[0]
    who = f"vCPU {vcpu} (thread {thread.tid})"
    if thread.cpus_allowed != (cpu,):
        yield difference("kernel", f"{who} may run on", f"CPU {cpu}", f"CPUs {cpus(thread.cpus_allowed)}")
    if thread.cgroup_cpus != (cpu,):
        bound = UNKNOWN if thread.cgroup_cpus is None else f"CPUs {cpus(thread.cgroup_cpus)}"
        yield difference("kernel", f"cgroup of {who}", f"CPU {cpu}", bound)
    cell = next((c.id for c in plan.cells if vcpu in c.vcpus), None)
    if thread.guest_cell != cell and (thread.guest_cell is not None or len(plan.cells) > 1):
        told = UNKNOWN if thread.guest_cell is None else f"cell {thread.guest_cell}"
        yield difference("qemu", f"guest cell of vCPU {vcpu}", f"cell {cell}", told)


def _emulator(plan: PlacementPlan, thread: ObservedThread) -> Iterator[Difference]:
    who = f"thread {thread.tid} ({thread.name})"
    planned = f"CPUs {cpus(plan.emulatorpin)} (emulator)"
    if not _within(thread.cpus_allowed, plan.emulatorpin):
        yield difference("kernel", f"{who} may run on", planned, f"CPUs {cpus(thread.cpus_allowed)}")
    if thread.cgroup_cpus is None:
        yield difference("kernel", f"cgroup of {who}", planned, UNKNOWN)
    elif not _within(thread.cgroup_cpus, plan.emulatorpin):
        yield difference("kernel", f"cgroup of {who}", planned, f"CPUs {cpus(thread.cgroup_cpus)}")


def _within(found: Sequence[int], allowed: Sequence[int]) -> bool:
    return bool(found) and set(found) <= set(allowed)


def compare_memory(
    plan: PlacementPlan, observed: ObservedPlacement, *, memory_share: float
) -> tuple[Difference, ...]:
    """Guest RAM: one block per cell, bound to its node by QEMU and kernel, its pages there, of the right
    size. A guest with passed-through devices has all its memory pinned (VFIO maps it whole), so there the
    share is of the block; otherwise of what is resident."""
    found: list[Difference] = []
    for cell in plan.cells:
        blocks = [block for block in observed.memory if block.guest_cell == cell.id]
        if len(blocks) == 1:
            found.extend(_block(plan, cell, blocks[0], memory_share))
        else:
            names = ", ".join(block.memdev for block in blocks) or "none"
            found.append(difference("qemu", f"RAM of guest cell {cell.id}", "one block", names))
    planned = {cell.id for cell in plan.cells}
    found.extend(
        difference("qemu", f"RAM block {block.memdev}", "no such block", f"guest cell {block.guest_cell}")
        for block in observed.memory
        if block.guest_cell not in planned
    )
    return tuple(found)


def _block(plan: PlacementPlan, cell: GuestCell, block: ObservedMemory, share: float) -> Iterator[Difference]:
    node = cell.host_node
    who = f"RAM of guest cell {cell.id} ({block.memdev})"
    size = cell.memory_mib << 20
    if block.size_bytes != size:
        yield difference("qemu", f"size of {who}", f"{size} bytes", f"{block.size_bytes} bytes")
    if block.policy != "bind" or block.host_nodes != (node,):
        told = f"{block.policy} to node {cpus(block.host_nodes)}"
        yield difference("qemu", f"policy of {who}", f"bind to node {node}", told)
    if block.kernel_policy is None:
        yield difference("kernel", f"policy and pages of {who}", f"bind to node {node}", UNKNOWN)
        return
    if _plain_policy(block.kernel_policy) != f"bind:{node}":
        yield difference("kernel", f"policy of {who}", f"bind:{node}", block.kernel_policy)
    yield from _pages(plan, node, who, block, share)


def _pages(
    plan: PlacementPlan, node: int, who: str, block: ObservedMemory, share: float
) -> Iterator[Difference]:
    huge = plan.hugepage_kib
    wrong = block.page_kib != huge if huge is not None else (block.page_kib or 0) >= _HUGE_KIB
    if wrong and block.page_kib is None:
        yield difference("kernel", f"page size of {who}", f"{huge} KiB", UNKNOWN)
    elif wrong:
        wanted = f"{huge} KiB" if huge is not None else "ordinary pages"
        yield difference("kernel", f"page size of {who}", wanted, f"{block.page_kib} KiB")
    resident = sum(block.pages.values())
    whole = block.size_bytes if plan.gpus else resident
    here = block.pages.get(node, 0)
    if whole <= 0 or here / whole < share:
        spread = ", ".join(f"{b / 2**20:.1f} MiB on node {n}" for n, b in sorted(block.pages.items()))
        yield difference(
            "kernel",
            f"pages of {who}",
            f"at least {share:.2%} of {whole / 2**20:.1f} MiB on node {node}",
            spread or "nothing resident",
        )


def _plain_policy(policy: str) -> str:
    # The kernel adds the mode's flags: "bind=static:0" is a bind to node 0 too.
    mode, _, nodes = policy.partition(":")
    return f"{mode.partition('=')[0]}:{nodes}"
