"""What a GPU model should do, judged: memory, rates, engines that it lacks, and models that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.checks.registry import run_checks
from harness.config.files import load_skus
from harness.model.evidence import Evidence, WorkloadResult
from harness.model.inventory import ExpectedLink, LimitSpec, Profile
from harness.model.outcome import CheckResult, Measurement, Outcome, SubjectKind, Verdict
from harness.model.sku import Figure, Floor
from harness.verdict import decide
from tests.faults import clean

CARD = clean.address(0x41)
"""The card of the first guest, on the host."""


def said(
    evidence: Evidence, check: str, profile: Profile | None = None
) -> dict[str, tuple[Outcome | None, str]]:
    """Subject to outcome and words of one check."""
    results, cells = run_checks(evidence, profile or clean.profile(), clean.HOST)
    words = {r.subject: r.message for r in results if r.check == check}
    return {c.subject: (c.outcome, words.get(c.subject, c.reason)) for c in cells if c.check == check}


def results(evidence: Evidence, check: str) -> list[CheckResult]:
    return [r for r in run_checks(evidence, clean.profile(), clean.HOST)[0] if r.check == check]


def with_model(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, skus=(replace(clean.MODEL, **changes),))


def with_result(evidence: Evidence, **changes: Any) -> Evidence:
    """The hashing of the first guest, changed."""
    first, *rest = evidence.guests
    changed = tuple(replace(r, **changes) if r.workload == "hashing" else r for r in first.results)
    return replace(evidence, guests=(replace(first, results=changed), *rest))


def with_cards(evidence: Evidence, **changes: Any) -> Evidence:
    """The sampler's view of every GPU, changed."""
    guests = []
    for guest in evidence.guests:
        cards = tuple(replace(gpu, **changes) for gpu in guest.telemetry.gpus)
        guests.append(replace(guest, telemetry=replace(guest.telemetry, gpus=cards)))
    return replace(evidence, guests=tuple(guests))


def test_an_unknown_model_is_inconclusive_and_shows_what_was_seen() -> None:
    evidence = replace(clean.evidence(), skus=load_skus())
    evidence = replace(evidence, skus=tuple(s for s in evidence.skus if s.name != "standin-edu"))
    outcomes = said(evidence, "gpu.model_known")
    assert {outcome for outcome, _ in outcomes.values()} == {Outcome.ERROR}
    words = outcomes["g1/0000:41:00.0"][1]
    assert "1234:11e8" in words
    assert "'NVIDIA Test 700', 141.0 GiB" in words
    assert "hashing.md5.rate 19 GH/s" in words
    checked, cells = run_checks(evidence, clean.profile(), clean.HOST)
    decision = decide(checked, cells, (), subject_kind=SubjectKind.HARDWARE, now="2026-11-22T00:10:00.000Z")
    assert decision.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("share", "outcome"), [(1.2, Outcome.PASS), (1.51, Outcome.ERROR), (2.0, Outcome.ERROR)]
)
def test_what_no_card_of_the_model_can_reach_was_not_measured(share: float, outcome: Outcome) -> None:
    fast = Measurement(name="hashing.md5.rate", value=20.0 * share, unit="GH/s", subject=str(CARD))
    evidence = with_result(clean.evidence(), measurements=(fast,))
    assert said(evidence, "workload.expected")["g1/hashing"][0] is outcome
    assert said(with_model(evidence, floors={}), "workload.expected")["g1/hashing"][0] is outcome


def test_a_stand_in_is_a_described_model_without_figures() -> None:
    evidence = replace(clean.evidence(), skus=load_skus())
    for check in ("gpu.model_known", "gpu.memory_size", "workload.expected"):
        assert {o for o, _ in said(evidence, check).values()} == {Outcome.PASS}
    assert "no memory size" in said(evidence, "gpu.memory_size")["g1/0000:41:00.0"][1]


