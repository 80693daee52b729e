"""ObservedPlacement: where a running guest really landed, put together from QEMU, the kernel and the guest.

The three readings come from layers that cannot share a mistake. Nothing here follows from the order in which
things are listed: threads are told apart by QEMU's thread ids, RAM by its name or address, devices by their
QEMU id and host address. What a layer did not say stays None and is named in ``problems``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from harness.model.pci import PciAddress
from harness.model.placement import (
    GuestNode,
    ObservedGpu,
    ObservedPlacement,
    ObservedThread,
    PlacementPlan,
)
from harness.placement.observe.guest import GuestReading, parse_guest
from harness.placement.observe.host import HostReading, Task, parse_host
from harness.placement.observe.qmp import Function, QmpReading, Vcpu, parse_qmp
from harness.placement.observe.ram import observe_memory


def observe(
    plan: PlacementPlan, *, host: bytes, qmp: Mapping[str, str], guest: bytes | None
) -> ObservedPlacement:
    """From raw transcripts to the observation; ``guest`` is None when it could not be asked.

    Raises ParseError when a transcript is damaged.
    """
    return assemble(plan, parse_host(host), parse_qmp(qmp), parse_guest(guest) if guest is not None else None)


def assemble(
    plan: PlacementPlan, host: HostReading, qmp: QmpReading, guest: GuestReading | None
) -> ObservedPlacement:
    """The three readings as one value."""
    problems = list(_name_problems(plan, host))
    threads = _threads(host, qmp, problems)
    blocks = observe_memory(plan, host, qmp.memdevs)
    gpus = _gpus(plan, host, qmp, guest, problems)
    nodes: tuple[GuestNode, ...] = ()
    if guest is None:
        problems.append("guest: the guest's view of its hardware was not read")
    else:
        nodes = guest.nodes
    return ObservedPlacement(
        guest=plan.guest,
        pid=host.pid,
        threads=threads,
        memory=blocks.memory,
        gpus=gpus,
        guest_nodes=nodes,
        locked_bytes_limit=host.locked_bytes_limit,
        problems=(*problems, *blocks.problems),
        at=host.at,
        state=qmp.state,
    )


def _name_problems(plan: PlacementPlan, host: HostReading) -> tuple[str, ...]:
    # A stale pid file may lead to another process: its own command line must name the domain asked for.
    domain = plan.guest if host.target.isdigit() else host.target
    for flag, value in itertools.pairwise(host.options):
        if flag == "-name" and domain in [part.removeprefix("guest=") for part in value.split(",")]:
            return ()
    return (f"process {host.pid} is not the QEMU of guest {domain}: its command line does not name it",)


def _threads(host: HostReading, qmp: QmpReading, problems: list[str]) -> tuple[ObservedThread, ...]:
    vcpus = {vcpu.tid: vcpu for vcpu in qmp.vcpus}
    if len(vcpus) != len(qmp.vcpus):
        problems.append("threads: QEMU names one thread for several vCPUs")
    kinds = [(task, False) for task in host.tasks] + [(task, True) for task in host.kernel_tasks]
    found = []
    for task, kernel in kinds:
        if task.cpus is None:
            problems.append(f"threads: thread {task.tid} ({task.name}) could not be read")
            continue
        found.append(_thread(task, task.cpus, host, None if kernel else vcpus.get(task.tid), kernel))
    return tuple(found)


def _thread(
    task: Task, cpus: tuple[int, ...], host: HostReading, vcpu: Vcpu | None, kernel: bool
) -> ObservedThread:
    bound = host.cgroups.get((task.cgroup_version, task.cgroup)) if task.cgroup is not None else None
    return ObservedThread(
        tid=task.tid,
        name=task.name or "",
        vcpu=vcpu.index if vcpu else None,
        cpus_allowed=cpus,
        mems_allowed=task.mems or (),
        cgroup=task.cgroup,
        cgroup_cpus=bound,
        last_cpu=task.last_cpu,
        guest_cell=vcpu.cell if vcpu else None,
        kernel=kernel,
    )


def _gpus(
    plan: PlacementPlan,
    host: HostReading,
    qmp: QmpReading,
    guest: GuestReading | None,
    problems: list[str],
) -> tuple[ObservedGpu, ...]:
    ids: dict[PciAddress, str] = {}
    for device_id, address in qmp.hostdevs.items():
        if address is None:
            problems.append(f"devices: QEMU does not report which host device {device_id} is")
        elif address in ids:
            problems.append(f"devices: QEMU names {address} for both {ids[address]} and {device_id}")
        else:
            ids[address] = device_id
    functions: dict[str, Function] = {function.id: function for function in qmp.functions if function.id}
    extra = sorted(set(ids) - set(plan.hostdevs))
    for address in plan.hostdevs:
        if address not in host.devices:
            problems.append(f"devices: {address} was not read on the host")
    return tuple(
        _gpu(address, ids.get(address), functions.get(ids.get(address, "")), host, guest)
        for address in (*plan.hostdevs, *extra)
    )


def _gpu(
    address: PciAddress,
    alias: str | None,
    function: Function | None,
    host: HostReading,
    guest: GuestReading | None,
) -> ObservedGpu:
    on_host = host.devices.get(address)
    inside = guest.functions.get(function.address) if guest is not None and function is not None else None
    return ObservedGpu(
        host=address,
        alias=alias,
        qom_root_port=function.port_id if function else None,
        guest=function.address if function else None,
        guest_vendor_device=inside.vendor_device if inside else None,
        guest_numa_node=inside.numa_node if inside else None,
        guest_local_cpus=inside.local_cpus if inside else None,
        host_driver=on_host.driver if on_host else None,
        qemu_vendor_device=function.vendor_device if function else None,
        qemu_root_port_address=function.port_address if function else None,
        guest_root_port_address=inside.port if inside else None,
        iommu_group=on_host.iommu_group if on_host else None,
        held=_held(address, host),
    )


def _held(address: PciAddress, host: HostReading) -> bool | None:
    device = host.devices.get(address)
    if device is None or not host.vfio_nodes or (device.iommu_group is None and not device.cdevs):
        return None  # no VFIO node at all: the list could not be read, or other layers will say it
    nodes = {f"/dev/vfio/{device.iommu_group}", *(f"/dev/vfio/devices/{cdev}" for cdev in device.cdevs)}
    return not nodes.isdisjoint(host.vfio_nodes)
