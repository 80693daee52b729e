"""Putting the three readings together: identities by name and address, doubts in words."""

from __future__ import annotations

import pytest

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.model.placement import GuestCell, ObservedPlacement, PlacementPlan, PlannedGpu
from harness.placement.observe.compare import compare
from harness.placement.observe.observed import observe
from tests.placement.observe import transcripts as made

EDU = PciAddress.parse("0000:82:00.0")
PLAN = PlacementPlan(
    guest="g1",
    gpus=(PlannedGpu(host=EDU, guest_cell=1, host_node=1, alias="ua-gpu0", root_port_bus=4),),
    cells=(
        GuestCell(id=0, host_node=0, vcpus=(0,), memory_mib=128),
        GuestCell(id=1, host_node=1, vcpus=(1,), memory_mib=128),
    ),
    vcpupin={0: 1},
    emulatorpin=(0,),
    hugepage_kib=2048,
    threads_per_core=1,
    distances={0: {0: 10, 1: 21}, 1: {0: 21, 1: 10}},
)


def seen(
    *, host: bytes | None = None, qmp: dict[str, str] | None = None, guest: bytes | None = None
) -> ObservedPlacement:
    return observe(PLAN, host=host or made.host(), qmp=qmp or made.answers(), guest=guest or made.guest())


def test_the_identity_map_runs_through_every_layer() -> None:
    gpu = seen().gpus[0]
    assert (gpu.host, gpu.alias, gpu.qom_root_port, str(gpu.guest)) == (
        EDU,
        "ua-gpu0",
        "pci.4",
        "0000:ff:00.0",
    )
    assert (gpu.guest_vendor_device, gpu.qemu_vendor_device) == ("1234:11e8", "1234:11e8")
    assert str(gpu.guest_root_port_address) == str(gpu.qemu_root_port_address) == "0000:fe:00.0"
    assert (gpu.guest_numa_node, gpu.guest_local_cpus, gpu.host_driver) == (1, (1,), "vfio-pci")
    assert (gpu.iommu_group, gpu.held) == (11, True)


def test_threads_are_told_apart_by_qemus_thread_ids_and_not_by_their_names() -> None:
    lines = made.TASKS.replace("CPU 0/KVM", "innocent").replace("qemu-system-x86", "CPU 0/KVM")
    threads = seen(host=made.host(tasks=lines, tasks_again=lines)).threads
    assert [(t.tid, t.vcpu, t.cgroup_cpus, t.kernel) for t in threads] == [
        (70, None, (0,), False),
        (72, 0, (1,), False),
        (75, None, None, True),
    ]


def test_only_the_loose_kernel_thread_differs_from_the_plan() -> None:
    found = compare(PLAN, seen(), memory_share=0.99)
    assert [(d.what, d.planned, d.observed) for d in found] == [
        ("kernel thread vhost-70", "CPUs 0 (emulator)", "CPUs 0-7")
    ]
    assert seen().problems == ()


def test_a_thread_that_could_not_be_read_is_named() -> None:
    half = made.TASKS + "/proc/70/task/90/status:Name:\tworker\n"
    found = seen(host=made.host(tasks_again=half))
    assert found.problems == ("threads: thread 90 (worker) could not be read",)


def test_another_guests_process_is_not_taken_for_this_one() -> None:
    other = made.OPTIONS.replace("guest=shakedown-r-g1,", "guest=shakedown-r-g11,")
    (problem,) = seen(host=made.host(options=other)).problems
    assert "is not the QEMU of guest shakedown-r-g1" in problem


def test_a_process_asked_for_by_its_number_must_be_named_like_the_plan() -> None:
    (problem,) = seen(host=made.host(target="70\n")).problems
    assert "is not the QEMU of guest g1" in problem
    named = made.OPTIONS.replace("shakedown-r-g1", "g1")
    assert seen(host=made.host(target="70\n", options=named)).problems == ()


def test_an_unread_guest_is_a_doubt_and_no_view() -> None:
    found = observe(PLAN, host=made.host(), qmp=made.answers(), guest=None)
    assert found.guest_nodes == ()
    assert found.problems == ("guest: the guest's view of its hardware was not read",)


def test_a_device_that_nobody_planned_is_listed() -> None:
    found = seen(qmp=made.answers(host="0000:81:00.0"))
    assert [(str(g.host), g.alias) for g in found.gpus] == [
        ("0000:82:00.0", None),
        ("0000:81:00.0", "ua-gpu0"),
    ]


def test_a_device_whose_host_address_qemu_hides_is_a_doubt() -> None:
    answers = {key: value for key, value in made.answers().items() if "qom-get" not in key}
    found = seen(qmp=answers)
    assert found.gpus[0].alias is None
    assert found.problems == ("devices: QEMU does not report which host device ua-gpu0 is",)


def test_a_device_not_looked_at_on_the_host_is_a_doubt() -> None:
    parts = {title: text for title, text in made.host_parts().items() if not title.startswith("device")}
    found = seen(host=made.frame("host", parts))
    assert found.problems == ("devices: 0000:82:00.0 was not read on the host",)
    assert (found.gpus[0].host_driver, found.gpus[0].held) == (None, None)


