"""Evidence written as a run writes it: part by part, through a real Recorder, in the order of the stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.model.evidence import Evidence, GuestEvidence, Note
from harness.model.gpu import Cards
from harness.model.guest import GuestDemand, GuestRequest
from harness.model.inventory import HostFile, Profile
from harness.record.attempts import assemble
from harness.record.events import read_events
from harness.record.notes import leave_note
from harness.record.recorder import Recorder
from tests.reports.records import TickingClock

BARE = "bare"
BY, AT = "a person", "2026-11-22T00:05:00Z"


def begin(root: Path, evidence: Evidence, *, profile: Profile, host: HostFile) -> Recorder:
    """The run of ``evidence``, open and with nothing learned yet."""
    return Recorder.begin(
        root,
        host=host,
        profile=profile,
        waivers=(),
        skus=evidence.skus,
        guests=tuple(
            GuestDemand(request=g.request, workloads=g.workloads, group=g.group) for g in evidence.guests
        ),
        clock=TickingClock(),
        run_id=evidence.run,
    )


def replay(recorder: Recorder, evidence: Evidence) -> None:
    """Record all of ``evidence``, up to the end of its stages. What a person did comes by a note."""
    recorder.engine(evidence.engine)
    if evidence.reference is not None:
        recorder.reference(evidence.reference)
    if evidence.facts is not None:
        recorder.facts(evidence.facts, file=evidence.facts_file)
    recorder.system(evidence.system)
    for trial in evidence.resets:
        recorder.reset(trial)
    if evidence.ledger is not None:
        recorder.ledger(evidence.ledger)
    for guest in evidence.guests:
        _place(recorder, guest)
        _load(recorder, guest)
    if evidence.host_telemetry is not None:
        recorder.host_telemetry(evidence.host_telemetry)
    for problem in evidence.errors:
        recorder.error(problem)
    for what in evidence.interventions:
        leave_note(recorder.directory, Note(at=AT, by=BY, text=what, intervention=True))
    for note in evidence.notes:
        leave_note(recorder.directory, note)
    if evidence.asked:
        recorder.asked(evidence.asked)
    if evidence.facts_after is not None:
        recorder.facts(evidence.facts_after, after=True)
    for stage, seconds in evidence.seconds.items():
        recorder.stage_ended(stage, seconds)
    recorder.run_ended(interrupted=evidence.interrupted)


def _place(recorder: Recorder, guest: GuestEvidence) -> None:
    for answer in (guest.plan, guest.no_plan):
        if answer is not None:
            recorder.guest_planned(guest.name, answer)
    if guest.cards != Cards():
        recorder.guest_cards(guest.name, guest.cards)
    if guest.domain_xml:
        file = recorder.save_domain_xml(guest.name, f"<domain><name>{guest.name}</name></domain>\n")
        assert file == guest.domain_xml
        recorder.guest_xml(guest.name, file, guest.xml_problems)
    if guest.started:
        recorder.guest_started(guest.name)
    if guest.reached:
        recorder.guest_reached(guest.name, guest.boot_seconds or 0.0)
    if guest.observed is not None:
        recorder.guest_observed(guest.name, guest.observed, guest.observed_files)


def _load(recorder: Recorder, guest: GuestEvidence) -> None:
    for look in guest.looks:
        recorder.guest_looked_at(guest.name, look)
    for result in guest.results:
        recorder.workload(result)
    for trial in guest.residue:
        recorder.residue(guest.name, trial)
    if guest.telemetry is not None:
        recorder.telemetry(guest.telemetry)
    if guest.death is not None:
        recorder.guest_died(guest.name, guest.death)
    recorder.guest_kernel_log(guest.name, guest.kernel_log)
    if guest.release is not None:
        recorder.released(guest.release)


def read_back(recorder: Recorder) -> Evidence:
    """What the run directory says, with every note that was left in it."""
    assert recorder.absorb_notes() == ()
    return assemble(read_events(recorder.directory.events).events)


def as_recorded(evidence: Evidence, got: Evidence) -> Evidence:
    """``evidence`` as it must come back: with the run's own times, and what people did with who and when."""
    return replace(
        evidence,
        started_at=got.started_at,
        ended_at=got.ended_at,
        profile=got.profile,
        interventions=tuple(f"{BY} at {AT}: {what}" for what in evidence.interventions),
    )


def as_bare(evidence: Evidence) -> Evidence:
    """The run as if the loads of its first guest had run on the machine itself, without a VM."""
    guest = evidence.guests[0]
    bare = GuestEvidence(
        name=BARE,
        request=GuestRequest(name=BARE, gpus=len(guest.gpus)),
        workloads=guest.workloads,
        attach="bare",
        cards=Cards(refs=tuple(replace(ref, guest=ref.host) for ref in guest.cards.refs), same=True),
        reached=True,
        boot_seconds=0.0,
        results=tuple(replace(result, guest=BARE) for result in guest.results),
        telemetry=None if guest.telemetry is None else replace(guest.telemetry, guest=BARE),
    )
    return replace(evidence, guests=(bare,), resets=())
