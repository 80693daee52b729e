"""What every Hypervisor does, on the fake and on libvirt's own test driver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.backends.libvirt_hypervisor import LibvirtHypervisor
from harness.errors import ProvisionError
from harness.ports import Hypervisor
from tests.fakes import FakeClock, FakeHypervisor


def mark(run: str) -> str:
    return f'<metadata><s:guest xmlns:s="urn:shakedown:run:1" run="{run}" name="g1"/></metadata>'


def domain(name: str, run: str = "run-1") -> str:
    return (
        f"<domain type='test'><name>{name}</name>{mark(run)}<memory unit='MiB'>64</memory>"
        "<vcpu>1</vcpu><os><type>hvm</type></os></domain>"
    )


def network(name: str, run: str = "run-1") -> str:
    return (
        f"<network><name>{name}</name>{mark(run)}<bridge name='shkbr7'/>"
        "<ip address='192.168.199.1' netmask='255.255.255.0'/></network>"
    )


@pytest.fixture(params=["fake", "libvirt"])
def hypervisor(request: pytest.FixtureRequest) -> Iterator[Hypervisor]:
    made: Hypervisor
    if request.param == "fake":
        fake = FakeHypervisor()
        fake.add_foreign("test")
        made = fake
    else:
        made = LibvirtHypervisor.at("test:///default", clock=FakeClock())
    yield made
    for name in ("shk-a", "shk-b"):
        made.destroy(name)
    made.stop_network("shk-net")
    made.close()
    made.close()


def states(hypervisor: Hypervisor) -> dict[str, tuple[bool, str | None]]:
    return {d.name: (d.running, d.metadata_run) for d in hypervisor.domains()}


def test_the_version_names_libvirt_and_the_hypervisor(hypervisor: Hypervisor) -> None:
    assert hypervisor.version().startswith("libvirt ")
    assert ", " in hypervisor.version()


def test_a_started_domain_runs_and_carries_its_run_s_key(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    assert states(hypervisor)["shk-a"] == (True, "run-1")


def test_starting_twice_leaves_the_first_running(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    before = {d.name: d.uuid for d in hypervisor.domains()}
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    assert {d.name: d.uuid for d in hypervisor.domains()} == before


def test_domains_of_others_are_listed_without_a_key_and_never_touched(hypervisor: Hypervisor) -> None:
    assert states(hypervisor)["test"] == (True, None)
    with pytest.raises(ProvisionError, match="left alone"):
        hypervisor.destroy("test")
    with pytest.raises(ProvisionError, match="left alone"):
        hypervisor.shutdown("test", deadline=1)
    with pytest.raises(ProvisionError, match="left alone"):
        hypervisor.define_and_start(domain("test"), run="run-1")
    assert states(hypervisor)["test"] == (True, None)


def test_a_domain_of_another_run_is_not_taken_over(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a", "run-2"), run="run-2")
    with pytest.raises(ProvisionError, match="left alone"):
        hypervisor.define_and_start(domain("shk-a"), run="run-1")
    assert states(hypervisor)["shk-a"] == (True, "run-2")


def test_a_definition_without_the_run_s_key_is_refused(hypervisor: Hypervisor) -> None:
    with pytest.raises(ProvisionError, match="does not contain the key"):
        hypervisor.define_and_start(domain("shk-a", "run-2"), run="run-1")
    assert "shk-a" not in states(hypervisor)


@pytest.mark.parametrize("text", ["", "not xml", "<domain/>", "<domain><name>x"])
def test_text_that_is_no_definition_is_refused(hypervisor: Hypervisor, text: str) -> None:
    with pytest.raises(ProvisionError):
        hypervisor.define_and_start(text, run="run-1")
    with pytest.raises(ProvisionError):
        hypervisor.start_network(text)


def test_shutdown_ends_a_guest_and_an_absent_one_is_gone_already(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    assert hypervisor.shutdown("shk-a", deadline=5) is True
    assert states(hypervisor)["shk-a"][0] is False
    assert hypervisor.shutdown("shk-absent", deadline=5) is True


def test_destroy_undefines_and_may_be_repeated(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    hypervisor.define_and_start(domain("shk-b"), run="run-1")
    hypervisor.shutdown("shk-b", deadline=5)
    for name in ("shk-a", "shk-b", "shk-a", "shk-absent"):
        hypervisor.destroy(name)
    assert set(states(hypervisor)) == {"test"}


def test_a_domain_that_was_shut_down_can_be_started_again(hypervisor: Hypervisor) -> None:
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    hypervisor.shutdown("shk-a", deadline=5)
    hypervisor.define_and_start(domain("shk-a"), run="run-1")
    assert states(hypervisor)["shk-a"] == (True, "run-1")


def test_a_network_of_the_same_run_is_kept_and_of_another_refused(hypervisor: Hypervisor) -> None:
    hypervisor.start_network(network("shk-net"))
    hypervisor.start_network(network("shk-net"))
    with pytest.raises(ProvisionError, match="left alone"):
        hypervisor.start_network(network("shk-net", "run-2"))
    hypervisor.stop_network("shk-net")
    hypervisor.stop_network("shk-net")
    hypervisor.start_network(network("shk-net", "run-2"))


def test_asking_qemu_of_a_domain_that_is_not_there_is_an_error(hypervisor: Hypervisor) -> None:
    with pytest.raises(ProvisionError):
        hypervisor.qmp("shk-absent", '{"execute": "query-status"}')
