"""A guest on its host: named by the run, waited for with a deadline, its death told with its last words."""

from __future__ import annotations

import dataclasses

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.config.files import load_profile
from harness.errors import ConfigError, ProvisionError
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.inventory import SshAccess
from harness.model.placement import PlacementPlan
from harness.placement import planner
from harness.placement.domain import check as xmlcheck
from harness.placement.domain import write as domxml
from harness.placement.domain.definition import run_key
from harness.stages.guest import provision
from harness.stages.guest.keys import GuestKeys
from harness.stages.guest.network import run_network
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport
from tests.placement import hosts
from tests.stages.stand_ins import HOST_IMAGE, RUN, FakeAccess, FakeGuest

WORK = "/var/lib/shakedown"
PLACE = provision.guest_place(RUN, "g1-1gpu", 0, WORK)
ACCESS = SshAccess(address="10.213.7.10", identity_file="key", known_hosts="known")


def a_plan(gpus: int = 1) -> PlacementPlan:
    request = GuestRequest(name="g1-1gpu", gpus=gpus)
    answer = planner.plan(hosts.lab_like(), request, PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan)
    return answer


@pytest.fixture
def keys(tmp_path) -> GuestKeys:
    return GuestKeys(
        identity=tmp_path / "g1.key",
        authorized="ssh-ed25519 AAAA shakedown\n",
        host_private="PRIVATE\n",
        host_public="ssh-ed25519 BBBB shakedown",
    )


def test_names_lie_below_the_runs_directory_and_are_found_again() -> None:
    assert PLACE.domain == f"shakedown-{RUN}-g1-1gpu"
    assert PLACE.overlay == f"{WORK}/runs/{RUN}/{PLACE.domain}.qcow2"
    assert PLACE.serial == f"{WORK}/runs/{RUN}/{PLACE.domain}.serial"
    assert provision.guest_place(RUN, "g1-1gpu", 0, f"{WORK}/") == PLACE


def test_a_long_name_still_fits_a_domain() -> None:
    place = provision.guest_place(RUN, "g" * 200, 0, WORK)
    assert len(place.domain) <= 63
    assert provision.guest_place(RUN, "g" * 19 + "-" * 40, 0, WORK).domain[-1] == "g"


def test_the_definition_carries_the_runs_key_and_is_right_by_our_own_checks(keys) -> None:
    plan, facts = a_plan(), hosts.lab_like()
    network = run_network(RUN, 1)
    definition = provision.define(
        plan, facts, run=RUN, place=PLACE, image=HOST_IMAGE, network=network, keys=keys
    )
    xml = domxml.render(plan, definition, VFIO)
    assert run_key(xml) == RUN
    assert xmlcheck.problems(xml, facts) == ()
    for text in (PLACE.overlay, PLACE.serial, network.name, network.mac(0), HOST_IMAGE.kernel):
        assert text in xml
    assert all(value in xml for _, value in keys.fw_cfg())
    again = provision.define(plan, facts, run=RUN, place=PLACE, image=HOST_IMAGE, network=network, keys=keys)
    assert again.uuid == definition.uuid


def test_the_boot_deadline_grows_with_gpus_and_memory() -> None:
    profile = dataclasses.replace(
        load_profile("smoke"),
        boot_deadline_seconds=100.0,
        boot_deadline_per_gpu_seconds=10.0,
        boot_deadline_per_gib_seconds=1.0,
    )
    one, four = a_plan(1), a_plan(4)
    assert provision.boot_deadline(profile, one) == 110.0 + one.memory_mib / 1024
    assert provision.boot_deadline(profile, four) == 140.0 + four.memory_mib / 1024


def test_an_overlay_that_cannot_be_made_is_told_with_the_hosts_words() -> None:
    host = FakeHost()
    host.on("make-overlay", b"", status=1, stderr=b"qemu-img: No space left on device\xff\n")
    with pytest.raises(ProvisionError, match="No space left on device") as caught:
        provision.make_overlay(FakeTransport(host), PLACE, HOST_IMAGE)
    assert PLACE.overlay in caught.value.message
    assert "has free space" in caught.value.remedy


