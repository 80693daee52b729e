"""The engine accounts for everything that was planned, whatever the evidence holds."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from dataclasses import replace
from typing import Any

import pytest

import harness.checks
from harness.checks.base import Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.checks.engine import NO_SUBJECT
from harness.checks.registry import CHECKS, run_checks
from harness.config.files import load_profile
from harness.errors import ParseError
from harness.model.evidence import Evidence
from harness.model.guest import GuestRequest
from harness.model.inventory import GroupSpec
from harness.model.outcome import CheckResult, Outcome, Severity, SubjectKind, Verdict
from harness.model.placement import NoPlan, Reason
from harness.plugin.demand import choose_guests
from harness.record.assemble import demanded
from harness.verdict import decide
from tests.faults import clean

HELPERS = {
    "drift",
    "idle",
    "parts",
    "plain",
    "attempts",
    "base",
    "answers",
    "engine",
    "ledger",
    "series_rules",
    "watched",
}
"""Modules of harness.checks that hold no check."""


def judge(evidence: Evidence, **host: Any) -> dict[tuple[str, str], tuple[Outcome | None, str]]:
    _, cells = run_checks(evidence, clean.profile(), replace(clean.HOST, **host))
    return {(c.check, c.subject): (c.outcome, c.reason) for c in cells}


def verdict(evidence: Evidence) -> Verdict:
    results, cells = run_checks(evidence, clean.profile(), clean.HOST)
    now = "2026-11-22T00:10:00.000Z"
    return decide(results, cells, (), subject_kind=SubjectKind.HARDWARE, now=now).verdict


def test_each_module_of_checks_is_listed() -> None:
    for module in pkgutil.walk_packages(harness.checks.__path__, "harness.checks."):
        if module.ispkg or module.name.rpartition(".")[2] in HELPERS:
            continue
        found = importlib.import_module(module.name).CHECKS
        assert found, module.name
        assert [c.id for c in found if c not in CHECKS] == []


def test_checks_have_their_own_ids_that_say_their_scope() -> None:
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    for check in CHECKS:
        assert check.title.endswith("?")
        assert check.why.endswith(".")
        if check.id.startswith("gpu."):
            assert check.scope in (Scope.GPU, Scope.GUEST_GPU)
        if check.scope is Scope.GPU:
            assert check.id.startswith("gpu.")


def test_nothing_known_is_all_missing_and_nothing_absent() -> None:
    evidence = replace(
        clean.evidence(), facts=None, facts_after=None, system=(), resets=(), guests=(), errors=()
    )
    _, cells = run_checks(evidence, clean.profile(), clean.HOST)
    passed = {c.check for c in cells if c.outcome is not None}
    assert {c.check for c in cells} == set(clean.profile().checks)
    assert passed <= {"run.no_errors", "run.no_interventions"}
    assert verdict(evidence) is Verdict.INCONCLUSIVE


def test_gpus_that_should_be_there_have_places_when_there_are_no_facts() -> None:
    found = judge(replace(clean.evidence(), facts=None))
    places = [subject for check, subject in found if check == "gpu.link"]
    assert places == [f"gpu{n} (not found)" for n in range(4)]


def test_without_an_expected_number_the_largest_guest_says_how_many_gpus_are_due() -> None:
    found = judge(replace(clean.evidence(), facts=None), expected_gpus=None)
    assert [s for check, s in found if check == "gpu.link"] == [f"gpu{n} (not found)" for n in range(4)]


def test_without_an_expected_number_and_without_guests_one_gpu_is_due() -> None:
    found = judge(replace(clean.evidence(), facts=None, guests=()), expected_gpus=None)
    assert [s for check, s in found if check == "gpu.link"] == ["gpu0 (not found)"]


def test_a_gpu_that_is_not_there_is_missing_for_each_check_and_fails_the_count() -> None:
    evidence = clean.evidence()
    gone = next(d for d in evidence.facts.pci_devices if d.id == "1234:11e8")
    left = tuple(d for d in evidence.facts.pci_devices if d != gone)
    found = judge(replace(evidence, facts=replace(evidence.facts, pci_devices=left)))
    assert found["gpu.link", "gpu3 (not found)"][0] is None
    assert found["host.gpu_count", "host"][0] is Outcome.FAIL
    assert "3 GPUs found" in found["host.gpu_count", "host"][1]


def test_gpus_named_by_address_are_subjects_even_when_absent() -> None:
    selector = replace(clean.SELECTOR, addresses=(clean.address(0xDD),))
    found = judge(clean.evidence(), placement=replace(clean.HOST.placement, selector=selector))
    assert found["gpu.config_space", "0000:dd:00.0"] == (None, "the host has no device 0000:dd:00.0")


def test_a_host_with_no_gpu_and_none_expected_covers_no_gpu_check() -> None:
    evidence = clean.evidence()
    none = replace(evidence.facts, pci_devices=())
    found = judge(replace(evidence, facts=none), expected_gpus=0)
    assert found["gpu.link", NO_SUBJECT] == (None, "the host has no GPU")


@pytest.mark.parametrize("guests", [True, False])
def test_a_host_with_no_gpu_and_no_word_of_how_many_is_missing_each_that_is_needed(guests: bool) -> None:
    evidence = clean.evidence()
    none = replace(evidence.facts, pci_devices=())
    bare = replace(evidence, facts=none, guests=evidence.guests if guests else ())
    found = judge(bare, expected_gpus=None)
    places = {subject: outcome for (check, subject), (outcome, _) in found.items() if check == "gpu.link"}
    assert places == {f"gpu{n} (not found)": None for n in range(4 if guests else 1)}
    assert found["host.gpu_count", "host"][0] is Outcome.FAIL


def test_the_guests_that_a_profile_demands_are_asked_about_though_nothing_is_known_of_them() -> None:
    profile = load_profile("smoke")
    found = judge(replace(clean.evidence(), guests=demanded(profile, choose_guests(profile, ""))))
    for guest in ("2x1gpu-a", "2x1gpu-b", "4gpu", "4gpu-second-tenant"):
        assert found["guest.started", guest][0] is None
    assert found["workload.answer", "2x1gpu-b/tensor"][0] is None
    assert found["gpu.model_known", "4gpu/gpu3"][0] is None


def test_without_any_guest_each_question_about_guests_stays_open() -> None:
    found = judge(replace(clean.evidence(), guests=()))
    assert found["guest.started", NO_SUBJECT] == (None, "no guest was planned")
    assert found["gpu.model_known", NO_SUBJECT] == (None, "no guest asked for a GPU")
    assert found["workload.answer", NO_SUBJECT][0] is None


def test_only_the_requested_guests_count_when_there_are_some() -> None:
    evidence = clean.evidence()
    found = judge(replace(evidence, guests=evidence.guests[1:]))
    assert ("guest.started", "g4") in found
    assert ("guest.started", "g1") not in found


def test_two_guests_of_one_name_do_not_stand_in_for_each_other() -> None:
    evidence = clean.evidence()
    silent = replace(evidence.guests[0], started=False, reached=False)
    found = judge(replace(evidence, guests=(evidence.guests[0], silent)))
    assert found["guest.started", "g1"][0] is Outcome.PASS
    assert found["guest.started", "g1 (#2)"][0] is None


def test_a_guest_without_plan_fails_with_every_reason() -> None:
    evidence = clean.evidence()
    reasons = (Reason(code="numa_unknown", message="no node"), Reason(code="cores", message="too few"))
    unplaced = replace(
        evidence.guests[0], plan=None, no_plan=NoPlan(reasons=reasons), started=False, reached=False
    )
    found = judge(replace(evidence, guests=(unplaced,)))
    outcome, words = found["guest.started", "g1"]
    assert outcome is Outcome.FAIL
    assert "numa_unknown: no node; cores: too few" in words


def test_a_profile_with_guests_that_want_no_gpu_leaves_gpu_checks_uncovered() -> None:
    check = Check(
        id="guest_gpu.any",
        title="?",
        why=".",
        scope=Scope.GUEST_GPU,
        phase=Phase.BURNIN,
        judge=lambda _case, _subject: pytest.fail("asked"),
    )
    profile = replace(
        clean.profile(), checks={"guest_gpu.any": Severity.BLOCKER}, guests=(GroupSpec(gpus=0),)
    )
    evidence = clean.evidence()
    plain = replace(
        evidence.guests[0], name="g0", request=GuestRequest(name="g0", gpus=0), plan=None, workloads=()
    )
    _, cells = run_checks(replace(evidence, guests=(plain,)), profile, clean.HOST, checks=(check,))
    assert [(c.subject, c.outcome) for c in cells] == [(NO_SUBJECT, None)]


def test_a_check_this_version_does_not_know_is_missing() -> None:
    profile = replace(clean.profile(), checks={"gpu.from_the_future": Severity.BLOCKER})
    results, cells = run_checks(clean.evidence(), profile, clean.HOST)
    assert results == ()
    assert [(c.outcome, c.reason) for c in cells] == [(None, "this version has no such check")]


def _raising(error: Exception) -> Check:
    def raises(_case: Case, _subject: Subject) -> CheckResult:
        raise error

    return Check(id="x.y", title="?", why=".", scope=Scope.HOST, phase=Phase.READINESS, judge=raises)


def test_an_error_of_the_harness_is_an_error_and_missing_evidence_is_missing() -> None:
    profile = replace(clean.profile(), checks={"x.y": Severity.BLOCKER})
    for raised, outcome in (
        (ParseError("broken", remedy="mend it"), Outcome.ERROR),
        (MissingEvidence("-"), None),
    ):
        results, cells = run_checks(clean.evidence(), profile, clean.HOST, checks=(_raising(raised),))
        assert [c.outcome for c in cells] == [outcome]
        assert [r.remedy for r in results] == (["mend it"] if outcome is Outcome.ERROR else [])


def _blank(value: Any) -> list[Any]:
    """Other values of the same kind that a host could send: nothing, or rubbish."""
    if isinstance(value, bool) or value is None:
        return [None]
    if isinstance(value, str):
        return ["", "\x1b[31m<script>\n\ud800" + "A" * 5000, None]
    if isinstance(value, tuple):
        return [(), None]
    return [{}] if isinstance(value, dict) else [None]


FACT_FIELDS = [f.name for f in dataclasses.fields(clean.facts())]
DEVICE_FIELDS = [f.name for f in dataclasses.fields(clean.facts().pci_devices[0]) if f.name != "address"]


def _nullable(kind: type, name: str) -> bool:
    return "None" in str(next(f for f in dataclasses.fields(kind) if f.name == name).type)


@pytest.mark.parametrize("name", FACT_FIELDS)
def test_any_fact_may_be_gone_or_hostile(name: str) -> None:
    evidence = clean.evidence()
    for value in _blank(getattr(evidence.facts, name)):
        if value is None and not _nullable(type(evidence.facts), name):
            continue
        for side in ("facts", "facts_after"):
            changed = replace(getattr(evidence, side), **{name: value})
            found = judge(replace(evidence, **{side: changed}))
            assert {check for check, _ in found} == set(clean.profile().checks)


@pytest.mark.parametrize("name", DEVICE_FIELDS)
def test_any_fact_of_a_device_may_be_gone_or_hostile(name: str) -> None:
    evidence = clean.evidence()
    for value in _blank(getattr(evidence.facts.pci_devices[0], name)):
        if value is None and not _nullable(type(evidence.facts.pci_devices[0]), name):
            continue
        devices = tuple(replace(d, **{name: value}) for d in evidence.facts.pci_devices)
        changed = replace(evidence.facts, pci_devices=devices)
        found = judge(replace(evidence, facts=changed, facts_after=changed))
        assert {check for check, _ in found} == set(clean.profile().checks)


@pytest.mark.parametrize("name", ["facts", "facts_after", "system", "resets", "guests"])
def test_without_a_part_of_the_evidence_there_is_no_go(name: str) -> None:
    evidence = clean.evidence()
    nothing = None if name.startswith("facts") else ()
    assert verdict(evidence) is Verdict.GO
    assert verdict(replace(evidence, **{name: nothing})) is not Verdict.GO


@pytest.mark.parametrize("name", ["results", "residue", "release", "plan", "kernel_log"])
def test_without_a_part_of_a_guests_evidence_there_is_no_go(name: str) -> None:
    evidence = clean.evidence()
    last = evidence.guests[-1]
    nothing = () if isinstance(getattr(last, name), tuple) and name != "kernel_log" else None
    bare = replace(last, **{name: nothing})
    assert verdict(replace(evidence, guests=(*evidence.guests[:-1], bare))) is not Verdict.GO
