"""What a guest loses while its neighbours are loaded, against guests like it of one run that were alone."""

from __future__ import annotations

from harness.checks.answers import error, failed, listing, ok
from harness.checks.base import WITH_GUESTS, Case, Check, MissingEvidence, Phase, Scope, Subject
from harness.model.evidence import Evidence
from harness.model.outcome import Action, CheckResult, EvidenceRef
from harness.verdict.disturbance import (
    Disturbance,
    as_measurement,
    beside_others,
    counterparts,
    disturbances,
    neighbours,
    not_compared,
)
from harness.verdict.ratio import Finding

_REMEDY = (
    "find what the guests share: a PCIe switch or root port (lspci -tv; affects pcie.* and p2p.*), the "
    "memory bandwidth of a NUMA node, cores or caches (placement.threads), power or cooling "
    "(gpu.clock_reasons, gpu.temperature); give them GPUs and cores that do not share it, or raise the cap"
)


def _disturbance(case: Case, _subject: Subject) -> CheckResult:
    evidence, spec = case.evidence, case.profile.disturbance
    found = disturbances(evidence, spec)
    losing = [one for one in found if one.finding is Finding.LOSES]
    measured = tuple(as_measurement(one) for one in found if one.ratio is not None)
    if losing:
        said = listing([f"{_beside(evidence, one.guest)}: {_words(one)}" for one in losing])
        return failed(
            f"slower beside neighbours: {said}",
            _REMEDY,
            Action.FIX_CONFIG,
            evidence=_files(evidence),
            measurements=measured,
        )
    _raise_when_open(evidence, found)
    kept = [one for one in found if one.finding is Finding.KEEPS]
    idle = sorted(set(spec.floors) - {one.name for one in kept})
    if idle:
        return error(
            f"thresholds that match no measurement: {listing(idle)}",
            f"correct the names in profile {case.profile.name}; compared: {listing(_names(kept), most=20)}",
            evidence=_files(evidence),
        )
    worst = min(kept, key=lambda one: one.low or 0.0)
    alone = _without_counterpart(evidence)
    rest = f"; no equal guest ran alone: {listing(alone)}" if alone else ""
    return ok(
        f"{len(kept)} measurements hold beside neighbours; the lowest: {worst.guest}, {_words(worst)}{rest}",
        evidence=_files(evidence),
        measurements=measured,
    )


def _raise_when_open(evidence: Evidence, found: tuple[Disturbance, ...]) -> None:
    """Raises MissingEvidence when anything that was to be compared was not, or not well enough."""
    if not beside_others(evidence):
        raise MissingEvidence("no guest of this run had neighbours")
    if not found:
        names = listing(_without_counterpart(evidence))
        why = f"no guest equal to {names} ran alone" if names else "no common load measured a rate"
        raise MissingEvidence(f"nothing can be compared: {why}")
    blank = [f"{one.guest}, {one.workload} ({one.name}: {one.detail})" for one in not_compared(found)]
    if blank:
        raise MissingEvidence(f"nothing to compare for {listing(blank)}")
    undecided = [f"{one.guest}, {_words(one)}" for one in found if one.undecided]
    if undecided:
        raise MissingEvidence(f"too few values to decide: {listing(undecided)}")


def _without_counterpart(evidence: Evidence) -> list[str]:
    """Guests that no guest alone is like: the profile's choice, and not compared with anything."""
    return [guest.name for guest in beside_others(evidence) if not counterparts(guest, evidence)]


def _names(found: list[Disturbance]) -> list[str]:
    return sorted({one.name for one in found})


def _beside(evidence: Evidence, name: str) -> str:
    guest = next(guest for guest in evidence.guests if guest.name == name)
    return f"{name} beside {listing([other.name for other in neighbours(guest, evidence)])}"


def _files(evidence: Evidence) -> tuple[EvidenceRef, ...]:
    return tuple(
        EvidenceRef(file="run.json", place=f"evidence.guests[{guest.name}].results")
        for guest in beside_others(evidence)
    )


def _words(one: Disturbance) -> str:
    where = f" on {one.device}" if one.device is not None else ""
    said = f"{one.name}{where}: {one.ratio or 0.0:.3f} of that alone"
    if one.low is None:
        return f"{said} ({one.runs[0]} values beside, {one.runs[1]} alone)"
    return f"{said}, 95 % between {one.low:.3f} and {one.high:.3f}, at least {one.floor:g}"


CHECKS = (
    Check(
        id="tenants.disturbance",
        title="Does a guest keep its speed while its neighbours are loaded?",
        why="Tenants with GPUs of their own still share switches, memory and power: one may slow another.",
        scope=Scope.HOST,
        phase=Phase.AFTERWARDS,
        judge=_disturbance,
        needs=WITH_GUESTS,
    ),
)
