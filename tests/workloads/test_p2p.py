"""The peer test's judgement: every ordered pair, every way it has, compared by the owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError, WorkloadError
from harness.model.pci import PciAddress
from harness.workloads.applicable import too_few
from harness.workloads.base import GuestDevice, Job
from harness.workloads.registry import workload
from tests.workloads.mutations import VALUES, changed

P2P = workload("p2p")
NAMES = ("0000:01:00.0", "0000:02:00.0")
ADDRESSES = tuple(map(PciAddress.parse, NAMES))
GPUS = tuple(GuestDevice(address=a, vendor="10de", device="2335", host=a) for a in ADDRESSES)
JOB = Job(key="k1", guest="g1", tenant="t", devices=GPUS, parameters={"mib": 1, "repeats": 2})
WORDS = 1 << 17
PAIRS = (f"{NAMES[0]}->{NAMES[1]}", f"{NAMES[1]}->{NAMES[0]}")
Line = Callable[..., bytes]


def way(words: int = 8 * WORDS, wrong: int = 0) -> dict[str, Any]:
    return {"words": words, "wrong": wrong, "bits": 0, "rate": 25e9}


def observed(**changes: Any) -> dict[str, Any]:
    seen = {"access": True, "nvlink": True, "copy": way(), "store": way(), "load": way(WORDS), **changes}
    return {
        "entries": [{"name": p, "kind": "done", "at": "", "error": None, "observed": seen} for p in PAIRS]
    }


def wrong(line: Line, seen: Any, **parameters: Any) -> list[str]:
    job = Job(key="k1", guest="g1", tenant="t", devices=GPUS, parameters={**JOB.parameters, **parameters})
    parsed = P2P.parse(job, line("p2p", seen, engine="cuda"))
    return sorted({a.name.rpartition(" ")[2] for a in parsed.answers if not a.ok})


def test_all_pairs_are_named_with_their_path(line: Line) -> None:
    parsed = P2P.parse(JOB, line("p2p", observed(), engine="cuda"))
    assert [a.name for a in parsed.answers if not a.ok] == []
    assert {a.detail for a in parsed.answers if a.name.endswith(" copy")} == {"NVLink, compared by the owner"}
    assert {m.subject for m in parsed.measurements if m.name == "p2p.bandwidth"} == set(PAIRS)


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (observed(copy=way(wrong=1)), ["copy"]),
        (observed(copy=way(words=WORDS)), ["copy"]),
        (observed(store=way(wrong=3)), ["store"]),
        (observed(store=None), ["store"]),
        (observed(load=None), ["load"]),
        (observed(copy=None), ["copy"]),
        (observed(access=False, nvlink=None, store=None, load=None), []),
    ],
)
def test_a_wrong_word_or_a_way_not_tried_is_a_wrong_answer(seen: Any, names: list[str], line: Line) -> None:
    assert wrong(line, seen) == names


def test_wrong_words_over_pcie_point_to_the_host_before_the_cards(line: Line) -> None:
    for nvlink, told in ((False, True), (None, True), (True, False)):
        parsed = P2P.parse(JOB, line("p2p", observed(nvlink=nvlink, store=way(wrong=3)), engine="cuda"))
        assert {"IOMMU" in a.detail for a in parsed.answers if not a.ok} == {told}


def test_what_a_profile_demands_must_be_there(line: Line) -> None:
    none = observed(access=False, nvlink=False, store=None, load=None)
    assert wrong(line, none, demand_peer=True, demand_nvlink=True) == ["NVLink", "access"]
    assert wrong(line, observed(nvlink=None), demand_nvlink=True) == ["NVLink"]
    assert wrong(line, observed(), demand_peer=True, demand_nvlink=True) == []


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_gpus_have_no_peers(count: int) -> None:
    with pytest.raises(WorkloadError, match="need two"):
        P2P.prepare(Job(key="k", guest="g", tenant="t", devices=GPUS[:count]))
    assert too_few("p2p", None, ADDRESSES[:count]) == f"p2p needs 2 GPUs, and this guest has {count}"
    assert too_few("p2p", None, ADDRESSES) == ""
    assert too_few("vram", None, ()) == ""


@pytest.mark.parametrize(
    "seen",
    [{"entries": observed()["entries"][:1]}, observed(access=False), observed(copy={**way(), "rate": 0})],
)
def test_what_cannot_be_is_not_read(seen: Any, line: Line) -> None:
    with pytest.raises(ParseError):
        P2P.parse(JOB, line("p2p", seen, engine="cuda"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=st.one_of(changed(observed()), VALUES))
def test_any_observation_is_read_or_refused(found: Any, line: Line) -> None:
    try:
        assert P2P.parse(JOB, line("p2p", found, engine="cuda")).answers
    except ParseError:
        return


@pytest.mark.parametrize("parameters", [{"mib": 0}, {"repeats": 0}, {"stall_seconds": 0.0}])
def test_parameters_that_would_measure_nothing_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        P2P.prepare(Job(key="k", guest="g", tenant="t", devices=GPUS, parameters=parameters))
