"""What fixtures hand to users' tests: the host, its guests, their GPUs and loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from harness.model.evidence import GuestEvidence, WorkloadResult
from harness.model.gpu import GpuRef
from harness.model.inventory import HostFile
from harness.model.placement import ObservedPlacement, PlacementPlan
from harness.model.topology import HostFacts
from harness.ports import CommandResult, Transport

if TYPE_CHECKING:
    from harness.plugin.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One guest of a group, and where a test asks for it, one GPU by its number, or one load."""

    guest: str
    gpu: int = 0
    workload: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """What commands can be run on; each command and its output are kept in the run's transcripts."""

    transport: Transport

    def run(self, *argv: str, stdin: bytes = b"", deadline: float = 60.0) -> CommandResult:
        """Run a command, without a shell; a status other than 0 is a result. Raises TransportError."""
        return self.transport.run(argv, stdin=stdin, deadline=deadline, label=f"user {argv[0]}"[:60])

    @property
    def infra(self) -> Any:
        """A testinfra host over the same connection: ``infra.file(...)``, ``infra.check_output(...)``."""
        from harness.backends.testinfra_backend import infra_host  # noqa: PLC0415  20 ms that not all pay

        return infra_host(self.transport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(_Machine):
    """The candidate host."""

    host: HostFile
    facts: HostFacts

    @classmethod
    def of(cls, run: Run) -> Candidate:
        """The host of the run; fails the test's set-up with the cause where it could not be had."""
        claimed = run.reach()
        if claimed is None:
            pytest.fail(run.why_not(""), pytrace=False)
        return cls(transport=claimed.access.transport, host=claimed.context.host, facts=claimed.facts)

    @property
    def name(self) -> str:
        """As in its file."""
        return self.host.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load of one guest."""

    name: str
    guest: str
    results: tuple[WorkloadResult, ...]
    """One a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest(_Machine):
    """One guest that is up, or the bare machine."""

    evidence: GuestEvidence
    group: str

    @classmethod
    def of(cls, run: Run, group: str, name: str) -> Guest:
        """The guest of that name; fails the test's set-up with the cause where it is not up."""
        transport = run.connection(group, name)
        if transport is None:
            pytest.fail(run.why_not(name), pytrace=False)
        return cls(transport=transport, evidence=run.guest_evidence(name), group=group)

    @property
    def name(self) -> str:
        """As in the plan and the reports."""
        return self.evidence.name

    @property
    def plan(self) -> PlacementPlan | None:
        """Where it was to land; None on a bare machine."""
        return self.evidence.plan

    @property
    def observed(self) -> ObservedPlacement | None:
        """Where it landed; None where that could not be read."""
        return self.evidence.observed

    @property
    def gpus(self) -> tuple[GpuRef, ...]:
        """Its GPUs, in the plan's order."""
        cards = self.evidence.cards
        return tuple(cards.of(address) or GpuRef(host=address) for address in self.evidence.gpus)

    def gpu(self, number: int) -> GpuRef:
        """One of its GPUs, from 0; fails the test where it has fewer."""
        if number >= len(self.gpus):
            pytest.fail(f"{self.name} has {len(self.gpus)} GPUs, so none with number {number}", pytrace=False)
        return self.gpus[number]

    def load(self, run: Run, workload: str) -> Load:
        """One of its loads, run now with the others that the session asks about where it has not been yet."""
        run.burn(self.group)
        results = tuple(r for r in run.guest_evidence(self.name).results if r.workload == workload)
        if not results:
            pytest.fail(f"{workload} has no result in {self.name}: {run.why_not(self.name)}", pytrace=False)
        return Load(name=workload, guest=self.name, results=results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    """The guests of one group, all of them up."""

    name: str
    each: tuple[Guest, ...]

    @classmethod
    def of(cls, run: Run, group: str) -> Guests:
        """The group of that name; fails the test's set-up where a guest of it is not up."""
        names = [guest.request.name for guest in run.demand.of_group(group)]
        return cls(name=group, each=tuple(Guest.of(run, group, name) for name in names))

    def __iter__(self) -> Iterator[Guest]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    def __getitem__(self, number: int) -> Guest:
        return self.each[number]
