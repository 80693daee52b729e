"""The life of one guest: whatever breaks on the way, it is recorded once and everything is given back."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil

import pytest

from harness.errors import ProvisionError, RecordError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.placement import ObservedGpu, ObservedPlacement
from harness.stages.guest.devices import guest_cards
from harness.stages.guest.group import GuestGroup
from harness.stages.guest.stuck import QUERY
from tests.fakes import FakeHypervisor
from tests.fakes.scripts import answering
from tests.placement import hosts
from tests.stages.groups import (
    IDLE,
    a_claimed_host,
    a_group,
    a_guest,
    a_site,
    an_access,
    given_back,
    known,
    ran,
)
from tests.stages.stand_ins import HOST_IMAGE, FakeAccess, FakeGuest, a_demand, a_recorder

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")

DEMAND = a_demand("1gpu")


@pytest.fixture
def access() -> FakeAccess:
    return an_access("1gpu")


@pytest.fixture
def recorder(tmp_path):
    opened = a_recorder(tmp_path / "runs", guests=(DEMAND,))
    yield opened
    opened.close()


@pytest.fixture
def group(tmp_path, recorder, access) -> GuestGroup:
    """A guest of one GPU on a host like the lab, nobody beside it."""
    return a_group(a_claimed_host(recorder, access, (DEMAND,)), a_site(tmp_path))


def broke(group: GuestGroup, *workloads: str) -> tuple[Evidence, GuestEvidence]:
    """The record of a life in which a step broke: none raised for it, and the group says it of the guest."""
    group.provision()
    group.burn({guest.name: workloads for guest in group.guests})
    assert group.broken("1gpu")
    group.release(orderly=True)
    said = known(group)
    return said, said.guests[0]


def domain_of(group: GuestGroup) -> str:
    return group.guests[0].place.domain


def test_a_guest_that_cannot_be_placed_touches_nothing(tmp_path, recorder, access) -> None:
    greedy = a_demand("1gpu", gpus=9)
    said, seen = broke(a_group(a_claimed_host(recorder, access, (greedy,)), a_site(tmp_path)))
    assert seen.no_plan is not None
    assert [r.code for r in seen.no_plan.reasons] != []
    assert said.errors == ()  # an answer, not a broken stage
    assert access.host.calls == []
    assert (seen.started, seen.release) == (False, None)


def test_a_refused_start_is_recorded_and_everything_is_given_back(group, access) -> None:
    access.libvirt.refuse[domain_of(group)] = ProvisionError("unable to lock pages", remedy="raise it")
    said, seen = broke(group)
    assert [(e.stage, e.subject, e.message, e.remedy) for e in said.errors] == [
        ("provision", "1gpu", "unable to lock pages", "raise it")
    ]
    assert (seen.started, seen.reached) == (False, False)
    given_back(access, seen)


def test_a_full_disk_is_recorded_and_everything_is_given_back(group, access) -> None:
    access.host.on("make-overlay", b"", status=1, stderr=b"No space left on device")
    said, seen = broke(group)
    assert "No space left on device" in said.errors[0].message
    given_back(access, seen)


def test_a_guest_that_never_answers_is_given_back_with_its_last_words(group, access) -> None:
    access.guests["1gpu"] = FakeGuest(silent=100_000)
    access.libvirt.answers[QUERY] = "RIP=ffffffff81000000"
    said, seen = broke(group)
    assert (seen.started, seen.reached) == (True, False)
    assert [e.stage for e in said.errors] == ["boot"]
    assert "Kernel panic" in said.errors[0].message
    readings = json.loads((group.host.context.recorder.path / said.errors[0].transcript).read_text())
    assert readings == ["RIP=ffffffff81000000"] * 2
    assert access.guests["1gpu"].closed == 1
    assert group.connection("1gpu") is None
    given_back(access, seen)


def test_a_guest_that_broke_runs_no_load(group, access) -> None:
    access.guests["1gpu"] = FakeGuest(silent=100_000)
    said, seen = broke(group, "hashing")
    assert [e.stage for e in said.errors] == ["boot"]
    assert (seen.results, seen.telemetry, access.guests["1gpu"].host.calls) == ((), None, [])


@pytest.mark.parametrize("orderly", [False, True])
def test_an_interrupt_goes_on_and_the_guest_can_be_given_back(group, access, orderly) -> None:
    class Interrupting(FakeGuest):
        def run(self, argv, **options):
            raise KeyboardInterrupt

    access.guests["1gpu"] = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        group.provision()
    group.release(orderly=orderly)
    given_back(access, known(group).guests[0])
    assert group.host.unreleased == set()


def test_a_release_that_cannot_be_done_is_an_error_and_no_evidence_of_one(group, access) -> None:
    class Cutting(FakeGuest):
        def run(self, argv, **options):
            access.host.down = "connection lost"
            return super().run(argv, **options)

    access.guests["1gpu"] = a_guest("1gpu", Cutting())
    group.provision()
    group.release(orderly=True)
    said = known(group)
    assert said.guests[0].release is None
    assert [e.stage for e in said.errors][-1] == "release"
    assert group.host.unreleased == {"1gpu"}  # so its claims are kept


def test_a_guest_is_given_back_once_however_often_it_is_asked_for(group, access) -> None:
    _, (seen,) = ran(group)
    asked = len(access.host.calls)
    group.release(orderly=True)
    group.release(orderly=False)
    assert len(access.host.calls) == asked
    given_back(access, seen)
    assert group.broken("1gpu"), "what was given back is of no use any more"


class Once:
    """Raises at its first call, then lets the fake answer."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __call__(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