def test_a_device_behind_the_new_vfio_node_is_held_too() -> None:
    fds = "lrwx------ 1 root root 64 Nov 22 03:20 23 -> /dev/vfio/devices/vfio0\n"
    assert seen(host=made.host(fds=fds)).gpus[0].held is True
    other = "lrwx------ 1 root root 64 Nov 22 03:20 23 -> /dev/vfio/devices/vfio1\n"
    assert seen(host=made.host(fds=other)).gpus[0].held is False
    assert seen(host=made.host(fds="")).gpus[0].held is None


MEMFD = made.NAMED.replace(
    "file=/dev/hugepages/libvirt/qemu/1-g1/qemu_back_mem.ram-node0.u8uxWa", "file=/memfd:memory-backend-memfd"
).replace(
    "file=/dev/hugepages/libvirt/qemu/1-g1/qemu_back_mem.ram-node1.AbCdEf", "file=/memfd:memory-backend-memfd"
)
ANONYMOUS = (
    "7f0000000000 bind:0 anon=32768 dirty=32768 N0=32768 kernelpagesize_kB=4\n"
    "7f0010000000 bind:1 anon=16384 dirty=16384 N1=16384 kernelpagesize_kB=4\n"
    "7f0014000000 bind:1 anon=16384 dirty=16384 N0=384 N1=16000 kernelpagesize_kB=4\n"
    "7f0018000000 default anon=1000 N0=1000 kernelpagesize_kB=4\n"
)
NO_ADDRESS = {"node0": "Memory at address 0x0 is not RAM", "node1": "Memory at address 0x8000000 is not RAM"}


def blocks(**kwargs: object) -> list[tuple[str, int | None, dict[int, int], int | None, str | None]]:
    found = seen(**kwargs)  # type: ignore[arg-type]
    return [(m.memdev, m.guest_cell, m.pages, m.page_kib, m.kernel_policy) for m in found.memory]


def test_equal_blocks_are_told_apart_by_name() -> None:
    assert blocks(qmp=made.answers(**NO_ADDRESS)) == [
        ("ram-node0", 0, {0: 128 << 20}, 2048, "bind:0"),
        ("ram-node1", 1, {1: 128 << 20}, 2048, "bind:1"),
    ]


@pytest.mark.parametrize("maps", [made.NAMED, MEMFD])
def test_equal_blocks_are_told_apart_by_address(maps: str) -> None:
    assert blocks(host=made.host(numa_maps=maps)) == [
        ("ram-node0", 0, {0: 128 << 20}, 2048, "bind:0"),
        ("ram-node1", 1, {1: 128 << 20}, 2048, "bind:1"),
    ]


def test_a_block_in_several_anonymous_mappings_is_counted_whole() -> None:
    assert blocks(host=made.host(numa_maps=ANONYMOUS)) == [
        ("ram-node0", 0, {0: 128 << 20}, 4, "bind:0"),
        ("ram-node1", 1, {0: 384 << 12, 1: 32384 << 12}, 4, "bind:1"),
    ]


@pytest.mark.parametrize("maps", [MEMFD, ANONYMOUS])
def test_nameless_blocks_without_an_address_are_a_doubt_and_not_a_guess(maps: str) -> None:
    found = seen(host=made.host(numa_maps=maps), qmp=made.answers(**NO_ADDRESS))
    assert [m.kernel_policy for m in found.memory] == [None, None]
    assert len(found.problems) == 2
    assert all(p.startswith("memory: the mapping of RAM block") for p in found.problems)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ("7f0000100000 bind:0 N0=9 kernelpagesize_kB=4\n", "no mapping begins at 0x7f0000000000"),
        ("7f0000000000 default file=/srv/image mapped=9 N0=9 kernelpagesize_kB=4\n", "but /srv/image"),
        ("7f0000000000 bind:0 N0=65536 kernelpagesize_kB=4\n", "is larger than the block"),
        (
            made.NAMED.replace("7f0000000000", "7e0000000000")
            + "7f0000000000 bind:0 N0=9 kernelpagesize_kB=4\n",
            "at different places by QEMU's address and by its name",
        ),
    ],
)
def test_a_mapping_that_may_not_be_the_block_is_a_doubt(maps: str, words: str) -> None:
    found = seen(host=made.host(numa_maps=maps))
    assert found.memory[0].kernel_policy is None
    assert words in found.problems[0]


def test_blocks_with_two_policies_show_both() -> None:
    maps = ANONYMOUS.replace("7f0014000000 bind:1", "7f0014000000 default")
    assert blocks(host=made.host(numa_maps=maps))[1][4] == "bind:1, default"


def test_a_similar_name_is_another_block() -> None:
    maps = made.NAMED.replace("ram-node0.", "ram-node00.")
    found = seen(host=made.host(numa_maps=maps), qmp=made.answers(**NO_ADDRESS))
    assert [m.kernel_policy for m in found.memory] == [None, "bind:1"]


def test_a_block_of_no_cell_is_no_cells() -> None:
    found = seen(host=made.host(options="-name\nguest=shakedown-r-g1\n"))
    assert [m.guest_cell for m in found.memory] == [None, None]
    assert found.problems == ()


def test_damaged_transcripts_are_refused() -> None:
    with pytest.raises(ParseError):
        seen(host=b"Connection closed")
    with pytest.raises(ParseError):
        seen(qmp={"x": "y"})
    with pytest.raises(ParseError):
        seen(guest=b"login:")
