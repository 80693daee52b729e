"""What a fault of evidence is, and the few ways in which all of them reach into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.checks.registry import OF_VENDORS
from harness.errors import ConfigError
from harness.model.evidence import Evidence, GuestEvidence, ReleaseEvidence, WorkloadResult
from harness.model.outcome import Outcome
from harness.model.pci import PciAddress
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts, PciDevice

Corrupt = Callable[[Evidence], Evidence]

OF_ONE_GPU = (
    "telemetry.coverage",
    "telemetry.present",
    "telemetry.alive",
    "gpu.clock_reasons",
    "gpu.temperature",
    "gpu.power",
    "gpu.foreign_processes",
    "gpu.ecc_mode",
    "gpu.ecc_errors",
    "gpu.retired_memory",
    "gpu.pcie_under_load",
    *(check.id for check in OF_VENDORS),
    "gpu.settings",
    "gpu.work",
    "gpu.memory_size",
)
"""Checks that have nothing to judge without a GPU's samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One deliberate defect: evidence as it would look on a host that has it, and the check that must see it.

    ``outcome`` is what the check must say (None: it must be missing). ``also`` names the checks that see the
    same defect from their side; no others may change.
    """

    id: str
    title: str
    must_trip: str
    corrupt: Corrupt
    outcome: Outcome | None = Outcome.FAIL
    also: tuple[str, ...] = ()


def facts_of(evidence: Evidence) -> HostFacts:
    """The facts; raises ConfigError when the evidence holds none to corrupt."""
    if evidence.facts is None:
        raise ConfigError("this evidence has no facts, so no fault of the host can be put into it")
    return evidence.facts


def with_facts(evidence: Evidence, *, before: bool = True, after: bool = True, **changes: Any) -> Evidence:
    """The evidence with fields of the facts changed, before the guests, after them, or both."""
    changed = evidence
    if before:
        changed = replace(changed, facts=replace(facts_of(evidence), **changes))
    if after and evidence.facts_after is not None:
        changed = replace(changed, facts_after=replace(evidence.facts_after, **changes))
    return changed


def with_device(
    evidence: Evidence, address: PciAddress, *, before: bool = True, after: bool = True, **changes: Any
) -> Evidence:
    """The evidence with fields of one function changed, before the guests, after them, or both."""

    def devices(facts: HostFacts) -> tuple[PciDevice, ...]:
        return tuple(replace(d, **changes) if d.address == address else d for d in facts.pci_devices)

    changed = evidence
    if before:
        changed = with_facts(changed, after=False, pci_devices=devices(facts_of(evidence)))
    if after and evidence.facts_after is not None:
        changed = with_facts(changed, before=False, pci_devices=devices(evidence.facts_after))
    return changed


def with_guest(evidence: Evidence, index: int = 0, **changes: Any) -> Evidence:
    """The evidence with fields of one guest changed."""
    guests = list(evidence.guests)
    guests[index] = replace(guest(evidence, index), **changes)
    return replace(evidence, guests=tuple(guests))


def with_release(evidence: Evidence, index: int = 0, **changes: Any) -> Evidence:
    """The evidence with fields of one guest's release changed."""
    return with_guest(evidence, index, release=replace(release(evidence, index), **changes))


def with_result(evidence: Evidence, index: int = 0, **changes: Any) -> Evidence:
    """The evidence with fields of the first workload result of one guest changed."""
    first, *rest = results(evidence, index)
    return with_guest(evidence, index, results=(replace(first, **changes), *rest))


def guest(evidence: Evidence, index: int = 0) -> GuestEvidence:
    """One guest; raises ConfigError when there are not that many."""
    if len(evidence.guests) <= index:
        raise ConfigError(f"this evidence holds {len(evidence.guests)} guests; the fault needs {index + 1}")
    return evidence.guests[index]


def plan(evidence: Evidence, index: int = 0) -> PlacementPlan:
    """The plan of one guest; raises ConfigError when it has none."""
    found = guest(evidence, index).plan
    if found is None:
        raise ConfigError(f"guest {guest(evidence, index).name} has no plan")
    return found


def release(evidence: Evidence, index: int = 0) -> ReleaseEvidence:
    """The release of one guest; raises ConfigError when it was not recorded."""
    found = guest(evidence, index).release
    if found is None:
        raise ConfigError(f"guest {guest(evidence, index).name} has no release")
    return found


def results(evidence: Evidence, index: int = 0) -> tuple[WorkloadResult, ...]:
    """The workload results of one guest; raises ConfigError when there are none."""
    found = guest(evidence, index).results
    if not found:
        raise ConfigError(f"guest {guest(evidence, index).name} has no workload result")
    return found


def gpu(evidence: Evidence) -> PciDevice:
    """The first GPU that the first guest was given, as discovered."""
    address = plan(evidence).gpus[0].host
    found = facts_of(evidence).device(address)
    if found is None:
        raise ConfigError(f"the facts do not hold {address}")
    return found
