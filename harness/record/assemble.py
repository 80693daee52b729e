"""Events of one attempt to Evidence: a pure fold, so that a run reads the same on any machine, at any time.

``harness.record.attempts`` makes a run of its attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from harness.errors import ParseError, RecordError, why
from harness.model.death import GuestDeath
from harness.model.evidence import (
    Asked,
    Engine,
    Evidence,
    GuestEvidence,
    LedgerRow,
    Note,
    Reference,
    ReleaseEvidence,
    ResetTrial,
    ResidueTrial,
    StageError,
    SystemAnswer,
    WorkloadResult,
)
from harness.model.gpu import Cards, with_told
from harness.model.guest import GuestDemand
from harness.model.inventory import HostFile, Profile, Waiver
from harness.model.placement import NoPlan, ObservedPlacement, PlacementLook, PlacementPlan
from harness.model.record import SCHEMA_VERSION
from harness.model.sku import Sku
from harness.model.telemetry import GuestTelemetry, HostTelemetry
from harness.model.topology import HostFacts
from harness.record.events import Event
from harness.record.kinds import Kind
from harness.record.notes import with_note
from harness.serial import from_data

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInputs:
    """What was frozen when the run began."""

    run: str
    host: HostFile
    profile: Profile
    waivers: tuple[Waiver, ...]
    skus: tuple[Sku, ...]
    guests: tuple[GuestDemand, ...]
    shakedown_version: str
    command: tuple[str, ...]
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION


def run_inputs(events: tuple[Event, ...]) -> RunInputs:
    """The inputs frozen in the first event. Raises RecordError when it is not a ``run.start``, or one of a
    version that recorded other things by the same names."""
    if not events or events[0].kind != Kind.RUN_START:
        raise RecordError("the events do not begin with run.start: what the run required is unknown")
    schema = events[0].data.get("schema_version", 1)
    if schema != SCHEMA_VERSION:
        by = str(events[0].data.get("shakedown_version", "an unknown version"))[:40]
        raise RecordError(
            f"the run was recorded by Shakedown {by} in schema version {str(schema)[:20]}, and this version "
            f"reads {SCHEMA_VERSION}",
            remedy="judge and report it with the version that recorded it, or run the host again",
        )
    return guarded(events[0], lambda: from_data(RunInputs, events[0].data, source="run.start"))


def at_start(inputs: RunInputs, at: str) -> Evidence:
    """The evidence of an attempt that began at ``at``: the host, and the guests that are demanded."""
    return Evidence(
        host=inputs.host.name,
        subject=inputs.host.subject,
        profile=inputs.profile.name,
        skus=inputs.skus,
        run=inputs.run,
        started_at=at,
        ended_at=None,
        guests=demanded(inputs.profile, inputs.guests),
    )


def demanded(profile: Profile, guests: Iterable[GuestDemand]) -> tuple[GuestEvidence, ...]:
    """The guests of a run of which nothing is known yet but that they are demanded."""
    return tuple(
        GuestEvidence(
            name=guest.request.name,
            request=guest.request,
            workloads=guest.workloads,
            attach=profile.attach,
            group=guest.group,
        )
        for guest in guests
    )


def with_event(evidence: Evidence, event: Event) -> Evidence:
    """The evidence of an attempt with what one more of its events says.

    Raises RecordError for an unknown kind, a value that does not fit, or a guest that was never requested.
    """
    step = _STEPS.get(event.kind)
    if step is None:
        raise RecordError(f"event {event.seq} is of unknown kind {event.kind[:80]!r}")
    return guarded(event, partial(step, evidence, event))


def guarded(event: Event, step: Callable[[], T]) -> T:
    """What ``step`` makes of an event. Raises RecordError where the event does not fit."""
    try:
        return step()
    except RecordError:
        raise
    except Exception as error:
        said = error.message if isinstance(error, ParseError) else why(error)
        raise RecordError(
            f"event {event.seq} ({event.kind}) does not have the expected content: {said[:300]}"
        ) from error


def _many(kind: type[T], values: Any) -> tuple[T, ...]:
    return tuple(from_data(kind, value) for value in values)


def _texts(values: Any) -> tuple[str, ...]:
    return from_data(tuple[str, ...], values)


def with_guest(evidence: Evidence, name: Any, **changes: Any) -> Evidence:
    """The evidence with changes to one guest. Raises RecordError for one that was never requested."""
    if not any(guest.name == name for guest in evidence.guests):
        raise RecordError(f"guest {str(name)[:80]!r} was not requested")
    guests = tuple(replace(g, **changes) if g.name == name else g for g in evidence.guests)
    return replace(evidence, guests=guests)


def _guest(evidence: Evidence, name: Any) -> GuestEvidence:
    found = next((g for g in evidence.guests if g.name == name), None)
    if found is None:
        raise RecordError(f"guest {str(name)[:80]!r} was not requested")
    return found


def _keep(evidence: Evidence, _event: Event) -> Evidence:
    return evidence


def _run_end(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, ended_at=event.at, interrupted=event.data["interrupted"] is not False)


def _stage_end(evidence: Evidence, event: Event) -> Evidence:
    name, seconds = str(event.data["stage"]), from_data(float, event.data["seconds"])
    total = round(evidence.seconds.get(name, 0.0) + seconds, 6)
    return replace(evidence, seconds={**evidence.seconds, name: total})


def _facts(evidence: Evidence, event: Event) -> Evidence:
    facts = from_data(HostFacts, event.data["facts"], source="facts")
    if event.data["after"]:
        return replace(evidence, facts_after=facts)
    return replace(evidence, facts=facts, facts_file=str(event.data["file"]))


def _system(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, system=evidence.system + _many(SystemAnswer, event.data["answers"]))


def _ledger(evidence: Evidence, event: Event) -> Evidence:
    rows = _many(LedgerRow, event.data["rows"])
    return replace(evidence, ledger=(*(evidence.ledger or ()), *rows))


def _asked(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, asked=(*evidence.asked, *_many(Asked, event.data["answers"])))


def _guest_plan(evidence: Evidence, event: Event) -> Evidence:
    data = event.data
    if "plan" in data:
        return with_guest(evidence, data["guest"], plan=from_data(PlacementPlan, data["plan"]), no_plan=None)
    return with_guest(evidence, data["guest"], no_plan=from_data(NoPlan, data["no_plan"]), plan=None)


def _guest_xml(evidence: Evidence, event: Event) -> Evidence:
    data = event.data
    return with_guest(
        evidence, data["guest"], domain_xml=str(data["file"]), xml_problems=_texts(data["problems"])
    )


def _guest_reached(evidence: Evidence, event: Event) -> Evidence:
    seconds = from_data(float, event.data["boot_seconds"])
    return with_guest(evidence, event.data["guest"], reached=True, boot_seconds=seconds)


def _guest_observed(evidence: Evidence, event: Event) -> Evidence:
    observed = from_data(ObservedPlacement, event.data["observed"])
    files = _texts(event.data["files"])
    return with_guest(evidence, event.data["guest"], observed=observed, observed_files=files)


def _guest_looked_at(evidence: Evidence, event: Event) -> Evidence:
    guest = _guest(evidence, event.data["guest"])
    look = from_data(PlacementLook, event.data["look"])
    return with_guest(evidence, guest.name, looks=(*guest.looks, look))


def _guest_death(evidence: Evidence, event: Event) -> Evidence:
    return with_guest(evidence, event.data["guest"], death=from_data(GuestDeath, event.data["death"]))


def _kernel_log(evidence: Evidence, event: Event) -> Evidence:
    lines = event.data["lines"]
    return with_guest(evidence, event.data["guest"], kernel_log=None if lines is None else _texts(lines))


def _workload(evidence: Evidence, event: Event) -> Evidence:
    result = from_data(WorkloadResult, event.data["result"])
    guest = _guest(evidence, result.guest)
    return with_guest(evidence, guest.name, results=(*guest.results, result))


def _telemetry(evidence: Evidence, event: Event) -> Evidence:
    telemetry = from_data(GuestTelemetry, event.data["telemetry"])
    told = (gpu.gpu for gpu in telemetry.gpus if gpu.gpu is not None)
    cards = with_told(_guest(evidence, telemetry.guest).cards, told)
    return with_guest(evidence, telemetry.guest, telemetry=telemetry, cards=cards)


def _host_telemetry(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, host_telemetry=from_data(HostTelemetry, event.data["telemetry"]))


def _guest_cards(evidence: Evidence, event: Event) -> Evidence:
    return with_guest(evidence, event.data["guest"], cards=from_data(Cards, event.data["cards"]))


def _residue(evidence: Evidence, event: Event) -> Evidence:
    guest = _guest(evidence, event.data["guest"])
    trial = from_data(ResidueTrial, event.data["trial"])
    return with_guest(evidence, guest.name, residue=(*guest.residue, trial))


def _release(evidence: Evidence, event: Event) -> Evidence:
    release = from_data(ReleaseEvidence, event.data["release"])
    return with_guest(evidence, release.guest, release=release)


def _reset(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, resets=(*evidence.resets, from_data(ResetTrial, event.data["trial"])))


def _reference(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, reference=from_data(Reference, event.data["reference"]))


MOST_ERRORS = 5000
"""So many broken stages are kept of one attempt. More tell nothing new, and are no verdict's gain."""


