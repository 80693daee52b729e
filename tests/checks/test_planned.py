"""What will be asked is known before the host was reached, and it is what is asked in the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from harness.checks import engine
from harness.checks.base import USER, Check, Phase, Scope
from harness.checks.engine import NO_SLOT, Planned, planned
from harness.checks.registry import CHECKS
from harness.config.files import list_names, load_profile
from harness.faults.registry import FAULTS
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.gpu import Cards, GpuRef
from harness.model.guest import GuestRequest
from harness.model.inventory import GroupSpec, Profile
from harness.model.outcome import Outcome, Severity
from harness.plugin.demand import choose_guests
from harness.record.assemble import demanded
from tests.faults import clean

BY_ID = {check.id: check for check in CHECKS}


def as_demanded(guests: Iterable[GuestEvidence]) -> tuple[GuestEvidence, ...]:
    """The guests of which nothing is known yet but that they are wanted."""
    return tuple(
        GuestEvidence(name=g.name, request=g.request, workloads=g.workloads, attach=g.attach, group=g.group)
        for g in guests
    )


def bare(evidence: Evidence) -> Evidence:
    """The clean machine without a VM: its one guest is itself, with all its GPUs."""
    assert evidence.facts is not None
    gpus = tuple(d.address for d in evidence.facts.pci_devices if d.id == "1234:11e8")
    guest = GuestEvidence(
        name="bare",
        request=GuestRequest(name="bare", gpus=len(gpus)),
        workloads=("hashing", "vram"),
        attach="bare",
        cards=Cards(refs=tuple(GpuRef(host=a, guest=a) for a in gpus), same=True),
        reached=True,
    )
    return replace(evidence, guests=(guest,))


def gathered(profile: Profile) -> Evidence:
    return bare(clean.evidence()) if profile.attach == "bare" else clean.evidence()


def places(whole: Iterable[Planned]) -> list[tuple[str, str]]:
    return [(each.check, each.slot) for each in whole]


def found(profile: Profile, evidence: Evidence) -> list[tuple[str, str]]:
    _, cells = engine.run(CHECKS, evidence, profile, clean.HOST)
    return [(cell.check, cell.slot) for cell in cells]


@pytest.mark.parametrize("name", list_names("profiles"))
def test_every_place_that_was_planned_is_found_and_every_one_found_was_planned(name: str) -> None:
    profile = load_profile(name)
    evidence = gathered(profile)
    whole = places(planned(CHECKS, profile, clean.HOST, as_demanded(evidence.guests)))
    assert whole == found(profile, evidence)
    assert len(set(whole)) == len(whole)


@pytest.mark.parametrize("name", list_names("profiles"))
def test_a_profiles_own_guests_have_the_same_places_though_nothing_becomes_of_them(name: str) -> None:
    profile = load_profile(name)
    guests = demanded(profile, choose_guests(profile, "", expected_gpus=clean.HOST.expected_gpus))
    whole = places(planned(CHECKS, profile, clean.HOST, guests))
    assert whole == found(profile, replace(clean.evidence(), guests=guests))
    assert whole == found(profile, replace(clean.evidence(), guests=guests, facts=None))
    assert {check for check, _ in whole} == set(profile.checks)


@pytest.mark.parametrize("name", list_names("profiles"))
def test_each_place_asked_alone_says_what_all_of_them_say_together(name: str) -> None:
    profile = load_profile(name)
    evidence = gathered(profile)
    results, cells = engine.run(CHECKS, evidence, profile, clean.HOST)
    together = {(cell.check, cell.slot): cell for cell in cells}
    said = {(result.check, result.subject): result for result in results}
    for each in planned(CHECKS, profile, clean.HOST, as_demanded(evidence.guests)):
        result, cell = engine.ask(BY_ID[each.check], each.slot, evidence, profile, clean.HOST)
        assert cell == together[each.check, each.slot]
        assert cell is not None
        assert result == said.get((cell.check, cell.subject))


def test_a_place_says_what_it_is_about() -> None:
    profile = load_profile("smoke")
    whole = planned(CHECKS, profile, clean.HOST, as_demanded(clean.evidence().guests))
    by_place = {(each.check, each.slot): each for each in whole}
    assert by_place["host.storage", "host"].guest == ""
    assert by_place["gpu.link", "gpu3"].guest == ""
    assert by_place["guest.started", "g4"].guest == "g4"
    assert by_place["gpu.model_known", "g4-gpu3"].guest == "g4"
    load = by_place["workload.answer", "g1-hashing"]
    assert (load.guest, load.workload, load.phase) == ("g1", "hashing", Phase.BURNIN)
    for each in whole:
        check = BY_ID[each.check]
        assert (each.phase, each.scope) == (check.phase, check.scope)
        assert bool(each.guest) == (check.scope not in (Scope.HOST, Scope.GPU))
        assert bool(each.workload) == (check.scope is Scope.GUEST_WORKLOAD)


def test_the_places_come_in_the_profiles_order() -> None:
    profile = load_profile("smoke")
    backwards = replace(profile, checks=dict(reversed(profile.checks.items())))
    guests = as_demanded(clean.evidence().guests)
    order = list(dict.fromkeys(check for check, _ in places(planned(CHECKS, backwards, clean.HOST, guests))))
    assert order == list(backwards.checks)


def test_users_tests_are_not_planned_here() -> None:
    """Their places are the tests that are collected."""
    profile = replace(load_profile("smoke"), checks={f"{USER}test_x": Severity.BLOCKER})
    assert planned(CHECKS, profile, clean.HOST, ()) == ()
    assert engine.run(CHECKS, clean.evidence(), profile, clean.HOST) == ((), ())


def test_a_check_that_there_is_nothing_to_ask_about_has_a_place_that_says_so() -> None:
    profile = replace(
        load_profile("smoke"),
        checks={"gpu.model_known": Severity.BLOCKER, "guest.started": Severity.BLOCKER},
        guests=(GroupSpec(gpus=0),),
    )
    plain = GuestEvidence(name="0gpu", request=GuestRequest(name="0gpu", gpus=0), workloads=())
    whole = planned(CHECKS, profile, clean.HOST, (plain,))
    assert places(whole) == [("gpu.model_known", NO_SLOT), ("guest.started", "0gpu")]
    evidence = replace(clean.evidence(), guests=(plain,))
    result, cell = engine.ask(BY_ID["gpu.model_known"], NO_SLOT, evidence, profile, clean.HOST)
    assert cell is not None
    assert (result, cell.outcome, cell.reason) == (None, None, "no guest asked for a GPU")


def test_a_gpu_beyond_the_expected_ones_is_found_in_a_place_of_its_own() -> None:
    profile, host = load_profile("smoke"), replace(clean.HOST, expected_gpus=2)
    evidence = clean.evidence()
    whole = places(planned(CHECKS, profile, host, as_demanded(evidence.guests)))
    assert [slot for check, slot in whole if check == "gpu.link"] == ["gpu0", "gpu1"]
    _, cells = engine.run(CHECKS, evidence, profile, host)
    assert [c.slot for c in cells if c.check == "gpu.link"] == ["gpu0", "gpu1", "gpu2", "gpu3"]


@pytest.mark.parametrize("there", [0, 1, 3])
def test_a_gpu_that_is_not_there_keeps_its_place(there: int) -> None:
    evidence = clean.evidence()
    assert evidence.facts is not None
    gone = [d for d in evidence.facts.pci_devices if d.id == "1234:11e8"][there:]
    left = tuple(d for d in evidence.facts.pci_devices if d not in gone)
    changed = replace(evidence, facts=replace(evidence.facts, pci_devices=left))
    _, cells = engine.run(CHECKS, changed, load_profile("smoke"), clean.HOST)
    assert [c.slot for c in cells if c.check == "gpu.link"] == ["gpu0", "gpu1", "gpu2", "gpu3"]


def test_a_load_whose_engine_the_gpus_lack_was_planned_and_has_nothing_to_say() -> None:
    profile = replace(load_profile("smoke"), checks={"workload.answer": Severity.BLOCKER})
    lacking = replace(clean.MODEL, engines={"nvenc": 0, "nvdec": 0})
    guests = tuple(replace(g, workloads=("stream", "hashing")) for g in clean.evidence().guests)
    evidence = replace(clean.evidence(), guests=guests, skus=(lacking,))
    whole = places(planned(CHECKS, profile, clean.HOST, as_demanded(guests)))
    assert ("workload.answer", "g1-stream") in whole
    assert ("workload.answer", "g1-stream") not in found(profile, evidence)
    assert engine.ask(BY_ID["workload.answer"], "g1-stream", evidence, profile, clean.HOST) == (None, None)


def test_a_place_that_nobody_planned_has_nothing_to_say() -> None:
    profile = load_profile("smoke")
    for check, slot in (("gpu.link", "gpu9"), ("guest.started", "nobody"), ("gpu.link", NO_SLOT)):
        assert engine.ask(BY_ID[check], slot, clean.evidence(), profile, clean.HOST) == (None, None)


def until(phase: Phase, evidence: Evidence) -> Evidence:
    """The evidence as it is when questions of a phase are asked; that of guests is one group's."""
    if phase is Phase.AFTERWARDS:
        return evidence
    return replace(
        evidence,
        ended_at=None,
        facts_after=None,
        host_telemetry=None,
        guests=tuple(_guest_until(phase, guest) for guest in evidence.guests),
        resets=evidence.resets if phase is not Phase.READINESS else (),
    )