@pytest.mark.parametrize("orderly", [False, True])
def test_an_interrupt_in_the_middle_of_a_release_does_not_leave_the_guest(group, access, orderly) -> None:
    strike = Once(KeyboardInterrupt())

    class Struck(FakeHypervisor):
        def shutdown(self, name, *, deadline):
            strike()
            return super().shutdown(name, deadline=deadline)

    access.libvirt = Struck()
    access.guests["1gpu"] = FakeGuest(silent=100_000)
    group.provision()
    with pytest.raises(KeyboardInterrupt):
        group.release(orderly=orderly)
    given_back(access, known(group).guests[0])
    assert group.host.unreleased == set()


def test_an_interrupt_while_its_kernel_log_is_read_does_not_leave_the_guest(group, access) -> None:
    strike = Once(KeyboardInterrupt())

    class Struck(FakeGuest):
        def run(self, argv, *, label="", **options):
            if label == "1gpu-kernel-log":
                strike()
            return super().run(argv, label=label, **options)

    access.guests["1gpu"] = a_guest("1gpu", Struck())
    group.provision()
    with pytest.raises(KeyboardInterrupt):
        group.release(orderly=True)
    given_back(access, known(group).guests[0])
    assert access.guests["1gpu"].closed == 1


def test_a_full_disk_of_the_controller_does_not_leave_the_guest(group, access) -> None:
    class Full(FakeGuest):
        def run(self, argv, **options):
            group.host.context.recorder.log.close()  # from here on nothing can be written down
            raise RecordError("No space left on device")

    access.guests["1gpu"] = Full()
    with pytest.raises(RecordError):
        group.provision()
    with pytest.raises(RecordError):
        group.release(orderly=True)
    assert access.libvirt.domains() == ()


def test_a_run_that_lost_its_lease_starts_nothing(group, access) -> None:
    group.host.lease.alive = False
    said, _seen = broke(group)
    assert [(e.stage, e.kind) for e in said.errors] == [("claim", "ClaimError")]
    assert access.host.calls == []


def test_a_lease_that_was_lost_is_taken_again_for_the_release(group, access) -> None:
    class Losing(FakeGuest):
        def run(self, argv, **options):
            group.host.lease.alive = False
            return super().run(argv, **options)

    access.guests["1gpu"] = Losing(silent=100_000)
    _said, seen = broke(group)
    given_back(access, seen)
    assert group.host.lease.regained == 1


