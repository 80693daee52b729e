"""How judges get at telemetry that may not be there, and what a sensor that a card lacks means.

A sensor can be in four states, and they are never mixed up. It gave values: they are judged. The card said
itself that it has none (``offered`` is False): each judge decides what that means. It is offered and gave
nothing: missing evidence. Nobody ever recorded it: missing evidence.
"""

from __future__ import annotations

from harness.checks.answers import guest, why_no_guest
from harness.checks.base import Case, MissingEvidence, Subject
from harness.checks.plain import plain
from harness.model.outcome import EvidenceRef, SubjectKind
from harness.model.telemetry import GpuTelemetry, GuestTelemetry, SeriesSummary
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import SENSOR
from harness.vendors.names import advised

FAILED_SHARE = 0.01
"""Share of a sensor's reads that may fail: 1 % of the time is what a held-back clock must not exceed either
(statistics-and-faults §6). A sensor that fails when the card is hot says nothing of its heat."""


def recorded(case: Case, subject: Subject) -> GuestTelemetry:
    """What the sampler of the subject's guest brought back, whole or not. Raises MissingEvidence."""
    evidence = guest(subject)
    found = evidence.telemetry
    if found is None:
        raise MissingEvidence(
            f"no telemetry was recorded for {evidence.name}: {why_no_guest(case, evidence)}"
        )
    if not found.source:
        why = found.detail or "no reason was recorded"
        raise MissingEvidence(f"no GPU telemetry in {evidence.name}, so nothing was measured: {why}")
    return found


def genuine(case: Case, telemetry: GuestTelemetry) -> bool:
    """Whether these numbers may be said of the run's subject: a stand-in says nothing about hardware."""
    return not telemetry.standin or case.evidence.subject is not SubjectKind.HARDWARE


def matching(subject: Subject, telemetry: GuestTelemetry) -> GpuTelemetry | None:
    """The GPU of the sampler that is the subject's device; None when it saw no such."""
    if subject.device is None:
        raise MissingEvidence("the plan names no device here, so no telemetry belongs to it")
    return next((gpu for gpu in telemetry.gpus if gpu.host_address == subject.device), None)


def card(case: Case, subject: Subject) -> tuple[GuestTelemetry, GpuTelemetry]:
    """The subject's GPU as its guest's sampler saw it. Raises MissingEvidence."""
    telemetry = recorded(case, subject)
    if not genuine(case, telemetry):
        raise MissingEvidence(
            f"the numbers come from the {advised(telemetry.source).library} stand-in {telemetry.standin!r} "
            "and prove nothing about hardware"
        )
    found = matching(subject, telemetry)
    if found is None:
        raise MissingEvidence(f"the sampler saw no GPU for host device {subject.device}")
    return telemetry, found


def sensor(gpu: GpuTelemetry, name: str) -> SeriesSummary:
    """One series that gave values, or that the card said it does not have.

    Raises MissingEvidence, also for one that failed too often to have seen what it should.
    """
    found = gpu.series.get(name)
    if found is None:
        raise MissingEvidence(f"{name} was never read")
    if found.offered and (found.count == 0 or found.minimum is None or found.maximum is None):
        why = f" ({found.detail})" if found.detail else ""
        raise MissingEvidence(f"{name} gave no value: {found.failed} reads failed{why}")
    if found.offered and found.failed > max(1.0, FAILED_SHARE * (found.count + found.failed)):
        why = f" ({found.detail})" if found.detail else ""
        reads = found.count + found.failed
        raise MissingEvidence(f"{name} failed in {found.failed} of {reads} reads{why}")
    if found.doubts and SENSOR[name].kind is not Kind.COUNTER:
        raise MissingEvidence(f"{name} is not plausible: {found.doubts[0].said}")
    return found


def values(gpu: GpuTelemetry, name: str) -> SeriesSummary | None:
    """As ``sensor``, but None for one that the card said it does not have."""
    found = sensor(gpu, name)
    return found if found.offered else None


def counted(gpu: GpuTelemetry, name: str) -> tuple[float, float] | None:
    """A counter's highest value and its growth under load; None when the card has no such counter.

    Every increment counts, also those after a reset. A counter that fell hides what it counted before:
    whoever found nothing wrong says so through ``trusted``.
    """
    found = values(gpu, name)
    if found is None:
        return None
    grown = found.increase
    if found.maximum is None or grown is None:
        raise MissingEvidence(f"{name} has no first and last value")
    if grown < 0:
        raise MissingEvidence(f"{name} fell from {found.first:g} to {found.last:g} under load: it was reset")
    return found.maximum, grown


def trusted(gpu: GpuTelemetry, *names: str) -> None:
    """Raises MissingEvidence when one of these counters fell or jumped: then "it counted nothing" is not
    known."""
    for name in names:
        found = gpu.series.get(name)
        if found is not None and found.doubts:
            raise MissingEvidence(f"{name} is not plausible: {found.doubts[0].said}")


def believed(gpu: GpuTelemetry, name: str) -> SeriesSummary | None:
    """A series that gave values and is not in doubt; None otherwise, whatever the reason."""
    found = gpu.series.get(name)
    if found is None or not found.offered or found.count == 0 or found.doubts:
        return None
    return found


def stated(gpu: GpuTelemetry, name: str) -> float | str | bool | None:
    """A property of the card; None when it said that it has none. MissingEvidence when nobody knows."""
    if name not in gpu.properties:
        raise MissingEvidence(f"the {name} was not read, or the card failed to answer")
    return gpu.properties[name]


def at_any_time(gpu: GpuTelemetry, name: str) -> tuple[float | str | bool, ...]:
    """All values that a property had while the run had the card, the first one first. MissingEvidence as
    ``stated``; empty when the card has none."""
    first = stated(gpu, name)
    later = (change.after for change in gpu.changes if change.name == name)
    return tuple(value for value in (first, *later) if value is not None)


def limit(gpu: GpuTelemetry, name: str) -> float | None:
    """A property that is a positive number; None when the card has none or gives zero or less.

    gpud: some H100 report thresholds of zero or less, which are no thresholds (statistics-and-faults §6).
    """
    value = stated(gpu, name)
    if value is None or isinstance(value, str | bool) or value <= 0:
        return None
    return float(value)


def span(telemetry: GuestTelemetry) -> float:
    """Seconds from the first load's begin to the last one's end. Raises MissingEvidence without loads."""
    if not telemetry.loads:
        raise MissingEvidence("no load was recorded, so there is no evidence under load")
    seconds = max(load.end for load in telemetry.loads) - min(load.start for load in telemetry.loads)
    if seconds <= 0:
        raise MissingEvidence("no load time was recorded")
    return seconds


def at(telemetry: GuestTelemetry, gpu: GpuTelemetry, name: str, said: object = "") -> EvidenceRef:
    """A reference to one series of one GPU in the sampler's spool."""
    return EvidenceRef(
        file=telemetry.spool or "run.json",
        place=f"guest {telemetry.guest}, GPU {gpu.index} ({gpu.uuid}), {name}",
        quote=plain(said)[:400],
    )