def test_what_is_unknown_of_a_known_model_is_shown() -> None:
    assert "unknown: hashing_ntlm" in said(clean.evidence(), "gpu.model_known")["g1/0000:41:00.0"][1]


@pytest.mark.parametrize(
    ("gib", "outcome"),
    [
        (140.4, Outcome.PASS),
        (138.2, Outcome.PASS),
        (138.0, Outcome.FAIL),
        (143.0, Outcome.FAIL),
        (None, None),
    ],
)
def test_memory_is_held_to_the_share_of_its_model(gib: float | None, outcome: Outcome | None) -> None:
    evidence = with_cards(clean.evidence(), memory_bytes=None if gib is None else int(gib * (1 << 30)))
    assert {o for o, _ in said(evidence, "gpu.memory_size").values()} == {outcome}


def test_a_model_of_unknown_memory_holds_nothing() -> None:
    figures = {"memory_bytes": Figure(value=None, unit="B", source="unknown")}
    evidence = with_model(clean.evidence(), figures={**clean.MODEL.figures, **figures})
    outcome, words = said(evidence, "gpu.memory_size")["g1/0000:41:00.0"]
    assert outcome is None
    assert "141.00 GiB" in words


def test_under_a_stand_in_library_the_model_is_the_one_that_it_plays() -> None:
    evidence = replace(clean.evidence(), subject=SubjectKind.LAB, skus=load_skus())
    guests = tuple(replace(g, telemetry=replace(g.telemetry, standin="healthy")) for g in evidence.guests)
    evidence = replace(evidence, guests=guests)
    assert "NVIDIA H200" in said(evidence, "gpu.memory_size")["g1/0000:41:00.0"][1]
    short = with_cards(evidence, memory_bytes=80 << 30)
    assert {o for o, _ in said(short, "gpu.memory_size").values()} == {Outcome.FAIL}


def test_each_gpu_is_held_by_itself() -> None:
    evidence = clean.evidence()
    first, second, *_ = evidence.guests
    changed: list[WorkloadResult] = []
    third = str(clean.address(0x81))
    for result in second.results:
        slow = tuple(replace(m, value=13.9) if m.subject == third else m for m in result.measurements)
        changed.append(replace(result, measurements=slow))
    evidence = replace(evidence, guests=(first, replace(second, results=tuple(changed))))
    outcomes = said(evidence, "workload.expected")
    assert outcomes["g1/hashing"][0] is Outcome.PASS
    assert outcomes["g4/hashing"][0] is Outcome.FAIL
    assert "0000:81:00.0 hashing.md5.rate 13.9 GH/s is 0.695 of the peak" in outcomes["g4/hashing"][1]
    held = next(r for r in results(evidence, "workload.expected") if r.subject == "g4/hashing").measurements
    assert len(held) == 4
    assert [m.lower for m in held] == [pytest.approx(14.0)] * 4


def test_a_floor_is_kept_in_every_round() -> None:
    evidence = clean.evidence()
    first, *rest = evidence.guests
    again = next(r for r in first.results if r.workload == "hashing")
    slow = tuple(replace(m, value=3.0) if m.subject else m for m in again.measurements)
    both = (*first.results, replace(again, key="again", round=2, measurements=slow))
    evidence = replace(evidence, guests=(replace(first, results=both), *rest))
    assert said(evidence, "workload.expected")["g1/hashing"][0] is Outcome.FAIL


@pytest.mark.parametrize("changes", [{"measurements": ()}, {"engine": "cpu"}])
def test_a_round_that_measured_nothing_is_not_carried_by_the_others(changes: dict[str, Any]) -> None:
    evidence = clean.evidence()
    first, *rest = evidence.guests
    again = next(r for r in first.results if r.workload == "hashing")
    second = replace(again, round=2, **changes)
    more = replace(evidence, guests=(replace(first, results=(*first.results, second)), *rest))
    outcome, words = said(more, "workload.expected")["g1/hashing"]
    assert outcome is Outcome.ERROR
    assert "no measurement for the threshold" in words
    assert "in rounds 2" in words


