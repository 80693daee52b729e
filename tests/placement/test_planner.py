"""The planner's rules, one by one."""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Any

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GpuSelector, GuestRequest, PlacementPolicy
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import Domain, HostFacts, HugepagePool
from harness.placement.planner import plan
from tests.placement.hosts import (
    GIB,
    HUGE_1G,
    HUGE_2M,
    MIB,
    GpuSpec,
    device,
    gpu_address,
    host,
    lab_like,
    with_device,
    with_node,
)
from tests.placement.oracle import assert_right


def planned(facts: HostFacts, gpus: int, *given: PlacementPlan, policy: Any = None, **request: Any) -> Any:
    answer = plan(
        facts,
        GuestRequest(name=f"g{len(given)}", gpus=gpus, **request),
        policy or PlacementPolicy(),
        VFIO,
        given,
    )
    assert isinstance(answer, PlacementPlan), answer
    if gpus and not request:
        assert_right(facts, answer, policy, given)
    return answer


def refused(
    facts: HostFacts, gpus: int, *given: PlacementPlan, policy: Any = None, **request: Any
) -> set[str]:
    answer = plan(
        facts,
        GuestRequest(name=f"g{len(given)}", gpus=gpus, **request),
        policy or PlacementPolicy(),
        VFIO,
        given,
    )
    assert isinstance(answer, NoPlan), answer
    assert all(reason.message for reason in answer.reasons)
    assert len(set(answer.reasons)) == len(answer.reasons), "a reason said twice"
    return {reason.code for reason in answer.reasons}


def chosen(answer: PlacementPlan) -> list[int]:
    """Indexes of the specs whose GPUs were chosen."""
    return sorted(gpu.host.bus - 0xC0 for gpu in answer.gpus)


# Shares


def test_each_gpu_of_the_lab_owns_one_core_and_a_third_of_its_nodes_pages() -> None:
    """Four cores, one reserved, two GPUs: floor(3 / 2) is one, and one of three guest cores."""
    answer = planned(lab_like(), 1)
    assert answer.vcpupin == {0: 1}
    assert answer.emulatorpin == (0,)
    assert answer.hugepage_kib == 2048
    assert answer.memory_mib == 2048 * 2 // 3 // 2 * 2


def test_shares_on_threads_are_whole_cores_with_siblings_side_by_side() -> None:
    answer = planned(host([GpuSpec(), GpuSpec()], nodes=1, cores=8, threads=2), 1)
    assert answer.threads_per_core == 2
    assert answer.vcpupin == {0: 1, 1: 9, 2: 2, 3: 10, 4: 3, 5: 11}
    assert answer.emulatorpin == (0, 8)


def test_a_smaller_request_gets_less_rounded_up_to_whole_cores() -> None:
    answer = planned(host([GpuSpec()], cores=8, threads=2), 1, vcpus_per_gpu=3, memory_mib_per_gpu=1000)
    assert len(answer.vcpupin) == 4
    assert answer.memory_mib == 1000


def test_more_than_the_share_is_refused() -> None:
    facts = host([GpuSpec(), GpuSpec()], nodes=1, cores=8)
    assert refused(facts, 1, vcpus_per_gpu=4) == {"too_few_gpus", "vcpus_exceed_share"}
    assert refused(facts, 1, memory_mib_per_gpu=60 << 10) == {"too_few_gpus", "memory_exceeds_share"}


def test_more_gpus_than_cores_leave_no_whole_core_each() -> None:
    assert refused(host([GpuSpec()] * 4, nodes=1, cores=4), 1) == {"too_few_gpus", "too_few_cores"}


def test_broken_gpus_keep_their_share_so_that_others_do_not_grow() -> None:
    facts = lab_like(cores=9)
    whole = planned(facts, 1)
    broken = with_device(facts, gpu_address(0), config_ok=False)
    other = planned(broken, 1)
    assert len(other.vcpupin) == len(whole.vcpupin) == 4