def _guest_until(phase: Phase, guest: GuestEvidence) -> GuestEvidence:
    if phase is Phase.READINESS:
        return as_demanded((guest,))[0]
    if phase is Phase.PLACEMENT:
        return replace(guest, results=(), residue=(), telemetry=None, release=None, kernel_log=None)
    return replace(guest, release=None, kernel_log=None) if phase is Phase.BURNIN else guest


def said_of(check: Check, evidence: Evidence, profile: Profile) -> dict[str, Outcome | None]:
    only = replace(profile, checks={check.id: profile.checks.get(check.id, Severity.BLOCKER)})
    _, cells = engine.run((check,), evidence, only, clean.HOST)
    return {cell.slot: cell.outcome for cell in cells}


@pytest.mark.parametrize("check", [c for c in CHECKS if not c.on_demand], ids=lambda c: c.id)
def test_a_check_is_asked_no_earlier_than_its_evidence_is_whole(check: Check) -> None:
    profile, whole = clean.profile(), clean.evidence()
    assert said_of(check, until(check.phase, whole), profile) == said_of(check, whole, profile)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_what_a_check_says_in_its_phase_is_what_it_says_in_the_end(fault) -> None:
    """A test that passed, and a cell that fails in the end, would be told apart in the report alone."""
    profile, whole = clean.profile(), fault.corrupt(clean.evidence())
    for check in (BY_ID[name] for name in (fault.must_trip, *fault.also)):
        if not check.on_demand:
            assert said_of(check, until(check.phase, whole), profile) == said_of(check, whole, profile)