def test_results_of_the_processor_are_never_held_to_a_gpu() -> None:
    evidence = with_result(clean.evidence(), engine="cpu")
    profile = replace(clean.profile(), workload_parameters={"hashing": {"engine": "cpu"}})
    outcome, words = said(evidence, "workload.expected", profile)["g1/hashing"]
    assert outcome is None
    assert "ran on the processor" in words
    outcome, words = said(evidence, "workload.expected")["g1/hashing"]
    assert outcome is Outcome.ERROR
    assert "no measurement for the threshold" in words


def test_floors_of_other_workloads_wait_for_those() -> None:
    floors = {**clean.MODEL.floors, "vram.bandwidth": Floor(of="hashing_md5", share=0.9, reason="elsewhere")}
    evidence = with_model(clean.evidence(), floors=floors)
    assert said(evidence, "workload.expected")["g1/hashing"][0] is Outcome.PASS


def test_a_floor_that_guards_nothing_is_an_error_of_the_rule() -> None:
    floors = {**clean.MODEL.floors, "hashing.md5.rate": Floor(of="hashing_md5", share=0.001, reason="a slip")}
    outcome, words = said(with_model(clean.evidence(), floors=floors), "workload.expected")["g1/hashing"]
    assert outcome is Outcome.ERROR
    assert "out of range" in words


def test_a_limit_of_the_profile_that_guards_nothing_on_this_model_is_an_error() -> None:
    limits = {"hashing.md5.rate": LimitSpec(lower=0.02, reason="in TH/s by mistake")}
    profile = replace(clean.profile(), limits=limits)
    outcome, words = said(clean.evidence(), "workload.expected", profile)["g1/hashing"]
    assert outcome is Outcome.ERROR
    assert "0.001 of the peak" in words


def test_a_slow_card_outweighs_a_rule_that_met_nothing() -> None:
    floors = {**clean.MODEL.floors, "hashing.ntlm.rate": Floor(of="hashing_md5", share=0.9, reason="idle")}
    evidence = with_model(clean.evidence(), floors=floors)
    assert said(evidence, "workload.expected")["g1/hashing"][0] is Outcome.ERROR
    slow = (Measurement(name="hashing.md5.rate", value=1.0, unit="GH/s", subject=str(CARD)),)
    evidence = with_result(evidence, measurements=slow)
    assert said(evidence, "workload.expected")["g1/hashing"][0] is Outcome.FAIL


def linked(gen: float, width: float, rate: float) -> Evidence:
    """The first guest's GPU with that link under load, of a model of generation 5 with 16 lanes."""
    said_of = (
        ("pcie.gen_under_load", gen, "pcie_gen", 5.0, "1", 1.0),
        ("pcie.width_under_load", width, "pcie_width", 16.0, "1", 1.0),
        ("pcie.h2d", rate, "pcie_bandwidth", 63.0, "GB/s", 0.75),
    )
    figures = {of: Figure(value=peak, unit=unit, source="tests") for _, _, of, peak, unit, _ in said_of}
    floors = {name: Floor(of=of, share=share, reason="tests") for name, _, of, _, _, share in said_of}
    seen = tuple(
        Measurement(name=name, value=value, unit=unit, subject=str(CARD))
        for name, value, _, _, unit, _ in said_of
    )
    evidence = with_result(clean.evidence(), measurements=seen, workload="pcie")
    first, *rest = evidence.guests
    named = replace(first, workloads=tuple("pcie" if w == "hashing" else w for w in first.workloads))
    return with_model(replace(evidence, guests=(named, *rest)), figures=figures, floors=floors)