def test_offline_cpus_are_never_used_and_their_core_is_handed_to_nobody() -> None:
    facts = host([GpuSpec()], nodes=1, cores=4, threads=2, offline=(6,))
    answer = planned(dataclasses.replace(facts), 1, vcpus_per_gpu=4)
    assert set(answer.vcpupin.values()) == {1, 5, 3, 7}


def test_isolated_cores_are_the_guests_and_the_emulator_keeps_off_them() -> None:
    answer = planned(host([GpuSpec()], nodes=1, cores=4, isolated=(0, 1, 2)), 1)
    assert answer.emulatorpin == (3,)
    assert sorted(answer.vcpupin.values()) == [0, 1, 2]


def test_reserved_cores_are_as_many_as_the_policy_says() -> None:
    policy = PlacementPolicy(reserved_cores_per_node=3)
    answer = planned(host([GpuSpec()], nodes=1, cores=8), 1, policy=policy)
    assert answer.emulatorpin == (0, 1, 2)
    assert len(answer.vcpupin) == 5


def test_without_a_reserved_core_the_emulator_has_no_place() -> None:
    policy = PlacementPolicy(reserved_cores_per_node=0)
    assert refused(lab_like(), 1, policy=policy) == {"too_few_gpus", "no_emulator_core"}


def test_a_policy_with_negative_numbers_and_absurd_requests_are_refused() -> None:
    assert refused(lab_like(), 1, policy=PlacementPolicy(reserved_cores_per_node=-1)) == {"bad_policy"}
    assert refused(lab_like(), -1) == {"bad_request"}
    assert refused(lab_like(), 10_000) == {"bad_request"}
    assert refused(lab_like(), 1, vcpus_per_gpu=0) == {"bad_request"}
    assert refused(lab_like(), 1, memory_mib_per_gpu=1) == {"bad_request"}


# Memory


def test_without_hugepages_memory_comes_in_ordinary_pages_less_what_the_host_keeps() -> None:
    answer = planned(host([GpuSpec(), GpuSpec()], nodes=1, cores=9, memory=64 * GIB), 1)
    assert answer.hugepage_kib is None
    assert answer.memory_mib == (64 - 1) * 1024 // 2


def test_hugepages_are_left_alone_when_the_policy_says_so() -> None:
    policy = PlacementPolicy(use_hugepages=False)
    answer = planned(host([GpuSpec()], nodes=1, hugepages={HUGE_2M: 8192}), 1, policy=policy)
    assert answer.hugepage_kib is None
    assert answer.memory_mib == (64 - 16 - 1) * 1024, "what is set aside as hugepages is nobody's memory"


def test_gibibyte_pages_back_the_guest_where_they_give_as_much() -> None:
    facts = host([GpuSpec()], nodes=1, hugepages={HUGE_1G: 32, HUGE_2M: 1024})
    answer = planned(facts, 1)
    assert (answer.hugepage_kib, answer.memory_mib) == (1 << 20, 32 << 10)


def test_of_the_page_sizes_the_largest_that_fits_the_request_exactly_is_taken() -> None:
    facts = host([GpuSpec()], nodes=1, hugepages={HUGE_1G: 8, HUGE_2M: 8192})
    assert planned(facts, 1, memory_mib_per_gpu=4096).hugepage_kib == 1 << 20
    assert planned(facts, 1, memory_mib_per_gpu=1500).hugepage_kib == 2 << 10
    assert planned(facts, 1, memory_mib_per_gpu=12 << 10).hugepage_kib == 2 << 10, "8 GiB pages are too few"


def test_hugepages_are_counted_per_node_and_never_summed() -> None:
    """Plenty on node 0 does not help a guest that needs node 1."""
    facts = host([GpuSpec(node=0), GpuSpec(node=1)], hugepages={HUGE_2M: 8192})
    facts = with_node(facts, 1, hugepages={HUGE_2M: HugepagePool(total=8192, free=0)})
    assert refused(facts, 2) == {"hugepages_short"}
    assert planned(facts, 1).cells[0].host_node == 0


