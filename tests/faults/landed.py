"""ObservedPlacement of a guest that landed exactly where its plan says."""

from __future__ import annotations

from harness.model.pci import PciAddress
from harness.model.placement import (
    GuestNode,
    ObservedGpu,
    ObservedMemory,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
)
from harness.placement.domain.definition import functions


def landed(plan: PlacementPlan) -> ObservedPlacement:
    """What QEMU, the kernel and the guest would show."""
    return ObservedPlacement(
        guest=plan.guest,
        pid=4242,
        threads=(_thread(plan, 4242, None), *(_thread(plan, 5000 + vcpu, vcpu) for vcpu in plan.vcpupin)),
        memory=tuple(
            ObservedMemory(
                memdev=f"ram-node{cell.id}",
                guest_cell=cell.id,
                size_bytes=cell.memory_mib << 20,
                policy="bind",
                host_nodes=(cell.host_node,),
                pages={cell.host_node: cell.memory_mib << 20},
                page_kib=plan.hugepage_kib,
                kernel_policy=f"bind:{cell.host_node}",
            )
            for cell in plan.cells
        ),
        gpus=tuple(_devices(plan)),
        guest_nodes=tuple(
            GuestNode(
                id=cell.id,
                cpus=tuple(sorted(cell.vcpus)),
                memory_bytes=(cell.memory_mib << 20) - (32 << 20),
                distances=tuple(plan.distances.get(cell.id, {}).get(c.id, 10) for c in plan.cells),
            )
            for cell in plan.cells
        ),
        locked_bytes_limit=1 << 40,
        problems=(),
    )


def _thread(plan: PlacementPlan, tid: int, vcpu: int | None) -> ObservedThread:
    cpus = tuple(sorted(plan.emulatorpin)) if vcpu is None else (plan.vcpupin[vcpu],)
    nodes = tuple(sorted({cell.host_node for cell in plan.cells}))
    return ObservedThread(
        tid=tid,
        name="qemu-system-x86" if vcpu is None else f"CPU {vcpu}/KVM",
        vcpu=vcpu,
        cpus_allowed=cpus,
        mems_allowed=nodes,
        cgroup="/machine.slice/emulator" if vcpu is None else f"/machine.slice/vcpu{vcpu}",
        cgroup_cpus=cpus,
        last_cpu=cpus[0],
        guest_cell=None if vcpu is None else next(c.id for c in plan.cells if vcpu in c.vcpus),
    )


def _devices(plan: PlacementPlan) -> list[ObservedGpu]:
    found: list[ObservedGpu] = []
    cells = {cell.id: cell for cell in plan.cells}
    for index, gpu in enumerate(plan.gpus):
        port = PciAddress(0, 0xF0 + index, 0, 0)
        for alias, address, number in functions(gpu):
            found.append(
                ObservedGpu(
                    host=address,
                    alias=alias,
                    qom_root_port=f"pci.{gpu.root_port_bus}",
                    guest=PciAddress(0, 0xE0 + index, 0, number),
                    guest_vendor_device="8086:293e" if number else "1234:11e8",
                    guest_numa_node=gpu.guest_cell,
                    guest_local_cpus=tuple(sorted(cells[gpu.guest_cell].vcpus)),
                    host_driver="vfio-pci",
                    qemu_vendor_device="8086:293e" if number else "1234:11e8",
                    qemu_root_port_address=port,
                    guest_root_port_address=port,
                    iommu_group=10 + index,
                    held=True,
                )
            )
    return found
