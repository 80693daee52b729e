"""A guest beside others against guests like it alone: the same load, the same share, the same GPUs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.evidence import Answer, Evidence, GuestEvidence, WorkloadResult
from harness.model.gpu import Cards, GpuRef
from harness.model.guest import GuestRequest
from harness.model.inventory import DisturbanceSpec
from harness.model.outcome import Measurement, SubjectKind
from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.planner import plan
from harness.verdict.disturbance import (
    Disturbance,
    beside_others,
    counterparts,
    disturbances,
    not_compared,
)
from harness.verdict.ratio import Finding
from tests.faults import clean

SPEC = DisturbanceSpec()
GPUS = tuple(clean.address(bus) for bus in (0x41, 0x42, 0x81, 0x82))
"""Those of the clean host, all of one model."""
RATE = "pcie.h2d"


def a_result(value: float | None, *, name=RATE, unit="GB/s", subject="", **changes) -> WorkloadResult:
    fields = {
        "workload": "pcie",
        "guest": "",
        "engine": "cuda",
        "key": "k",
        "status": "done",
        "answers": (Answer(name="a", expected="1", got="1", ok=True),),
        "measurements": (Measurement(name=name, value=value, unit=unit, subject=subject),),
    }
    return WorkloadResult(**{**fields, **changes})


def a_guest(called: str, /, *values: float | None, group="", gpu=GPUS[0], **changes) -> GuestEvidence:
    """A guest with one GPU that its loads see under its address on the host; a round for each value."""
    return GuestEvidence(
        name=called,
        request=GuestRequest(name=called, gpus=1),
        workloads=("pcie",),
        group=group,
        cards=Cards(refs=(GpuRef(host=gpu, guest=gpu),), same=True),
        started=True,
        results=tuple(a_result(value, **{"subject": str(gpu), **changes}) for value in values),
    )


def a_run(*guests: GuestEvidence, facts: HostFacts | None = None) -> Evidence:
    return Evidence(
        host="h",
        subject=SubjectKind.HARDWARE,
        profile="p",
        run="r",
        started_at="2026-01-01T00:00:00.000Z",
        ended_at=None,
        facts=facts or clean.facts(),
        guests=guests,
    )


def beside(*values: float | None, **changes) -> GuestEvidence:
    return a_guest("left", *values, group="pair", **changes)


NEIGHBOUR = replace(a_guest("right", 1.0, group="pair", gpu=GPUS[1]), workloads=("vram",))
"""Loaded, with nothing that could be compared."""


def the_figure(mine: GuestEvidence, *alone: GuestEvidence, spec: DisturbanceSpec = SPEC) -> Disturbance:
    (found,) = disturbances(a_run(*alone, mine, NEIGHBOUR), spec)
    return found


@pytest.mark.parametrize(
    ("mine", "alone", "finding", "ratio"),
    [
        ((50.0, 50.0, 50.0), (100.0, 100.0, 100.0), Finding.LOSES, 0.5),
        ((100.0, 100.0, 100.0), (100.0, 100.0, 100.0), Finding.KEEPS, 1.0),
        ((110.0, 110.0, 110.0), (100.0, 100.0, 100.0), Finding.KEEPS, 1.1),
        ((89.0, 92.0, 91.0, 93.0), (100.0, 101.0, 99.0, 100.0), Finding.UNDECIDED, 0.915),
    ],
)
def test_slower_equal_and_faster_beside_neighbours(mine, alone, finding, ratio) -> None:
    found = the_figure(beside(*mine), a_guest("alone", *alone))
    assert (found.finding, found.runs) == (finding, (len(mine), len(alone)))
    assert found.ratio == pytest.approx(ratio)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.ratio <= found.high
    assert (found.device, found.detail) == (GPUS[0], "")


def test_of_a_latency_less_is_better() -> None:
    kind = {"name": "pcie.latency", "unit": "us"}
    alone = a_guest("alone", 10.0, 10.0, 10.0, **kind)
    slow = the_figure(beside(20.0, 20.0, 20.0, **kind), alone)
    assert (slow.ratio, slow.finding) == (0.5, Finding.LOSES)
    assert (slow.beside, slow.alone) == (20.0, 10.0)
    quick = the_figure(beside(8.0, 8.0, 8.0, **kind), alone)
    assert (quick.ratio, quick.finding) == (1.25, Finding.KEEPS)


def test_one_value_on_each_side_is_a_figure_without_an_interval_and_decides_nothing() -> None:
    found = the_figure(beside(10.0), a_guest("alone", 100.0))
    assert (found.ratio, found.low, found.high) == (0.1, None, None)
    assert (found.finding, found.runs, found.undecided) == (Finding.TOO_FEW, (1, 1), True)


def test_a_floor_of_its_own_holds_for_one_measurement() -> None:
    mine, alone = beside(60.0, 60.0, 60.0), a_guest("alone", 100.0, 100.0, 100.0)
    assert the_figure(mine, alone, spec=DisturbanceSpec(floors={RATE: 0.5})).finding is Finding.KEEPS
    assert the_figure(mine, alone, spec=DisturbanceSpec(floors={"pcie.d2h": 0.5})).finding is Finding.LOSES


@pytest.mark.parametrize(
    "changes", [{"engine": "cpu"}, {"name": "pcie.d2h"}, {"unit": "MB/s"}, {"subject": ""}]
)
def test_other_engines_names_units_and_places_are_not_compared(changes) -> None:
    mine = beside(1.0, 1.0, 1.0, **changes)
    found = disturbances(a_run(a_guest("alone", 1.0, 1.0, 1.0), mine, NEIGHBOUR), SPEC)
    assert [(one.finding, one.runs, one.ratio, one.detail) for one in found] == [
        (Finding.NOT_COMPARABLE, (3, 0), None, "not measured alone"),
        (Finding.NOT_COMPARABLE, (0, 3), None, "not measured beside neighbours"),
    ]
    assert not_compared(found) == found[:1]


@pytest.mark.parametrize("values", [(0.0, 0.0, 0.0), (100.0, -1.0, 100.0)])
def test_what_is_not_above_zero_has_no_ratio(values) -> None:
    full = (100.0, 100.0, 100.0)
    for mine, alone in ((values, full), (full, values)):
        found = the_figure(beside(*mine), a_guest("alone", *alone))
        assert (found.finding, found.ratio) == (Finding.NOT_COMPARABLE, None)
        assert found.detail == "a value that is not above zero"


def test_rounds_without_a_value_count_for_nothing() -> None:
    found = the_figure(beside(50.0, None, math.nan), a_guest("alone", 100.0, math.inf, None))
    assert (found.ratio, found.runs, found.finding) == (0.5, (1, 1), Finding.TOO_FEW)


WRONG = Answer(name="a", expected="1", got="2", ok=False)


@pytest.mark.parametrize("changes", [{"status": "timeout"}, {"answers": (WRONG,)}])
def test_the_speed_of_what_failed_or_was_wrong_counts_for_nothing(changes) -> None:
    found = the_figure(beside(1.0, 1.0, 1.0, **changes), a_guest("alone", 100.0, 100.0, 100.0))
    assert (found.finding, found.detail) == (Finding.NOT_COMPARABLE, "not measured beside neighbours")


def test_units_that_are_no_speed_are_left_out() -> None:
    kind = {"name": "pcie.width_under_load", "unit": "1"}
    run = a_run(a_guest("alone", 16.0, **kind), beside(8.0, **kind), NEIGHBOUR)
    assert disturbances(run, SPEC) == ()


def test_guests_alone_have_no_neighbours_and_nothing_to_compare() -> None:
    run = a_run(a_guest("a", 1.0), a_guest("b", 1.0, group="b"), a_guest("c", 1.0, group="c"))
    assert beside_others(run) == ()
    assert disturbances(run, SPEC) == ()
    assert disturbances(a_run(), SPEC) == ()


@pytest.mark.parametrize(
    "other",
    [
        {"gpus": 2},
        {"vcpus_per_gpu": 2},
        {"memory_mib_per_gpu": 512},
    ],
)
def test_a_guest_that_asked_for_something_else_is_no_counterpart(other) -> None:
    alone = a_guest("alone", 1.0)
    unlike = replace(alone, request=replace(alone.request, **other))
    run = a_run(unlike, beside(1.0), NEIGHBOUR)
    assert counterparts(run.guests[1], run) == ()
    assert disturbances(run, SPEC) == ()


def test_a_load_that_only_one_of_them_was_to_run_is_not_compared() -> None:
    alone = replace(a_guest("alone", 1.0), workloads=("vram",))
    assert disturbances(a_run(alone, beside(1.0), NEIGHBOUR), SPEC) == ()


def test_guests_with_neighbours_are_no_counterpart_of_each_other() -> None:
    others = (a_guest("c", 1.0, group="second"), a_guest("d", 1.0, group="second"))
    assert disturbances(a_run(beside(1.0), NEIGHBOUR, *others), SPEC) == ()


def test_a_gpu_is_compared_with_itself_where_it_was_measured_alone() -> None:
    """Cards of one model differ: what one of them loses must not be read off another."""
    same, other = a_guest("a", 100.0), a_guest("b", 200.0, gpu=GPUS[2])
    found = the_figure(beside(100.0), same, other)
    assert (found.ratio, found.runs, found.detail) == (1.0, (1, 1), "")


def test_else_with_all_of_its_model() -> None:
    others = (a_guest("a", 100.0, gpu=GPUS[2]), a_guest("b", 200.0, 300.0, gpu=GPUS[3]))
    found = the_figure(beside(100.0), *others)
    assert (found.ratio, found.runs, found.detail) == (0.5, (1, 3), "alone on other GPUs of its model")


def with_model(gpu: PciAddress, device: str) -> HostFacts:
    facts: HostFacts = clean.facts()
    changed = (replace(d, device=device) if d.address == gpu else d for d in facts.pci_devices)
    return replace(facts, pci_devices=tuple(changed))


@pytest.mark.parametrize(
    "facts", [with_model(GPUS[2], "2335"), replace(clean.facts(), pci_devices=())], ids=["other", "unknown"]
)
def test_gpus_of_another_or_an_unknown_model_are_not_alike(facts) -> None:
    elsewhere = a_guest("alone", 100.0, 100.0, 100.0, gpu=GPUS[2])
    (found,) = disturbances(a_run(elsewhere, beside(1.0, 1.0, 1.0), NEIGHBOUR, facts=facts), SPEC)
    assert (found.finding, found.runs) == (Finding.NOT_COMPARABLE, (3, 0))
    assert "another GPU model" in found.detail
    itself = a_guest("alone", 100.0, 100.0, 100.0)
    (found,) = disturbances(a_run(itself, beside(1.0, 1.0, 1.0), NEIGHBOUR, facts=facts), SPEC)
    assert found.finding is Finding.LOSES


def test_a_guest_with_another_share_of_the_host_is_slow_or_fast_by_itself() -> None:
    mine = plan(clean.facts(), GuestRequest(name="left", gpus=1), clean.HOST.placement, VFIO)
    assert isinstance(mine, PlacementPlan)
    wider = replace(mine, vcpupin={**mine.vcpupin, len(mine.vcpupin): 3})
    sides = [replace(beside(1.0), plan=mine), replace(a_guest("alone", 1.0), plan=mine)]
    assert the_figure(*sides).ratio == 1.0
    found = the_figure(sides[0], replace(sides[1], plan=wider))
    assert (found.finding, found.ratio) == (Finding.NOT_COMPARABLE, None)
    assert "a different share of the host" in found.detail


def test_neighbours_that_ran_no_load_show_nothing() -> None:
    idle = replace(NEIGHBOUR, results=(a_result(None, status="lost"),))
    run = a_run(a_guest("alone", 1.0, 1.0, 1.0), beside(1.0, 1.0, 1.0), idle)
    (found,) = disturbances(run, SPEC)
    assert (found.finding, found.detail) == (Finding.NOT_COMPARABLE, "its neighbour right ran no load")


def test_figures_of_whole_guests_are_pooled_over_all_that_are_like_it() -> None:
    kind = {"subject": ""}
    alone = (a_guest("a", 90.0, **kind), a_guest("b", 110.0, gpu=GPUS[2], **kind))
    found = the_figure(beside(50.0, **kind), *alone)
    assert (found.device, found.ratio, found.runs) == (None, 0.5, (1, 2))


VALUES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6)


@given(mine=VALUES, alone=VALUES, unit=st.sampled_from(["GB/s", "us"]))
def test_what_is_found_follows_from_ratio_and_interval_and_is_the_same_each_time(mine, alone, unit) -> None:
    sides = (beside(*mine, unit=unit), a_guest("alone", *alone, unit=unit))
    found = the_figure(*sides)
    assert found == the_figure(*sides)
    assert found.ratio is not None
    if min(len(mine), len(alone)) < SPEC.least_runs:
        assert (found.finding, found.low, found.high) == (Finding.TOO_FEW, None, None)
        return
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.high
    assert (found.finding is Finding.KEEPS) == (found.low >= SPEC.floor)
    assert (found.finding is Finding.LOSES) == (found.high < SPEC.floor)


@given(mine=VALUES, alone=VALUES)
def test_a_rate_and_the_time_that_it_takes_have_one_ratio(mine, alone) -> None:
    rate = the_figure(beside(*mine[:1]), a_guest("alone", *alone[:1]))
    times = [1.0 / value for value in (mine[0], alone[0])]
    time = the_figure(beside(times[0], unit="s"), a_guest("alone", times[1], unit="s"))
    assert rate.ratio == pytest.approx(time.ratio)


@given(st.lists(st.sampled_from(["", "x", "y", "z"]), max_size=6))
def test_every_guest_is_alone_or_beside_others(groups) -> None:
    run = a_run(*(a_guest(f"g{n}", 1.0, group=group) for n, group in enumerate(groups)))
    names = {guest.name for guest in beside_others(run)}
    assert names == {f"g{n}" for n, group in enumerate(groups) if group and groups.count(group) > 1}