def test_hugepages_that_ran_out_are_a_reason_and_not_a_silent_fall_back() -> None:
    facts = lab_like()
    first = planned(facts, 2)
    hungry = dataclasses.replace(first, guest="g9", gpus=(), vcpupin={}, emulatorpin=())
    hungry = dataclasses.replace(
        hungry, cells=(dataclasses.replace(first.cells[0], vcpus=(), memory_mib=4096 - 1000),)
    )
    second = planned(facts, 2, hungry)
    assert second.cells[0].host_node == 1, "node 0 has lost its pages to the other guest"
    assert "hugepages_short" in refused(facts, 2, hungry, second)


def test_where_one_node_has_no_hugepages_a_spanning_guest_has_ordinary_pages() -> None:
    facts = with_node(lab_like(), 1, hugepages={})
    assert planned(facts, 2).hugepage_kib == 2048
    assert planned(facts, 3).hugepage_kib is None


@pytest.mark.parametrize("domain", ["g0", "shakedown-run-7-g0"])
def test_pages_of_a_guest_that_runs_are_not_subtracted_twice(domain: str) -> None:
    """It is known by its name or, where the domain is called otherwise, by its devices."""
    facts = lab_like()
    first = planned(facts, 1)
    pages = first.memory_mib // 2
    running = with_node(facts, 0, hugepages={HUGE_2M: HugepagePool(total=2048, free=2048 - pages)})
    running = dataclasses.replace(
        running, domains=(Domain(name=domain, uuid=None, pid=7, hostdevs=first.hostdevs),)
    )
    planned_only = planned(facts, 1, first)
    while_running = plan(running, GuestRequest(name="g1", gpus=1), PlacementPolicy(), VFIO, (first,))
    assert while_running == planned_only


# Which GPUs


def packings() -> list[tuple[int, ...]]:
    return sorted(
        {
            order
            for p in ((1, 1, 1, 1), (2, 2), (1, 3), (4,), (1, 1, 2))
            for order in itertools.permutations(p)
        }
    )