def of_pcie(evidence: Evidence, link: ExpectedLink | None, **limits: LimitSpec) -> tuple[Outcome | None, str]:
    named = {name.replace("_", "."): limit for name, limit in limits.items()}
    profile = replace(clean.profile(), limits=named or clean.profile().limits)
    _, cells = run_checks(evidence, profile, replace(clean.HOST, expected_link=link))
    (cell,) = (c for c in cells if c.check == "workload.expected" and c.subject == "g1/pcie")
    return cell.outcome, cell.reason


@pytest.mark.parametrize(
    ("gen", "width", "rate", "link", "outcome"),
    [
        (5.0, 16.0, 50.0, ExpectedLink(), Outcome.PASS),
        (4.0, 16.0, 25.0, ExpectedLink(), Outcome.FAIL),
        (4.0, 16.0, 25.0, ExpectedLink(speed_gts=16.0), Outcome.PASS),
        (4.0, 8.0, 12.0, ExpectedLink(speed_gts=16.0, width=8), Outcome.PASS),
        (4.0, 8.0, 11.0, ExpectedLink(speed_gts=16.0, width=8), Outcome.FAIL),
        (4.0, 4.0, 12.0, ExpectedLink(speed_gts=16.0, width=8), Outcome.FAIL),
        (5.0, 16.0, 25.0, ExpectedLink(speed_gts=64.0, width=16), Outcome.FAIL),
    ],
)
def test_a_card_is_held_to_the_link_that_the_host_file_says_of_its_slot(
    gen: float, width: float, rate: float, link: ExpectedLink, outcome: Outcome
) -> None:
    assert of_pcie(linked(gen, width, rate), link)[0] is outcome


def test_a_limit_of_the_profile_guards_the_link_that_is_there_not_the_cards_own() -> None:
    slot, evidence = ExpectedLink(speed_gts=16.0, width=8), linked(4.0, 8.0, 12.0)
    some = LimitSpec(lower=10.0, reason="most of a link of 8 lanes")
    assert of_pcie(evidence, slot, pcie_h2d=some)[0] is Outcome.PASS
    outcome, why = of_pcie(evidence, slot, pcie_h2d=replace(some, lower=1.0))
    assert (outcome, "outside 0.4" in why) == (Outcome.ERROR, True)


def test_a_link_that_the_host_saw_whole_leaves_the_guests_word_open() -> None:
    evidence = linked(4.0, 16.0, 50.0)
    telemetry = evidence.host_telemetry
    assert telemetry is not None
    first, *rest = telemetry.devices
    whole = replace(first, speed_gts_max=32.0, width_max=16)
    evidence = replace(evidence, host_telemetry=replace(telemetry, devices=(whole, *rest)))
    outcome, why = of_pcie(evidence, None)
    assert (outcome, "the host itself saw more" in why) == (None, True)


def test_a_measurement_without_a_floor_is_named() -> None:
    rates = (
        Measurement(name="hashing.md5.rate", value=19.0, unit="GH/s", subject=str(CARD)),
        Measurement(name="hashing.ntlm.rate", value=30.0, unit="GH/s", subject=str(CARD)),
    )
    outcome, words = said(with_result(clean.evidence(), measurements=rates), "workload.expected")[
        "g1/hashing"
    ]
    assert outcome is Outcome.PASS
    assert "without a threshold: hashing.ntlm.rate (30 GH/s)" in words


def test_a_workload_whose_engine_the_model_lacks_has_no_subject() -> None:
    evidence = clean.evidence()
    first, *rest = evidence.guests
    demanded = replace(first, workloads=(*first.workloads, "stream"))
    evidence = replace(evidence, guests=(demanded, *rest))
    assert said(evidence, "workload.answer")["g1/stream"][0] is None
    lacking = with_model(evidence, engines={"nvenc": 0})
    assert "g1/stream" not in said(lacking, "workload.answer")
    unknown = with_model(evidence, engines={"nvenc": None})
    assert said(unknown, "workload.answer")["g1/stream"][0] is None
