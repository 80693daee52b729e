"""The link test's judgement: near and far, every cell, every word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.payload import memory_patterns
from harness.workloads.base import GuestDevice, Job
from harness.workloads.pcie import answers as module
from harness.workloads.registry import workload
from tests.workloads.mutations import VALUES, changed

PCIE = workload("pcie")
WHERE = "0000:01:00.0"
GPU = GuestDevice(
    address=PciAddress.parse(WHERE), vendor="10de", device="2335", host=PciAddress.parse("0000:41:00.0")
)
JOB = Job(
    key="k1",
    guest="g1",
    tenant="t",
    devices=(GPU,),
    parameters={"mib": 1, "ram_mib": 1, "copies": 2, "repeats": 3},
)
WORDS = 1 << 18
Line = Callable[..., bytes]


def samples(words: int) -> list[list[int]]:
    seed, numbers = module._chosen(JOB)
    return [[n % words, memory_patterns.value(memory_patterns.RANDOM, n % words, seed)] for n in numbers]


def cell(number: int, speed: float = 50e9, **changes: Any) -> dict[str, Any]:
    return {
        "cell": number, "down_words": 6 * WORDS, "down_wrong": 0, "up_words": 6 * WORDS, "up_wrong": 0,
        "h2d": speed, "d2h": speed, "both": 1.8 * speed, "latency": 8e-6, "nodes": [number],
        "samples": samples(WORDS), **changes,
    }  # fmt: skip


def observed(*cells: dict[str, Any], near: int | None = 1, **changes: Any) -> dict[str, Any]:
    found = list(cells) or [cell(0, 40e9), cell(1)]
    seen = {
        "name": "card", "near": near, "cells": [0, 1], "measured": found,
        "link": {"source": "nvml", "generation": 5, "width": 16}, **changes,
    }  # fmt: skip
    return {"entries": [{"name": WHERE, "kind": "done", "at": "end", "error": None, "observed": seen}]}


def wrong(line: Line, seen: Any) -> list[str]:
    parsed = PCIE.parse(JOB, line("pcie", seen, engine="cuda"))
    return [a.name.removeprefix(f"{WHERE} ") for a in parsed.answers if not a.ok]


def test_near_is_faster_and_named_so(line: Line) -> None:
    parsed = PCIE.parse(JOB, line("pcie", observed(), engine="cuda"))
    assert [a.name for a in parsed.answers if not a.ok] == []
    values = {m.name: m.value for m in parsed.measurements}
    assert values["pcie.h2d"] == values["pcie.h2d.cell1"] == 50.0
    assert values["pcie.h2d.cell0"] == 40.0
    assert values["pcie.both"] == 90.0
    assert values["pcie.latency"] == pytest.approx(8.0)
    assert (values["pcie.gen_under_load"], values["pcie.width_under_load"]) == (5, 16)


@pytest.mark.parametrize(("far", "right"), [(50e9, True), (55e9, True), (56e9, False), (100e9, False)])
def test_a_near_cell_slower_than_a_far_one_contradicts_the_placement(
    far: float, right: bool, line: Line
) -> None:
    found = wrong(line, observed(cell(0, far), cell(1, 50e9)))
    assert found == ([] if right else ["near cell"])


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (observed(cell(1)), ["cells measured"]),
        (observed(near=None), ["near cell"]),
        (observed(near=3), ["near cell"]),
        (observed(cell(0), cell(1, down_wrong=1)), ["cell 1 host to device"]),
        (observed(cell(0), cell(1, down_words=5)), ["cell 1 host to device"]),
        (observed(cell(0, up_wrong=9), cell(1)), ["cell 0 device to host"]),
        (observed(cell(0, up_words=0), cell(1)), ["cell 0 device to host"]),
        (observed(cell(0, nodes=[0, 1]), cell(1)), ["cell 0 memory lies on"]),
        (observed(cell(0, samples=[]), cell(1)), ["cell 0 words brought back"]),
    ],
)
def test_what_is_not_as_it_must_be_is_a_wrong_answer(seen: Any, names: list[str], line: Line) -> None:
    assert wrong(line, seen) == names


def test_memory_of_which_nobody_knows_the_cell_accuses_no_card(line: Line) -> None:
    with pytest.raises(ParseError, match="where the memory of 1 copies lay"):
        wrong(line, observed(cell(0, nodes=None), cell(1)))
    assert wrong(line, observed(cell(0, nodes=None, up_wrong=1), cell(1))) == ["cell 0 device to host"]


def test_one_cell_needs_no_near(line: Line) -> None:
    seen = observed(cell(0, nodes=None), cells=[0], near=None)
    assert wrong(line, seen) == []
    parsed = PCIE.parse(JOB, line("pcie", seen, engine="cuda"))
    assert {m.name: m.value for m in parsed.measurements}["pcie.h2d"] == 50.0


def test_a_link_that_nobody_could_read_has_no_value(line: Line) -> None:
    parsed = PCIE.parse(JOB, line("pcie", observed(link=None), engine="cuda"))
    assert {m.name: m.value for m in parsed.measurements}["pcie.gen_under_load"] is None


@pytest.mark.parametrize(
    "seen",
    [observed(cells=[]), observed(cells=[0, 0]), observed(cells=[-1]), observed(cells=["0"]),
     observed(link={"source": "nvml", "generation": 0, "width": 16}),
     observed(link={"source": "nvml", "generation": 5, "width": 5}),
     observed(link={"source": "guess", "generation": 5, "width": 16}),
     observed(cell(0), cell(1, h2d=0.0)), observed(cell(0), cell(1, latency=-1.0)),
     observed(cell(0), cell(1, latency=0.0)), observed(measured=None)],
)  # fmt: skip
def test_what_cannot_be_is_not_read(seen: Any, line: Line) -> None:
    with pytest.raises(ParseError):
        PCIE.parse(JOB, line("pcie", seen, engine="cuda"))


def machine(*pairs: tuple[int, int], **changes: Any) -> dict[str, Any]:
    copied = [
        {
            "from": a, "to": b, "rate": 1e10, "words": 3 << 17, "wrong": 0, "source_nodes": [a],
            "target_nodes": [b], "samples": samples(1 << 17), **changes,
        }
        for a, b in pairs
    ]  # fmt: skip
    seen = {"cells": [0, 1], "copied": copied}
    return {"entries": [{"name": "RAM", "kind": "done", "at": "", "error": None, "observed": seen}]}


ALL = ((0, 0), (0, 1), (1, 0), (1, 1))


@pytest.mark.parametrize(
    ("seen", "count"),
    [(machine(*ALL), 0), (machine(*ALL[:3]), 1), (machine(*ALL, wrong=1), 4), (machine(*ALL, words=1), 4),
     (machine(*ALL, target_nodes=[7]), 4), (machine(*ALL, samples=[]), 4)],
)  # fmt: skip
def test_processors_copy_between_all_cells(seen: Any, count: int, line: Line) -> None:
    job = Job(key="k1", guest="g1", tenant="t", parameters=JOB.parameters)
    parsed = PCIE.parse(job, line("pcie", seen))
    assert sum(not a.ok for a in parsed.answers) == count


def test_processors_memory_of_which_nobody_knows_the_cell_is_missing(line: Line) -> None:
    job = Job(key="k1", guest="g1", tenant="t", parameters=JOB.parameters)
    with pytest.raises(ParseError, match="where the memory of 4 copies lay"):
        PCIE.parse(job, line("pcie", machine(*ALL, target_nodes=None)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.one_of(changed(observed()), VALUES))
def test_any_observation_of_a_card_is_read_or_refused(found: Any, line: Line) -> None:
    try:
        assert PCIE.parse(JOB, line("pcie", found, engine="cuda")).answers
    except ParseError:
        return


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=changed(machine(*ALL)))
def test_any_observation_of_a_machine_is_read_or_refused(found: Any, line: Line) -> None:
    job = Job(key="k1", guest="g1", tenant="t", parameters=JOB.parameters)
    try:
        assert PCIE.parse(job, line("pcie", found)).answers
    except ParseError:
        return


@pytest.mark.parametrize("parameters", [{"mib": 0}, {"copies": 0}, {"repeats": 0}, {"near_tolerance": 1.0}])
def test_parameters_that_would_measure_nothing_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PCIE.prepare(Job(key="k", guest="g", tenant="t", parameters=parameters))