LAYOUTS = {
    "two and two": [0, 0, 1, 1],
    "three and one": [0, 0, 0, 1],
    "one and three": [0, 1, 1, 1],
    "all on one": [0, 0, 0, 0],
    "interleaved": [0, 1, 0, 1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packing", packings(), ids=str)
def test_every_packing_of_four_gpus_fits_guest_after_guest(layout: str, packing: tuple[int, ...]) -> None:
    facts = host([GpuSpec(node=n) for n in LAYOUTS[layout]], cores=9, hugepages={HUGE_2M: 8192})
    placed: tuple[PlacementPlan, ...] = ()
    for size in packing:
        placed = (*placed, planned(facts, size, *placed))
    assert len({f for p in placed for f in p.hostdevs}) == 4


@pytest.mark.parametrize("packing", [(1, 1, 2), (2, 1, 1), (1, 2, 1), (2, 2), (1, 3), (3, 1)], ids=str)
def test_no_packing_of_two_and_two_spans_more_nodes_than_it_must(packing: tuple[int, ...]) -> None:
    facts = lab_like()
    placed: tuple[PlacementPlan, ...] = ()
    for size in packing:
        placed = (*placed, planned(facts, size, *placed))
        assert len(placed[-1].cells) == (2 if size > 2 else 1)


def test_a_single_gpu_comes_from_the_node_that_is_broken_into_already() -> None:
    facts = host([GpuSpec(node=n) for n in (0, 0, 0, 1)])
    assert chosen(planned(facts, 1)) == [3], "node 0 stays whole for three"


def test_what_is_left_over_stays_close_together() -> None:
    """Nodes 0 and 1 are near each other, and 2 and 3: the second guest takes the first's neighbour."""
    rows = [[10, 12, 32, 32], [12, 10, 32, 32], [32, 32, 10, 12], [32, 32, 12, 10]]
    facts = host([GpuSpec(node=n) for n in range(4)], nodes=4, distances=rows)
    first = planned(facts, 1)
    assert chosen(planned(facts, 1, first)) == [1]


def test_a_guest_over_two_nodes_takes_the_closest_two() -> None:
    rows = [[10, 32, 32, 32], [32, 10, 32, 12], [32, 32, 10, 32], [32, 12, 32, 10]]
    facts = host([GpuSpec(node=n) for n in range(4)], nodes=4, distances=rows)
    answer = planned(facts, 2)
    assert chosen(answer) == [1, 3]
    assert answer.distances == {0: {0: 10, 1: 12}, 1: {0: 12, 1: 10}}


def test_two_gpus_come_from_under_one_switch() -> None:
    facts = host([GpuSpec(switch=s) for s in (0, 1, 1, 0)], nodes=1)
    assert chosen(planned(facts, 2)) == [0, 3]


def test_two_gpus_come_from_under_one_root_complex() -> None:
    facts = host([GpuSpec(root=r) for r in (0x20, 0x30, 0x40, 0x30)], nodes=1)
    assert chosen(planned(facts, 2)) == [1, 3]


def test_a_single_gpu_leaves_full_switches_whole() -> None:
    facts = host([GpuSpec(switch=s) for s in (0, 0, 1)], nodes=1)
    assert chosen(planned(facts, 1)) == [2]


def test_a_distance_of_ten_to_another_node_becomes_eleven_in_the_guest() -> None:
    facts = host([GpuSpec(node=0), GpuSpec(node=1)], far=10)
    assert planned(facts, 2).distances == {0: {0: 10, 1: 11}, 1: {0: 11, 1: 10}}


def test_unknown_distances_are_no_obstacle() -> None:
    facts = lab_like()
    for node in (0, 1):
        facts = with_node(facts, node, distances={})
    assert planned(facts, 3).distances == {0: {0: 10, 1: 20}, 1: {0: 20, 1: 10}}


# IOMMU groups and companions


def test_companion_functions_travel_with_their_gpu() -> None:
    answer = planned(lab_like(), 4)
    along = {str(g.host): [str(c) for c in g.companions] for g in answer.gpus}
    assert along == {
        "0000:c0:00.0": ["0000:c0:00.1"],
        "0000:c1:00.0": [],
        "0000:c2:00.0": ["0000:c2:00.1"],
        "0000:c3:00.0": [],
    }


def test_two_gpus_of_one_group_go_to_one_guest_or_to_none() -> None:
    facts = host([GpuSpec(group=7), GpuSpec(group=7)], nodes=1)
    assert refused(facts, 1) == {"group_shared"}
    assert chosen(planned(facts, 2)) == [0, 1]


def test_a_group_of_all_gpus_over_two_nodes_fits_only_the_guest_that_takes_all() -> None:
    facts = host([GpuSpec(node=i // 2, group=7) for i in range(4)])
    for size in (1, 2, 3):
        assert refused(facts, size) == {"group_shared"}
    assert chosen(planned(facts, 4)) == [0, 1, 2, 3]


def test_a_single_gpu_does_not_come_from_a_group_of_two_and_two_take_the_group() -> None:
    facts = host([GpuSpec(group=7), GpuSpec(group=7), GpuSpec(), GpuSpec()], nodes=1)
    assert chosen(planned(facts, 1)) == [2]
    assert chosen(planned(facts, 2)) == [0, 1], "the two others could still serve two guests"


def test_a_group_split_by_a_placed_guest_refuses_its_rest() -> None:
    facts = host([GpuSpec(group=7), GpuSpec(group=7)], nodes=1)
    both = planned(facts, 2)
    half = dataclasses.replace(both, gpus=both.gpus[:1], guest="other")
    assert refused(facts, 1, half) == {"too_few_gpus", "already_placed", "group_shared"}


@pytest.mark.parametrize("class_code", ["020000", "010802", "0c0330"])
def test_a_group_with_somebody_elses_endpoint_cannot_be_handed_over(class_code: str) -> None:
    foreign = device(PciAddress(0, 5, 0, 0), class_code=class_code, iommu_group=100, vendor="8086")
    assert refused(host([GpuSpec()], extra=(foreign,)), 1) == {"too_few_gpus", "group_foreign"}


def test_a_network_function_on_the_gpus_own_slot_cannot_travel_either() -> None:
    facts = host([GpuSpec(companions=("020000",))])
    assert refused(facts, 1) == {"too_few_gpus", "group_foreign"}


def test_a_bridge_in_the_group_stays_where_it_is_and_does_no_harm() -> None:
    bridge = device(PciAddress(0, 0x10, 0, 0), class_code="060400", header_type=1, iommu_group=100)
    answer = plan(host([GpuSpec()], extra=(bridge,)), GuestRequest(name="g", gpus=1), PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan)
    assert answer.hostdevs == (gpu_address(0),)


def test_a_companion_that_the_host_file_excludes_keeps_its_gpu_back() -> None:
    facts = host([GpuSpec(companions=("040300",))])
    policy = PlacementPolicy(selector=GpuSelector(exclude=(gpu_address(0, 1),)))
    assert refused(facts, 1, policy=policy) == {"too_few_gpus", "group_foreign"}


def test_a_healthy_gpu_in_a_group_with_a_dead_one_says_whom_to_blame() -> None:
    facts = host([GpuSpec(group=7), GpuSpec(group=7)], nodes=1)
    facts = with_device(facts, gpu_address(1), config_ok=False)
    assert refused(facts, 1) == {"too_few_gpus", "group_blocked", "config_unreadable"}


# Devices that cannot be handed out


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"vanished": True}, "vanished"),
        ({"config_ok": False}, "config_unreadable"),
        ({"numa_node": None}, "numa_unknown"),
        ({"numa_node": 9}, "node_missing"),
        ({"sriov_totalvfs": 8, "sriov_numvfs": 4}, "sriov_in_use"),
    ],
)
def test_a_gpu_that_cannot_be_handed_out_says_why(change: dict[str, Any], code: str) -> None:
    facts = with_device(host([GpuSpec(), GpuSpec(node=1)]), gpu_address(0), **change)
    assert refused(facts, 2) == {"too_few_gpus", code}
    assert chosen(planned(facts, 1)) == [1]


def test_a_gpu_outside_any_iommu_group_cannot_be_handed_out() -> None:
    facts = with_device(host([GpuSpec()]), gpu_address(0), iommu_group=None)
    facts = dataclasses.replace(facts, iommu=dataclasses.replace(facts.iommu, groups=()))
    assert refused(facts, 1) == {"too_few_gpus", "no_iommu_group"}


def test_an_unknown_node_is_no_question_on_a_host_of_one_node() -> None:
    facts = with_device(host([GpuSpec()], nodes=1), gpu_address(0), numa_node=None)
    assert planned(facts, 1).gpus[0].host_node == 0


def test_a_device_in_use_by_a_running_domain_is_refused_companions_included() -> None:
    domain = Domain(name="theirs", uuid=None, pid=1, hostdevs=(gpu_address(0, 1),))
    facts = host([GpuSpec(companions=("040300",))], domains=(domain,))
    assert refused(facts, 1) == {"too_few_gpus", "in_use"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"cpus": ()}, "node_without_cpus"),
        ({"memory_bytes": 0}, "node_without_memory"),
        ({"memory_bytes": None}, "memory_unknown"),
        ({"memory_bytes": 900 * MIB}, "too_little_memory"),
        ({"cpus": (0, 1, 4000)}, "topology_unknown"),
    ],
)
def test_a_node_that_can_serve_no_guest_says_why(change: dict[str, Any], code: str) -> None:
    facts = with_node(host([GpuSpec(node=0), GpuSpec(node=1)]), 0, **change)
    assert code in refused(facts, 2)
    assert chosen(planned(facts, 1)) == [1]


