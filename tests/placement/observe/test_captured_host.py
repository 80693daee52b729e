"""The host's side of a real libvirt 9 guest: one passed-through device, 2 MiB hugepages, cgroup v2.

Captured with an earlier ``observe/host.sh`` on an emulated host with two NUMA nodes; names were replaced, and
its head (first line, target, options) was brought to the form that the script writes now. QEMU was not asked
on that day, so its side is made here from the command line that was in the transcript.
"""

from __future__ import annotations

from pathlib import Path

from harness.model.pci import PciAddress
from harness.model.placement import GuestCell, PlacementPlan, PlannedGpu
from harness.placement.observe.compare import compare_kernel_threads, compare_memory, compare_threads
from harness.placement.observe.host import parse_host
from harness.placement.observe.observed import assemble
from harness.placement.observe.qmp import parse_qmp
from tests.placement.observe import transcripts

RAW = (Path(__file__).parent / "captured" / "libvirt-9-vfio-hugepages.txt").read_bytes()
EDU = PciAddress.parse("0000:42:00.0")
PLAN = PlacementPlan(
    guest="g1",
    gpus=(PlannedGpu(host=EDU, guest_cell=0, host_node=0, alias="ua-gpu0", root_port_bus=2),),
    cells=(GuestCell(id=0, host_node=0, vcpus=(0,), memory_mib=1408),),
    vcpupin={0: 1},
    emulatorpin=(0,),
    hugepage_kib=2048,
    threads_per_core=1,
    distances={0: {0: 10}},
)


def qmp() -> dict[str, str]:
    memdev = {"id": "ram-node0", "size": 1408 << 20, "policy": "bind", "host-nodes": [0]}
    return dict(
        transcripts.answers(
            cpus=[{"cpu-index": 0, "thread-id": 1182, "props": {"node-id": 0}}],
            memdevs=[memdev],
            host="0000:42:00.0",
            node0="Host virtual address for 0x0 (ram-node0) is 0x7f750fe00000",
        )
    )


def test_the_transcript_says_who_runs_where() -> None:
    read = parse_host(RAW)
    assert read.pid == 1171
    assert [(t.name, t.cpus) for t in read.tasks] == [
        ("qemu-system-x86", (0,)),
        ("qemu-system-x86", (0,)),
        ("TC tc-ram-node0", (0,)),
        ("worker", (0,)),
        ("IO mon_iothread", (0,)),
        ("CPU 0/KVM", (1,)),
    ]
    assert [(t.name, t.cpus) for t in read.kernel_tasks] == [
        ("kvm-nx-lpage-recovery-1171", (0,)),
        ("vhost-1171", (0,)),
        ("kvm-pit/1171", (0, 1, 2, 3, 4, 5, 6, 7)),
    ]
    assert read.locked_bytes_limit == (1408 << 20) + (1 << 30)  # libvirt: guest memory and 1 GiB for VFIO


def test_the_guest_is_where_it_should_be_but_for_kvms_timer_thread() -> None:
    seen = assemble(PLAN, parse_host(RAW), parse_qmp(qmp()), None)
    assert compare_threads(PLAN, seen) == ()
    assert compare_memory(PLAN, seen, memory_share=1.0) == ()
    assert seen.memory[0].pages == {0: 1408 << 20}
    loose = compare_kernel_threads(PLAN, seen)
    assert [(d.what, d.observed) for d in loose] == [("kernel thread kvm-pit/1171", "CPUs 0-7")]
    gpu = seen.gpus[0]
    assert (gpu.alias, gpu.host_driver, gpu.iommu_group, gpu.held) == ("ua-gpu0", "vfio-pci", 15, True)


def test_a_device_that_the_process_does_not_hold_is_told_apart() -> None:
    read = parse_host(RAW)
    other = read.devices[PciAddress.parse("0000:82:00.0")]
    assert (other.driver, other.iommu_group) == (None, 11)
    assert f"/dev/vfio/{other.iommu_group}" not in read.vfio_nodes
