"""A guest against the bare machine: enough, too little, or undecided; never a guess."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.evidence import Answer, GuestEvidence, Reference, ReferenceValue, WorkloadResult
from harness.model.gpu import Cards, GpuRef
from harness.model.guest import GuestRequest
from harness.model.inventory import VirtualizationSpec
from harness.model.outcome import Measurement, SubjectKind
from harness.model.pci import PciAddress
from harness.verdict.ratio import Finding, values_of
from harness.verdict.virtualization import Cost, costs

GPU = PciAddress.parse("0000:41:00.0")
SPEC = VirtualizationSpec()


def a_result(value: float | None, *, name="tensor.bf16.rate", unit="TFLOP/s", subject=str(GPU), **changes):
    fields = {
        "workload": "tensor",
        "guest": "g1",
        "engine": "cuda:torch",
        "key": "k",
        "status": "done",
        "answers": (Answer(name="a", expected="1", got="1", ok=True),),
        "measurements": (Measurement(name=name, value=value, unit=unit, subject=subject),),
    }
    return WorkloadResult(**{**fields, **changes})


def a_guest(*results: WorkloadResult) -> GuestEvidence:
    """A machine that sees its GPU where the host does."""
    return GuestEvidence(
        name="g1",
        request=GuestRequest(name="g1", gpus=1),
        workloads=("tensor",),
        attach="bare",
        cards=Cards(refs=(GpuRef(host=GPU, guest=GPU),), same=True),
        results=results,
    )


def a_reference(*values: float, name="tensor.bf16.rate", unit="TFLOP/s", **changes) -> Reference:
    value = ReferenceValue(
        workload="tensor", engine="cuda:torch", name=name, unit=unit, device=GPU, values=values
    )
    fields = {
        "run": "bare-run",
        "host": "h",
        "machine_id": "0" * 32,
        "cpus": 8,
        "subject": SubjectKind.HARDWARE,
        "standin": False,
        "verdict": "GO",
        "ended_at": "2026-01-01T00:00:00.000Z",
        "parameters": {},
        "values": (value,),
    }
    return Reference(**{**fields, **changes})


def the_cost(guest: GuestEvidence, reference: Reference, spec: VirtualizationSpec = SPEC) -> Cost:
    (cost,) = costs(guest, "tensor", reference, spec, parameters={})
    return cost


def rates(*values: float, **changes) -> GuestEvidence:
    return a_guest(*(a_result(value, **changes) for value in values))


@pytest.mark.parametrize(
    ("mine", "bare", "finding"),
    [
        ((99.0, 99.5, 98.9, 99.2, 99.1), (100.0, 100.2, 99.8, 100.1, 100.0), Finding.KEEPS),
        ((90.0, 91.0, 90.5, 90.2, 90.8), (100.0, 100.2, 99.8, 100.1, 100.0), Finding.LOSES),
        ((90.0, 104.0, 97.0, 96.0, 99.0), (100.0, 93.0, 99.8, 107.0, 100.0), Finding.UNDECIDED),
        ((97.0, 97.0, 97.0), (100.0, 100.0, 100.0), Finding.KEEPS),
        ((96.9, 96.9, 96.9), (100.0, 100.0, 100.0), Finding.LOSES),
        ((99.0, 99.0), (100.0, 100.0, 100.0), Finding.TOO_FEW),
        ((0.0, 0.0, 0.0), (100.0, 100.0, 100.0), Finding.NOT_COMPARABLE),
    ],
)
def test_rates(mine, bare, finding) -> None:
    cost = the_cost(rates(*mine), a_reference(*bare))
    assert cost.finding is finding
    assert cost.runs == (len(mine), len(bare))


def test_of_a_time_less_is_better() -> None:
    slow = rates(11.0, 11.0, 11.0, name="stream.latency_p50", unit="ms")
    quick = rates(9.0, 9.0, 9.0, name="stream.latency_p50", unit="ms")
    bare = a_reference(10.0, 10.0, 10.0, name="stream.latency_p50", unit="ms")
    assert the_cost(slow, bare).finding is Finding.LOSES
    assert the_cost(quick, bare).finding is Finding.KEEPS


def test_a_floor_of_its_own_holds_for_one_measurement() -> None:
    spec = VirtualizationSpec(floors={"tensor.bf16.rate": 0.9})
    assert the_cost(rates(91.0, 91.0, 91.0), a_reference(100.0, 100.0, 100.0), spec).finding is Finding.KEEPS


def test_figures_of_other_loads_engines_and_gpus_are_not_compared() -> None:
    mine = rates(99.0, 99.0, 99.0)
    bare = a_reference(100.0, 100.0, 100.0)
    assert (
        costs(mine, "tensor", bare, SPEC, parameters={"size": 4096})[0].detail
        == "the loads' parameters differ"
    )
    other_engine = rates(99.0, 99.0, 99.0, engine="cpu:torch")
    both = costs(other_engine, "tensor", bare, SPEC, parameters={})
    assert [(cost.finding, cost.runs, cost.open) for cost in both] == [
        (Finding.NOT_COMPARABLE, (0, 3), True),
        (Finding.NOT_COMPARABLE, (3, 0), True),
    ]
    elsewhere = dataclasses.replace(bare.values[0], device=PciAddress.parse("0000:81:00.0"))
    assert the_cost(mine, dataclasses.replace(bare, values=(elsewhere,))).finding is Finding.NOT_COMPARABLE


def test_a_figure_of_the_whole_machine_is_compared_with_a_guest_of_its_size_only() -> None:
    whole = dataclasses.replace(a_reference(100.0, 100.0, 100.0).values[0], device=None)
    bare = dataclasses.replace(a_reference(1.0), values=(whole,))
    cost = the_cost(rates(99.0, 99.0, 99.0, subject=""), bare)
    assert (cost.finding, cost.detail) == (
        Finding.NOT_COMPARABLE,
        "a value of the whole machine, of which this guest has only part",
    )


def test_the_speed_of_a_wrong_answer_counts_for_nothing() -> None:
    wrong = a_result(500.0, answers=(Answer(name="a", expected="1", got="2", ok=False),))
    lost = a_result(500.0, status="lost")
    blank, endless = a_result(None), a_result(math.inf)
    share = a_result(0.5, name="tensor.check_cost", unit="1")
    assert values_of(a_guest(wrong, lost, blank, endless, share)) == ()


@given(
    st.lists(st.floats(0.001, 1e6), min_size=3, max_size=6),
    st.lists(st.floats(0.001, 1e6), min_size=3, max_size=6),
)
def test_the_finding_is_what_the_interval_says_and_the_same_each_time(mine, bare) -> None:
    first = the_cost(rates(*mine), a_reference(*bare))
    assert first == the_cost(rates(*mine), a_reference(*bare))
    assert first.low is not None
    assert first.high is not None
    assert first.low <= first.high
    assert (first.finding is Finding.KEEPS) == (first.low >= 0.97)
    assert (first.finding is Finding.LOSES) == (first.high < 0.97)
