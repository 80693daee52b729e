"""Every comparison rule: the clean observation keeps it, and one corruption each breaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.model.pci import PciAddress
from harness.model.placement import (
    Difference,
    GuestCell,
    GuestNode,
    ObservedGpu,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
    PlannedGpu,
)
from harness.placement.observe.compare import compare, compare_kernel_threads
from harness.placement.observe.difference import UNKNOWN

MIB = 1 << 20
GPU0 = PciAddress.parse("0000:41:00.0")
AUDIO0 = PciAddress.parse("0000:41:00.1")
GPU1 = PciAddress.parse("0000:82:00.0")
STRANGER = PciAddress.parse("0000:17:00.0")

PLAN = PlacementPlan(
    guest="g2",
    gpus=(
        PlannedGpu(
            host=GPU0, guest_cell=0, host_node=0, alias="ua-gpu0", root_port_bus=2, companions=(AUDIO0,)
        ),
        PlannedGpu(host=GPU1, guest_cell=1, host_node=1, alias="ua-gpu1", root_port_bus=4),
    ),
    cells=(
        GuestCell(id=0, host_node=0, vcpus=(0, 1), memory_mib=1024),
        GuestCell(id=1, host_node=1, vcpus=(2, 3), memory_mib=1024),
    ),
    vcpupin={0: 2, 1: 3, 2: 6, 3: 7},
    emulatorpin=(0, 4),
    hugepage_kib=2048,
    threads_per_core=1,
    distances={0: {0: 10, 1: 21}, 1: {0: 21, 1: 10}},
)


def thread(tid: int, *, vcpu: int | None = None, **fields: Any) -> ObservedThread:
    cpus = (PLAN.vcpupin[vcpu],) if vcpu is not None else PLAN.emulatorpin
    plain: dict[str, Any] = {
        "name": f"CPU {vcpu}/KVM" if vcpu is not None else "qemu-system-x86",
        "vcpu": vcpu,
        "cpus_allowed": cpus,
        "mems_allowed": (0, 1),
        "cgroup": f"/machine.slice/x/{'emulator' if vcpu is None else f'vcpu{vcpu}'}",
        "cgroup_cpus": cpus,
        "last_cpu": cpus[0],
        "guest_cell": None if vcpu is None else vcpu // 2,
    }
    return ObservedThread(tid=tid, **{**plain, **fields})


def block(cell: int, **fields: Any) -> ObservedMemory:
    plain: dict[str, Any] = {
        "memdev": f"ram-node{cell}",
        "guest_cell": cell,
        "size_bytes": 1024 * MIB,
        "policy": "bind",
        "host_nodes": (cell,),
        "pages": {cell: 1024 * MIB},
        "page_kib": 2048,
        "kernel_policy": f"bind:{cell}",
    }
    return ObservedMemory(**{**plain, **fields})


def function(host: PciAddress, alias: str, bus: int, number: int, cell: int) -> ObservedGpu:
    return ObservedGpu(
        host=host,
        alias=alias,
        qom_root_port=f"pci.{2 if cell == 0 else 4}",
        guest=PciAddress(0, bus, 0, number),
        guest_vendor_device="1234:11e8",
        guest_numa_node=cell,
        guest_local_cpus=(0, 1) if cell == 0 else (2, 3),
        host_driver="vfio-pci",
        qemu_vendor_device="1234:11e8",
        qemu_root_port_address=PciAddress(0, bus - 1, 0, 0),
        guest_root_port_address=PciAddress(0, bus - 1, 0, 0),
        iommu_group=14 + cell,
        held=True,
    )


CLEAN = ObservedPlacement(
    guest="g2",
    pid=1171,
    threads=(
        thread(1171),
        *(thread(1180 + n, vcpu=n) for n in range(4)),
        thread(1190, name="vhost-1171", kernel=True),
    ),
    memory=(block(0), block(1)),
    gpus=(
        function(GPU0, "ua-gpu0", 0xFF, 0, 0),
        function(AUDIO0, "ua-gpu0-f1", 0xFF, 1, 0),
        function(GPU1, "ua-gpu1", 0xFB, 0, 1),
    ),
    guest_nodes=(
        GuestNode(id=0, cpus=(0, 1), memory_bytes=990 * MIB, distances=(10, 21)),
        GuestNode(id=1, cpus=(2, 3), memory_bytes=1000 * MIB, distances=(21, 10)),
    ),
    locked_bytes_limit=3 << 30,
    problems=(),
)


def with_thread(index: int, **fields: Any) -> ObservedPlacement:
    threads = list(CLEAN.threads)
    threads[index] = replace(threads[index], **fields)
    return replace(CLEAN, threads=tuple(threads))


def with_block(**fields: Any) -> ObservedPlacement:
    return replace(CLEAN, memory=(CLEAN.memory[0], replace(CLEAN.memory[1], **fields)))


def with_gpu(index: int, **fields: Any) -> ObservedPlacement:
    gpus = list(CLEAN.gpus)
    gpus[index] = replace(gpus[index], **fields)
    return replace(CLEAN, gpus=tuple(gpus))


def with_node(**fields: Any) -> ObservedPlacement:
    return replace(CLEAN, guest_nodes=(CLEAN.guest_nodes[0], replace(CLEAN.guest_nodes[1], **fields)))


def compared(observed: ObservedPlacement, plan: PlacementPlan = PLAN) -> tuple[Difference, ...]:
    return compare(plan, observed, memory_share=0.99)


def test_a_guest_that_landed_as_planned_differs_in_nothing() -> None:
    assert compared(CLEAN) == ()


CASES: dict[str, tuple[ObservedPlacement, str, str, str, str]] = {
    "a vCPU thread may run elsewhere": (
        with_thread(2, cpus_allowed=(0, 1, 2, 3, 6)),
        "kernel",
        "vCPU 1 (thread 1181) may run on",
        "CPU 3",
        "CPUs 0-3,6",
    ),
    "a vCPU's cgroup is wider than its plan": (
        with_thread(1, cgroup_cpus=(2, 3)),
        "kernel",
        "cgroup of vCPU 0 (thread 1180)",
        "CPU 2",
        "CPUs 2-3",
    ),
    "a vCPU's cgroup could not be read": (
        with_thread(1, cgroup_cpus=None),
        "kernel",
        "cgroup of vCPU 0 (thread 1180)",
        "CPU 2",
        UNKNOWN,
    ),
    "a vCPU has no thread": (
        replace(CLEAN, threads=CLEAN.threads[:3] + CLEAN.threads[4:]),
        "qemu",
        "thread of vCPU 2",
        "one, on CPU 6",
        "none",
    ),
    "a vCPU has two threads": (
        replace(CLEAN, threads=(*CLEAN.threads, thread(1999, vcpu=2))),
        "qemu",
        "thread of vCPU 2",
        "one, on CPU 6",
        "1182, 1999",
    ),
    "QEMU has a vCPU that nobody planned": (
        replace(CLEAN, threads=(*CLEAN.threads, replace(thread(1999, vcpu=0), vcpu=4))),
        "qemu",
        "vCPU 4",
        "no such vCPU",
        "thread 1999",
    ),
    "a vCPU is in another guest cell": (
        with_thread(3, guest_cell=0),
        "qemu",
        "guest cell of vCPU 2",
        "cell 1",
        "cell 0",
    ),
    "QEMU does not say a vCPU's cell": (
        with_thread(3, guest_cell=None),
        "qemu",
        "guest cell of vCPU 2",
        "cell 1",
        UNKNOWN,
    ),
    "an emulator thread may use a vCPU's CPU": (
        with_thread(0, cpus_allowed=(0, 2, 4)),
        "kernel",
        "thread 1171 (qemu-system-x86) may run on",
        "CPUs 0,4 (emulator)",
        "CPUs 0,2,4",
    ),
    "an emulator thread's cgroup is wider": (
        with_thread(0, cgroup_cpus=(0, 1, 4)),
        "kernel",
        "cgroup of thread 1171 (qemu-system-x86)",
        "CPUs 0,4 (emulator)",
        "CPUs 0-1,4",
    ),
    "an emulator thread's cgroup could not be read": (
        with_thread(0, cgroup_cpus=None),
        "kernel",
        "cgroup of thread 1171 (qemu-system-x86)",
        "CPUs 0,4 (emulator)",
        UNKNOWN,
    ),
    "a kernel thread of the guest runs anywhere": (
        with_thread(5, cpus_allowed=(0, 1, 2, 3, 4, 5, 6, 7)),
        "kernel",
        "kernel thread vhost-1171",
        "CPUs 0,4 (emulator)",
        "CPUs 0-7",
    ),
    "a cell has no RAM block": (
        replace(CLEAN, memory=CLEAN.memory[:1]),
        "qemu",
        "RAM of guest cell 1",
        "one block",
        "none",
    ),
    "a RAM block belongs to no planned cell": (
        replace(CLEAN, memory=(*CLEAN.memory, block(1, memdev="dimm0", guest_cell=None))),
        "qemu",
        "RAM block dimm0",
        "no such block",
        "guest cell None",
    ),
    "a RAM block is too small": (
        with_block(size_bytes=512 * MIB, pages={1: 512 * MIB}),
        "qemu",
        "size of RAM of guest cell 1 (ram-node1)",
        "1073741824 bytes",
        "536870912 bytes",
    ),
    "QEMU binds memory to another node": (
        with_block(host_nodes=(0,)),
        "qemu",
        "policy of RAM of guest cell 1 (ram-node1)",
        "bind to node 1",
        "bind to node 0",
    ),
    "QEMU only prefers the node": (
        with_block(policy="preferred"),
        "qemu",
        "policy of RAM of guest cell 1 (ram-node1)",
        "bind to node 1",
        "preferred to node 1",
    ),
    "the kernel does not bind the memory": (
        with_block(kernel_policy="default"),
        "kernel",
        "policy of RAM of guest cell 1 (ram-node1)",
        "bind:1",
        "default",
    ),
    "the kernel's mappings were not found": (
        with_block(kernel_policy=None, pages={}, page_kib=None),
        "kernel",
        "policy and pages of RAM of guest cell 1 (ram-node1)",
        "bind to node 1",
        UNKNOWN,
    ),
    "ordinary pages instead of hugepages": (
        with_block(page_kib=4),
        "kernel",
        "page size of RAM of guest cell 1 (ram-node1)",
        "2048 KiB",
        "4 KiB",
    ),
    "the page size is not known": (
        with_block(page_kib=None),
        "kernel",
        "page size of RAM of guest cell 1 (ram-node1)",
        "2048 KiB",
        UNKNOWN,
    ),
    "two per cent of the pages lie on the other node": (
        with_block(pages={0: 20 * MIB, 1: 1004 * MIB}),
        "kernel",
        "pages of RAM of guest cell 1 (ram-node1)",
        "at least 99.00% of 1024.0 MiB on node 1",
        "20.0 MiB on node 0, 1004.0 MiB on node 1",
    ),
    "memory that VFIO should have pinned is not resident": (
        with_block(pages={1: 512 * MIB}),
        "kernel",
        "pages of RAM of guest cell 1 (ram-node1)",
        "at least 99.00% of 1024.0 MiB on node 1",
        "512.0 MiB on node 1",
    ),
    "nothing is resident": (
        with_block(pages={}),
        "kernel",
        "pages of RAM of guest cell 1 (ram-node1)",
        "at least 99.00% of 1024.0 MiB on node 1",
        "nothing resident",
    ),
    "the guest sees another number of nodes": (
        replace(CLEAN, guest_nodes=(replace(CLEAN.guest_nodes[0], distances=(10, 21)),)),
        "guest",
        "NUMA nodes",
        "nodes 0-1",
        "nodes 0",
    ),
    "a guest node has other CPUs": (
        with_node(cpus=(1, 2, 3)),
        "guest",
        "CPUs of node 1",
        "2-3",
        "1-3",
    ),
    "a guest node has no memory": (
        with_node(memory_bytes=0),
        "guest",
        "memory of node 1",
        "above 0, up to 1073741824 bytes",
        "0 bytes",
    ),
    "a guest node's memory is not known": (
        with_node(memory_bytes=None),
        "guest",
        "memory of node 1",
        "1073741824 bytes",
        UNKNOWN,
    ),
    "guest distances are flat": (
        with_node(distances=(10, 10)),
        "guest",
        "distances from node 1",
        "21 10",
        "10 10",
    ),
    "the guest does not say its distances": (
        with_node(distances=()),
        "guest",
        "distances from node 1",
        "21 10",
        UNKNOWN,
    ),
    "QEMU does not have a device": (
        with_gpu(2, alias=None, qom_root_port=None, guest=None, guest_vendor_device=None),
        "qemu",
        "0000:82:00.0",
        "assigned as ua-gpu1",
        "absent",
    ),
    "a device was not observed at all": (
        replace(CLEAN, gpus=CLEAN.gpus[:2]),
        "qemu",
        "0000:82:00.0",
        "assigned as ua-gpu1",
        "absent",
    ),
    "a companion has another alias": (
        with_gpu(1, alias="hostdev1"),
        "qemu",
        "alias of 0000:41:00.1",
        "ua-gpu0-f1",
        "hostdev1",
    ),
    "a device sits on another root port": (
        with_gpu(2, qom_root_port="pci.2"),
        "qemu",
        "root port of 0000:82:00.0",
        "pci.4",
        "pci.2",
    ),
    "a device is not on the guest's PCI bus": (
        with_gpu(2, guest=None, guest_vendor_device=None),
        "qemu",
        "guest address of 0000:82:00.0",
        "a PCI address",
        "not on the guest's PCI bus",
    ),
    "a companion became another function": (
        with_gpu(1, guest=PciAddress(0, 0xFF, 0, 2)),
        "qemu",
        "slot of 0000:41:00.1 on its port",
        "00.1",
        "0000:ff:00.2",
    ),
    "the guest does not see a device": (
        with_gpu(2, guest_vendor_device=None, guest_numa_node=None, guest_local_cpus=None),
        "guest",
        "0000:82:00.0 (0000:fb:00.0 in the guest)",
        "1234:11e8 on node 1",
        "no such device in the guest",
    ),
    "the guest finds another device at that address": (
        with_gpu(2, guest_vendor_device="10de:2335"),
        "map",
        "device at 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "1234:11e8 (QEMU)",
        "10de:2335 (guest)",
    ),
    "the guest sees another root port above it": (
        with_gpu(2, guest_root_port_address=PciAddress(0, 0xFE, 0, 0)),
        "map",
        "root port above 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "0000:fa:00.0 (QEMU)",
        "0000:fe:00.0 (guest)",
    ),
    "the guest knows no node of a device": (
        with_gpu(2, guest_numa_node=None),
        "guest",
        "NUMA node of 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "node 1",
        "-1 (none)",
    ),
    "the guest puts a device on the wrong node": (
        with_gpu(2, guest_numa_node=0),
        "guest",
        "NUMA node of 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "node 1",
        "node 0",
    ),
    "local CPUs of a device are another cell's": (
        with_gpu(2, guest_local_cpus=(0, 1)),
        "guest",
        "local CPUs of 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "2-3",
        "0-1",
    ),
    "the guest does not say a device's local CPUs": (
        with_gpu(2, guest_local_cpus=None),
        "guest",
        "local CPUs of 0000:82:00.0 (0000:fb:00.0 in the guest)",
        "2-3",
        UNKNOWN,
    ),
    "a device is on another host driver": (
        with_gpu(2, host_driver="nvidia"),
        "kernel",
        "host driver of 0000:82:00.0",
        "vfio-pci",
        "nvidia",
    ),
    "a companion is on no host driver": (
        with_gpu(1, host_driver=None),
        "kernel",
        "host driver of 0000:41:00.1",
        "vfio-pci",
        "none",
    ),
    "the QEMU process does not hold the device": (
        with_gpu(2, held=False),
        "kernel",
        "VFIO node of 0000:82:00.0 (IOMMU group 15)",
        "open in the QEMU process",
        "not open",
    ),
    "nobody knows whether the process holds the device": (
        with_gpu(2, held=None),
        "kernel",
        "VFIO node of 0000:82:00.0 (IOMMU group 15)",
        "open in the QEMU process",
        UNKNOWN,
    ),
    "the guest got a device that nobody gave it": (
        replace(CLEAN, gpus=(*CLEAN.gpus, function(STRANGER, "hostdev9", 0xF0, 0, 0))),
        "map",
        "host device 0000:17:00.0",
        "not handed to this guest",
        "hostdev9 in QEMU",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_deviation_is_one_difference_with_both_sides(name: str) -> None:
    observed, layer, what, planned, told = CASES[name]
    assert compared(observed) == (Difference(layer=layer, what=what, planned=planned, observed=told),)


def test_an_unread_guest_leaves_its_view_unknown_and_nothing_healthy() -> None:
    blind = replace(
        CLEAN,
        guest_nodes=(),
        gpus=tuple(
            replace(gpu, guest_vendor_device=None, guest_numa_node=None, guest_local_cpus=None)
            for gpu in CLEAN.gpus
        ),
    )
    differences = compared(blind)
    assert [d.observed for d in differences] == [UNKNOWN] * 4  # the nodes, and each of three functions


def test_without_a_passed_through_device_only_resident_pages_are_judged() -> None:
    plain = replace(PLAN, gpus=(), hugepage_kib=None)
    half = tuple(replace(b, pages={b.guest_cell or 0: 300 * MIB}, page_kib=4) for b in CLEAN.memory)
    seen = replace(CLEAN, memory=half, gpus=())
    assert compared(seen, plain) == ()
    empty = replace(seen, memory=(half[0], replace(half[1], pages={})))
    assert [d.observed for d in compared(empty, plain)] == ["nothing resident"]


def test_a_plan_without_hugepages_is_not_met_by_hugepages() -> None:
    found = compared(CLEAN, replace(PLAN, hugepage_kib=None))
    assert [(d.planned, d.observed) for d in found] == [("ordinary pages", "2048 KiB")] * 2


def test_a_bind_with_the_kernels_mode_flags_is_a_bind() -> None:
    assert compared(with_block(kernel_policy="bind=static:1")) == ()
    assert len(compared(with_block(kernel_policy="bind=static:0"))) == 1
    assert len(compared(with_block(kernel_policy="bind:0-1"))) == 1
    assert len(compared(with_block(kernel_policy="bind:1, default"))) == 1


def test_a_thread_allowed_nowhere_is_not_within_the_emulators_cpus() -> None:
    assert len(compared(with_thread(0, cpus_allowed=()))) == 1


def test_no_threads_at_all_is_a_difference_for_every_vcpu() -> None:
    found = compared(replace(CLEAN, threads=()))
    assert [d.what for d in found] == [f"thread of vCPU {n}" for n in range(4)]


def test_kernel_threads_are_no_excuse_for_the_process() -> None:
    assert compare_kernel_threads(PLAN, with_thread(0, cpus_allowed=(0, 7))) == ()


def test_the_share_decides_at_its_border() -> None:
    border = with_block(pages={0: 512 * MIB, 1: 512 * MIB})
    assert compare(PLAN, border, memory_share=0.5) == ()
    assert len(compare(PLAN, border, memory_share=0.51)) == 1