def test_every_reason_is_said_and_not_only_the_first() -> None:
    facts = host([GpuSpec(), GpuSpec(), GpuSpec(node=1), GpuSpec(node=1)], cores=8)
    facts = with_device(facts, gpu_address(0), numa_node=None)
    facts = with_device(facts, gpu_address(1), config_ok=False, vanished=True)
    facts = with_node(facts, 1, memory_bytes=0)
    policy = PlacementPolicy(selector=GpuSelector(addresses=(PciAddress.parse("0000:0f:00.0"),)))
    assert refused(facts, 4, policy=policy) == {
        "too_few_gpus",
        "numa_unknown",
        "config_unreadable",
        "vanished",
        "node_without_memory",
        "gpu_listed_missing",
    }


# Guests already placed


def test_given_plans_of_another_host_or_at_odds_with_each_other_are_refused() -> None:
    facts = lab_like()
    first = planned(facts, 1)
    foreign = dataclasses.replace(first, vcpupin={0: 99})
    assert refused(facts, 1, foreign) == {"given_mismatch"}
    twin = dataclasses.replace(first, guest="twin")
    assert refused(facts, 1, first, twin) == {"given_conflict"}


def test_a_guests_name_is_taken_once() -> None:
    facts = lab_like()
    first = planned(facts, 1)
    answer = plan(facts, GuestRequest(name="g0", gpus=1), PlacementPolicy(), VFIO, (first,))
    assert isinstance(answer, NoPlan)
    assert [r.code for r in answer.reasons] == ["name_taken"]


