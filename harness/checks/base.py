"""What a check is: a pure judgement of evidence about one subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from harness.attach import attachment
from harness.model.attachment import Attachment, Observable
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import CheckResult
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts, PciDevice


class Phase(StrEnum):
    """When the evidence of a check is whole, and so when it is asked, in this order; marks of the suites.

    Asked earlier, a check would say what later evidence takes back.
    """

    READINESS = "readiness"
    """The host was discovered and is claimed; no guest was tried yet."""
    PLACEMENT = "placement"
    """The guests of a group run, and all of them were looked at."""
    BURNIN = "burnin"
    """Their loads are over."""
    RELEASE = "release"
    """They were given back."""
    AFTERWARDS = "afterwards"
    """All guests are gone, the host was looked at again, and it is no longer claimed."""


class Scope(StrEnum):
    """What a check is asked about, once each. Subjects come from what was *planned*, never from what ran."""

    HOST = "host"
    GPU = "gpu"
    """Every GPU of the host, by the host file's selector."""
    GUEST = "guest"
    """Every guest that the profile demands."""
    GUEST_GPU = "guest_gpu"
    """Every device that a demanded guest asks for: ``g1/gpu0`` until a plan names its address."""
    GUEST_WORKLOAD = "guest_workload"
    """Every workload that the profile demands of a guest."""


USER = "user."
"""What the ids of users' own tests begin with, as checks: ``user.test_my_driver``."""


class MissingEvidence(Exception):
    """The evidence a check needs is not there; the message says what and why, as far as known.

    Not a HarnessError: it never leaves ``harness.checks``, where it becomes a *missing* coverage cell.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One thing a check is asked about; the fields beyond ``name`` depend on the scope."""

    name: str
    slot: str
    """Its place in the plan, known before the host was reached: ``host``, ``gpu2``, ``4gpu``, ``4gpu-gpu2``,
    ``4gpu-tensor``. ``name`` says more as soon as more is known (an address)."""
    guest: GuestEvidence | None = None
    device: PciAddress | None = None
    workload: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that a judge may look at."""

    evidence: Evidence
    profile: Profile
    host: HostFile

    @property
    def mode(self) -> Attachment:
        """How the loads got at the GPUs. Raises ConfigError for a mode that this version does not have."""
        return attachment(self.profile.attach)

    def gpus(self, facts: HostFacts) -> tuple[PciDevice, ...]:
        """The devices that the run is about, in order of address, as ``facts`` show them."""
        return self.mode.select(facts, self.host.placement.selector)


WITH_GUESTS = (Observable.GUEST,)
"""Needs of a check that asks about guests or about what they are given."""

Judge = Callable[[Case, Subject], CheckResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check: its id (``host.iommu_live``), what it asks, why that matters, its scope, phase and judge.

    The judge returns PASS, FAIL, ERROR or SKIP (a SKIP says why, and counts as not covered). It raises
    MissingEvidence when it has nothing to judge.
    """

    id: str
    title: str
    why: str
    scope: Scope
    phase: Phase
    judge: Judge
    needs: tuple[Observable, ...] = ()
    """What a run must be able to observe for it; profiles of an attach mode that cannot may not name it."""
    on_demand: bool = False
    """True: its evidence comes with an option of the command line only, which then makes it a blocker;
    shipped profiles do not name it."""