def _error(evidence: Evidence, event: Event) -> Evidence:
    if len(evidence.errors) >= MOST_ERRORS:
        return evidence
    return replace(evidence, errors=(*evidence.errors, from_data(StageError, event.data["error"])))


def _note(evidence: Evidence, event: Event) -> Evidence:
    return with_note(evidence, from_data(Note, event.data["note"]))


def _engine(evidence: Evidence, event: Event) -> Evidence:
    return replace(evidence, engine=from_data(Engine, event.data["engine"]))


def _guest_started(evidence: Evidence, event: Event) -> Evidence:
    return with_guest(evidence, event.data["guest"], started=True)


_STEPS: dict[str, Callable[[Evidence, Event], Evidence]] = {
    Kind.RUN_END: _run_end,
    Kind.STAGE_START: _keep,
    Kind.STAGE_END: _stage_end,
    Kind.FILE: _keep,
    Kind.WATCH: _keep,
    Kind.ENGINE: _engine,
    Kind.FACTS: _facts,
    Kind.REFERENCE: _reference,
    Kind.SYSTEM: _system,
    Kind.RESET: _reset,
    Kind.LEDGER: _ledger,
    Kind.ASKED: _asked,
    Kind.GUEST_PLAN: _guest_plan,
    Kind.GUEST_XML: _guest_xml,
    Kind.GUEST_STARTED: _guest_started,
    Kind.GUEST_REACHED: _guest_reached,
    Kind.GUEST_OBSERVED: _guest_observed,
    Kind.GUEST_LOOKED_AT: _guest_looked_at,
    Kind.GUEST_DEATH: _guest_death,
    Kind.GUEST_KERNEL_LOG: _kernel_log,
    Kind.WORKLOAD: _workload,
    Kind.TELEMETRY: _telemetry,
    Kind.HOST_TELEMETRY: _host_telemetry,
    Kind.GUEST_CARDS: _guest_cards,
    Kind.RESIDUE: _residue,
    Kind.RELEASE: _release,
    Kind.ERROR: _error,
    Kind.NOTE: _note,
    Kind.RECORD: _keep,
    Kind.END: _keep,
}