def test_cores_taken_by_a_greedy_guest_are_a_reason() -> None:
    facts = lab_like()
    first = planned(facts, 1)
    greedy = dataclasses.replace(first, vcpupin=dict(enumerate((1, 2, 3))))
    second = planned(facts, 2, greedy)
    assert second.cells[0].host_node == 1
    assert "cores_taken" in refused(facts, 1, greedy, second)


def test_emulators_may_share_cores_with_each_other_and_with_no_vcpu() -> None:
    facts = host([GpuSpec(), GpuSpec()], nodes=1, cores=5)
    policy = PlacementPolicy(reserved_cores_per_node=2)
    first = planned(facts, 1, policy=policy)
    assert first.emulatorpin == (0, 1)
    intruder = dataclasses.replace(first, vcpupin={0: 1}, emulatorpin=(0,))
    second = plan(facts, GuestRequest(name="g1", gpus=1), policy, VFIO, (intruder,))
    assert isinstance(second, PlacementPlan)
    assert second.emulatorpin == (0,), "core 1 is under the other guest's vCPU"


# Guests without GPUs


def test_a_guest_without_gpus_lives_on_what_no_gpu_owns() -> None:
    facts = lab_like()
    plain = planned(facts, 0)
    assert plain.gpus == ()
    assert plain.vcpupin == {0: 3}
    placed: tuple[PlacementPlan, ...] = (plain,)
    for _ in range(4):
        placed = (*placed, planned(facts, 1, *placed))
    second = planned(facts, 0, *placed)
    assert second.cells[0].host_node == 1
    assert refused(facts, 0, *placed, second) == {"too_few_cores"}


def test_a_guest_without_gpus_prefers_a_node_without_gpus() -> None:
    facts = host([GpuSpec(node=0)], cores=8)
    answer = planned(facts, 0, vcpus=4, memory_mib=2048)
    assert answer.cells[0].host_node == 1
    assert (len(answer.vcpupin), answer.memory_mib) == (4, 2048)


def test_a_host_whose_cores_all_belong_to_gpus_has_no_room_for_an_ordinary_guest() -> None:
    assert refused(host([GpuSpec()], nodes=1, cores=8), 0) == {"too_few_cores"}
    assert refused(host([], nodes=1, cores=8), 0, memory_mib=100 << 10) == {"too_little_memory"}


# Speed (the ratio is in bench/planner.py; here only that nothing explodes)


@pytest.mark.parametrize("spread", ["one port each", "root bus each"])
def test_sixteen_gpus_on_eight_nodes_are_planned_in_half_a_second(spread: str) -> None:
    specs = [GpuSpec(node=i // 2, root=0x10 + i if spread == "root bus each" else None) for i in range(16)]
    facts = host(specs, nodes=8, cores=8)
    started = time.process_time()
    for size in (1, 7, 8, 9, 16):
        planned(facts, size)
    assert time.process_time() - started < 5 * 0.5


def test_the_same_facts_give_the_same_plan() -> None:
    assert planned(lab_like(), 3) == planned(lab_like(), 3)