def test_a_guest_whose_lease_another_run_took_is_that_runs_to_clear(group, access) -> None:
    class Losing(FakeGuest):
        def run(self, argv, **options):
            group.host.lease.alive, group.host.lease.taken = False, True
            return super().run(argv, **options)

    access.guests["1gpu"] = Losing(silent=100_000)
    said, seen = broke(group)
    assert [e.stage for e in said.errors] == ["boot", "release"]
    assert seen.release is None
    assert [d.name for d in access.libvirt.domains()] == [domain_of(group)]
    assert group.host.unreleased == {"1gpu"}


def test_the_recorded_definition_holds_the_plan_and_no_private_key(group, access, tmp_path) -> None:
    access.libvirt.refuse[domain_of(group)] = ProvisionError("stop here")
    _said, seen = broke(group)
    text = (group.host.context.recorder.path / seen.domain_xml).read_text()
    assert seen.xml_problems == ()
    assert "(private key, not recorded)" in text
    secret = (tmp_path / "1gpu.host_key").read_text()
    assert base64.b64encode(secret.encode()).decode() not in text
    assert seen.plan is not None
    for address in seen.plan.hostdevs:
        assert f'slot="0x{address.device:02x}"' in text


def test_a_placement_that_cannot_be_read_is_missing_evidence_and_the_rest_goes_on(group, access) -> None:
    access.guests["1gpu"].host.on("1gpu-kernel-log", b"BUG: soft lockup\n")
    said, (seen,) = ran(group, IDLE)
    assert (seen.started, seen.reached, seen.boot_seconds) == (True, True, 0.0)
    assert seen.observed is None
    assert [(e.stage, e.kind) for e in said.errors] == [("observe", "TransportError")]
    assert said.errors[0].message.endswith("ended with status 1: no such domain")
    assert seen.telemetry is not None
    assert "Read-only file system" in seen.telemetry.detail
    assert seen.kernel_log == ("BUG: soft lockup",)
    assert access.guests["1gpu"].closed == 1
    given_back(access, seen)


def test_the_kernel_log_is_read_when_all_is_over_and_only_of_a_run_that_was_not_broken_off(
    group, access
) -> None:
    access.guests["1gpu"].host.on("1gpu-kernel-log", b"BUG: soft lockup\n")
    group.provision()
    assert known(group).guests[0].kernel_log is None
    group.release(orderly=False)
    seen = known(group).guests[0]
    assert seen.kernel_log is None
    given_back(access, seen)


@pytest.mark.parametrize("how", ["unreadable", "gone"])
def test_a_kernel_log_that_cannot_be_read_is_missing_evidence_and_the_guest_is_given_back(
    group, access, how
) -> None:
    access.guests["1gpu"].host.on("1gpu-kernel-log", b"", status=1)
    group.provision()
    before = known(group).errors  # this fake host tells no placement
    if how == "gone":
        access.guests["1gpu"].host.down = "No route to host"
    group.release(orderly=True)
    said = known(group)
    assert said.guests[0].kernel_log is None
    new = [(e.stage, e.subject) for e in said.errors[len(before) :]]
    assert new == ([("observe", "1gpu")] if how == "gone" else [])
    given_back(access, said.guests[0])


@pytest.mark.parametrize("line", [b"BUG: soft lockup\n", b"vfio: " + b"x" * 9000 + b"\n"])
def test_a_kernel_log_without_end_is_kept_at_its_ends_and_said_to_be_cut(group, access, line) -> None:
    access.guests["1gpu"].host.on("1gpu-kernel-log", b"BUG: first\n" + line * 5000 + b"BUG: last\n")
    group.provision()
    group.release(orderly=True)
    evidence = known(group)
    lines = evidence.guests[0].kernel_log
    assert lines is not None
    assert (len(lines), lines[0], lines[-1]) == (1000, "BUG: first", "BUG: last")
    assert max(map(len, lines)) <= 4096
    assert any("5002 relevant lines" in error.message for error in evidence.errors)


