"""Guests whose run has neither claims nor a controller are cleared; all others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.errors import ClaimError, ReleaseError
from harness.model.pci import PciAddress
from harness.placement.domain.definition import RUN_NAMESPACE
from harness.stages.host.claims import claim, holders
from harness.stages.host.leases import hold_lease
from harness.stages.host.orphans import clear_orphans
from tests.fakes import FakeClock, FakeHypervisor

GPU = PciAddress.parse("0000:41:00.0")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[str, ...]:
    return (str(tmp_path / "claims-root"),)


def domain(name: str, run: str) -> str:
    key = f"<s:guest xmlns:s='{RUN_NAMESPACE}' run='{run}'/>"
    return f"<domain type='test'><name>{name}</name><metadata>{key}</metadata></domain>"


def a_host(**runs: str) -> FakeHypervisor:
    hypervisor = FakeHypervisor()
    for name, run in runs.items():
        hypervisor.add_foreign(name, xml=domain(name, run))
    return hypervisor


def clear(hypervisor: FakeHypervisor, roots: tuple[str, ...], evicted: list[str]) -> tuple[str, ...]:
    return clear_orphans(
        LocalTransport(), hypervisor, run="mine", evict=evicted.append, progress=lambda _: None, roots=roots
    )


def test_only_runs_without_claims_are_cleared(roots: tuple[str, ...]) -> None:
    hypervisor = a_host(left="dead", other="quiet", own="mine")
    hypervisor.add_foreign("tenant")
    lease = hold_lease(LocalTransport(), "quiet", roots=roots)
    claim(LocalTransport(), "quiet", (GPU,), clock=FakeClock(), progress=lambda _: None, roots=roots)
    lease.close()
    evicted: list[str] = []
    assert clear(hypervisor, roots, evicted) == ("dead",)
    assert evicted == ["dead"]
    assert [c.run for c in holders(LocalTransport(), roots=roots)] == ["quiet"]


def test_a_run_that_is_being_driven_is_not_cleared(roots: tuple[str, ...]) -> None:
    lease = hold_lease(LocalTransport(), "busy", roots=roots)
    evicted: list[str] = []
    with pytest.raises(ClaimError, match="run busy is already controlled"):
        clear(a_host(guest="busy"), roots, evicted)
    lease.close()
    assert evicted == []


def test_text_that_is_no_run_key_is_nobody_s_and_left_alone(roots: tuple[str, ...]) -> None:
    evicted: list[str] = []
    assert clear(a_host(guest="$(reboot) ../../etc"), roots, evicted) == ()
    assert evicted == []


def test_the_lease_is_free_again_when_clearing_fails(roots: tuple[str, ...]) -> None:
    def fail(run: str) -> None:
        raise ReleaseError(f"{run} stays")

    with pytest.raises(ReleaseError, match="dead stays"):
        clear_orphans(
            LocalTransport(), a_host(guest="dead"), run="mine", evict=fail, progress=print, roots=roots
        )
    hold_lease(LocalTransport(), "dead", roots=roots).close()
