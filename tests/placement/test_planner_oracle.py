"""The planner against brute force on hosts nobody drew by hand."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.planner import plan
from harness.serial import from_data, to_data
from tests.placement.hosts import HUGE_1G, HUGE_2M, GpuSpec, host
from tests.placement.oracle import assert_right, best_set, gpus_of

POLICY = PlacementPolicy()
CALM = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def hosts(draw: st.DrawFn, *, most: int = 8) -> HostFacts:
    nodes = draw(st.integers(1, 4))
    specs = []
    for index in range(draw(st.integers(1, most))):
        # A group of its own, or that of the GPU before.
        shared = index > 0 and draw(st.integers(0, 5)) == 0
        specs.append(
            GpuSpec(
                node=draw(st.integers(0, nodes - 1)),
                root=draw(st.sampled_from((None, None, 0x70))),
                switch=draw(st.sampled_from((None, 0, 1))),
                group=100 + index - 1 if shared and specs[-1].group is None else None,
                companions=draw(st.sampled_from(((), ("040300",)))),
            )
        )
    values = draw(st.lists(st.sampled_from((11, 12, 21, 32)), min_size=16, max_size=16))
    rows = [[10 if i == j else values[min(i, j) * 4 + max(i, j)] for j in range(nodes)] for i in range(nodes)]
    return host(
        specs,
        nodes=nodes,
        cores=draw(st.integers(9, 24)),
        threads=draw(st.sampled_from((1, 2))),
        hugepages=draw(st.sampled_from((None, {HUGE_2M: 8192}, {HUGE_1G: 32}))),
        distances=rows,
    )


@CALM
@given(hosts(), st.integers(1, 8))
def test_the_chosen_gpus_are_those_that_brute_force_finds(facts: HostFacts, wanted: int) -> None:
    answer = plan(facts, GuestRequest(name="g", gpus=wanted), POLICY, VFIO)
    best = best_set(facts, gpus_of(facts), wanted)
    if best is None:
        assert isinstance(answer, NoPlan)
        codes = {reason.code for reason in answer.reasons}
        assert codes & {"too_few_gpus", "group_shared"}
        return
    assert isinstance(answer, PlacementPlan)
    assert sorted(gpu.host for gpu in answer.gpus) == best
    assert_right(facts, answer)


@CALM
@given(hosts(), st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_guest_after_guest_each_gets_the_best_of_what_is_left(facts: HostFacts, sizes: list[int]) -> None:
    placed: tuple[PlacementPlan, ...] = ()
    for number, wanted in enumerate(sizes):
        held = {function for p in placed for function in p.hostdevs}
        left = [d for d in gpus_of(facts) if d.address not in held]
        answer = plan(facts, GuestRequest(name=f"g{number}", gpus=wanted), POLICY, VFIO, placed)
        best = best_set(facts, left, wanted)
        if best is None:
            assert isinstance(answer, NoPlan)
            continue
        assert isinstance(answer, PlacementPlan)
        assert sorted(gpu.host for gpu in answer.gpus) == best
        assert_right(facts, answer, given=placed)
        placed = (*placed, answer)


def _vandalise(data: Any, draw: Any) -> Any:
    """Replace some leaves of JSON-like data by things that do not belong there but keep the types."""
    if isinstance(data, dict):
        return {key: _vandalise(value, draw) for key, value in data.items()}
    if isinstance(data, list):
        kept = [_vandalise(value, draw) for value in data]
        return kept if draw(st.integers(0, 30)) else kept[: len(kept) // 2]
    if isinstance(data, bool) or data is None or draw(st.integers(0, 25)):
        return data
    if isinstance(data, int):
        return draw(st.sampled_from((-1, 0, 1, 3, 255, 1 << 40)))
    if isinstance(data, str) and ":" not in data:
        return draw(st.sampled_from(("", "\x1b[31m", "<b>", "030200", "1a03")))
    return data


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(hosts(most=5), st.integers(0, 5), st.data())
def test_damaged_facts_give_a_sound_plan_or_reasons_and_never_an_exception(
    facts: HostFacts, wanted: int, data: st.DataObject
) -> None:
    damaged = from_data(HostFacts, _vandalise(to_data(facts), data.draw))
    answer = plan(damaged, GuestRequest(name="g", gpus=wanted), POLICY, VFIO)
    if isinstance(answer, NoPlan):
        assert answer.reasons
        return
    assert len(answer.gpus) == wanted
    online = {cpu for node in damaged.numa_nodes for cpu in node.cpus}
    assert len(set(answer.vcpupin.values())) == len(answer.vcpupin) > 0
    assert set(answer.vcpupin.values()) <= online
    assert not set(answer.vcpupin.values()) & set(answer.emulatorpin)
    assert all(cell.memory_mib >= 64 for cell in answer.cells)