def test_a_payload_that_does_not_arrive_is_an_error_of_the_burn(group, access) -> None:
    access.guests["1gpu"].host.on("payload", b"", status=2, stderr=b"tar: No space left on device")
    said, seen = broke(group, "hashing")
    assert [e.stage for e in said.errors] == ["observe", "burn"]
    assert "No space left" in said.errors[1].message
    given_back(access, seen)


def test_an_image_of_ones_own_whose_python_is_too_old_runs_no_load(tmp_path, recorder, access) -> None:
    access.guests["1gpu"].host.on("python", "3 9\n")
    own = dataclasses.replace(HOST_IMAGE, kernel=None, initrd=None, command_line="")
    group = a_group(a_claimed_host(recorder, access, (DEMAND,)), a_site(tmp_path, own))
    said, seen = broke(group, "hashing")
    (told,) = [e for e in said.errors if e.stage == "burn"]
    assert told.message == "/usr/bin/python3 is Python 3.9; the loads need 3.10 or newer"
    given_back(access, seen)


def test_a_gpu_that_was_opened_since_the_guest_before_is_not_taken(tmp_path, recorder, access) -> None:
    facts = hosts.lab_like()
    for device in facts.pci_devices:
        facts = hosts.with_device(facts, device.address, driver="nvidia")
    rows = [f"{device.address}\t/dev/nvidia0\t9\tnv-hostengine" for device in facts.pci_devices]

    def held(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        """Of those that are asked about."""
        asked = "\n".join(row for row in rows if row.split("\t")[0] in argv)
        return answering("gpus-in-use", {"held": asked})(argv, stdin)

    access.host.on("gpus-in-use", held)
    said, seen = broke(a_group(a_claimed_host(recorder, access, (DEMAND,), facts=facts), a_site(tmp_path)))
    assert [(e.stage, e.subject) for e in said.errors] == [("provision", "1gpu")]
    assert "nv-hostengine (pid 9)" in said.errors[0].message
    assert (seen.started, access.libvirt.domains()) == (False, ())


@pytest.mark.parametrize("last", [False, True])
def test_a_word_is_left_for_the_next_guest_where_there_is_one(tmp_path, recorder, access, last) -> None:
    group = a_group(a_claimed_host(recorder, access, (DEMAND,)), a_site(tmp_path), last=last)
    group.provision()
    (guest,) = group.guests
    assert guest.plan is not None
    (gpu,) = guest.plan.gpus
    inside = tuple(
        ObservedGpu(
            host=function,
            alias=None,
            qom_root_port=None,
            guest=function,
            guest_vendor_device="10de:2335",
            guest_numa_node=None,
            guest_local_cpus=None,
            host_driver=None,
        )
        for function in (gpu.host, *gpu.companions)
    )
    guest.observed = ObservedPlacement(
        guest=guest.name,
        pid=1,
        threads=(),
        memory=(),
        gpus=inside,
        guest_nodes=(),
        locked_bytes_limit=None,
        problems=(),
    )
    guest.cards = guest_cards(guest.host.facts, guest.plan, guest.observed)
    for label in ("device-start", "leave-start"):
        access.guests["1gpu"].host.on(f"1gpu-{label}", b"", status=1)
    group.burn({"1gpu": ("device",)})
    labels = [label for _, label in access.guests["1gpu"].host.calls]
    assert "1gpu-device-start" in labels
    assert "1gpu-leave-start" not in labels, "users' own tests come between the loads and the release"
    group.release(orderly=True)
    labels = [label for _, label in access.guests["1gpu"].host.calls]
    assert ("1gpu-leave-start" in labels) is not last
    assert labels[-1] == "1gpu-kernel-log"