def test_paths_reach_the_overlay_script_as_arguments_never_as_shell_text() -> None:
    host = FakeHost()
    host.on("make-overlay", b"")
    image = dataclasses.replace(HOST_IMAGE, disk="/srv/a b; rm -rf $HOME/disk.qcow2")
    provision.make_overlay(FakeTransport(host), PLACE, image)
    ((argv, _label),) = host.calls
    assert argv[:2] == ("sh", "-c")
    assert argv[3:] == ("sh", PLACE.directory, image.disk, PLACE.domain)


@pytest.fixture
def access() -> FakeAccess:
    made = FakeAccess()
    made.libvirt.add_foreign(PLACE.domain)
    made.host.on("guest-serial", b"[    1.0] Linux\n\n[    9.9] Kernel panic - not syncing\n")
    return made


def wait(access: FakeAccess, clock: FakeClock, *, deadline: float = 60.0, said: list[str] | None = None):
    return provision.wait_for_guest(
        access,
        PLACE,
        ACCESS,
        name="g1-1gpu",
        deadline=deadline,
        clock=clock,
        progress=(said if said is not None else []).append,
        recorder=None,
    )


def test_a_guest_that_answers_later_is_reached_with_its_time(access) -> None:
    access.in_guest = FakeGuest(silent=7)
    said: list[str] = []
    connection, seconds = wait(access, FakeClock(), said=said)
    assert connection is access.in_guest
    assert seconds == 3.5
    assert said[0] == "waiting for g1-1gpu to boot: 0 s of at most 60 s"
    assert len(said) == 7


def test_a_guest_that_never_answers_ends_at_its_deadline_with_its_last_words(access) -> None:
    access.in_guest = FakeGuest(silent=10_000, why="Connection timed out")
    clock = FakeClock()
    with pytest.raises(
        ProvisionError, match="did not answer SSH within 60 s: Connection timed out"
    ) as caught:
        wait(access, clock)
    assert "its console ends: [    1.0] Linux | [    9.9] Kernel panic - not syncing" in caught.value.message
    assert 60.0 < clock.monotonic() < 65.0


def test_a_guest_that_died_is_not_waited_for(access) -> None:
    access.in_guest = FakeGuest(silent=10_000)
    access.libvirt = FakeHypervisor()
    clock = FakeClock()
    with pytest.raises(ProvisionError, match="ended while it was booting; its console ends:"):
        wait(access, clock, deadline=600.0)
    assert clock.monotonic() < 30.0


def test_a_domain_that_is_there_and_not_running_counts_as_dead(access) -> None:
    access.in_guest = FakeGuest(silent=10_000)
    access.libvirt.add_foreign(PLACE.domain, running=False)
    with pytest.raises(ProvisionError, match="ended while it was booting"):
        wait(access, FakeClock(), deadline=600.0)


def test_wrong_configuration_is_not_waited_out(access) -> None:
    class Misconfigured(FakeGuest):
        def run(self, argv, **options):
            raise ConfigError("no such identity file")

    access.in_guest = Misconfigured()
    clock = FakeClock()
    with pytest.raises(ConfigError):
        wait(access, clock)
    assert clock.slept == []


@pytest.mark.parametrize("broken", ["the file is not there", "the host is gone"])
def test_a_console_that_cannot_be_read_hides_no_other_error(broken) -> None:
    host = FakeHost()
    host.on("guest-serial", b"", status=1)
    host.down = "connection lost" if broken == "the host is gone" else ""
    assert provision.serial_log(FakeTransport(host), PLACE) == ""
    assert provision.serial_words(FakeTransport(host), PLACE) == "; its console is empty"


def test_a_hostile_console_is_cut_to_size() -> None:
    host = FakeHost()
    host.on("guest-serial", b"\xff\x1b[2J" + b"A" * 1_000_000)
    assert len(provision.serial_words(FakeTransport(host), PLACE)) < 700


def test_the_guest_is_reached_at_its_own_address_with_its_key_pinned(keys, tmp_path) -> None:
    network = run_network(RUN, 3)
    place = dataclasses.replace(PLACE, number=2)
    access = provision.guest_access(network, place, keys, tmp_path)
    assert access.address == network.address(2)
    assert access.identity_file == str(keys.identity)
    pinned = tmp_path / f"{place.domain}.known_hosts"
    assert access.known_hosts == str(pinned)
    assert pinned.read_text() == f"{network.address(2)} ssh-ed25519 BBBB shakedown\n"
