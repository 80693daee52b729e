"""The life of one guest: whatever breaks on the way, it is recorded once and everything is given back."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from harness.config import load_host, load_profile
from harness.errors import ProvisionError, RecordError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.guest import GuestRequest
from harness.model.placement import ObservedGpu, ObservedPlacement
from harness.stages.boundary import Stopped
from harness.stages.guest import GuestStage, _burn, _plan, run_guest
from harness.stages.network import run_network
from tests.fakes import FakeClock, FakeHypervisor
from tests.placement import hosts
from tests.stages.stand_ins import (
    HOST_IMAGE,
    RUN,
    FakeAccess,
    FakeGuest,
    FakeLease,
    a_recorder,
    evidence,
    quiet,
)

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")

HEADER = "34 12 e8 11 00 00 10 00 10 00 ff 00 00 00 80 00"


def _host_state(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    """Every function that is asked about is there, without a driver; 2048 pages are free."""
    asked = argv[argv.index("--", 3) + 1 :]
    rows = [f"device\t{address}\t1\t\tbus\t {HEADER}" for address in asked]
    return 0, "\n".join([*rows, "hugepages\t0\t2048\t2048", "end\n"]).encode(), b""


@pytest.fixture
def access() -> FakeAccess:
    made = FakeAccess()
    made.host.on("host-state", _host_state)
    made.host.on("make-overlay", b"")
    made.host.on("remove-files", b"")
    made.host.on("guest-serial", b"[    9.9] Kernel panic\n")
    return made


@pytest.fixture
def recorder(tmp_path):
    opened = a_recorder(tmp_path / "runs")
    yield opened
    opened.close()


@pytest.fixture
def guest(tmp_path, recorder, access) -> GuestStage:
    """A guest of one GPU on a host like the lab."""
    request = GuestRequest(name="g1-1gpu", gpus=1)
    recorder.guest_requested(request, ())
    profile = dataclasses.replace(load_profile("smoke"), boot_deadline_seconds=10.0)
    return GuestStage(
        run=RUN,
        recorder=recorder,
        host=dataclasses.replace(load_host("lab"), placement=load_host("example").placement),
        profile=profile,
        clock=FakeClock(),
        progress=quiet(),
        access=access,
        facts=hosts.lab_like(),
        image=HOST_IMAGE,
        network=run_network(RUN, 1),
        request=request,
        workloads=(),
        number=0,
        scratch=tmp_path,
        planted=set(),
        lease=FakeLease(),
        unreleased=set(),
    )


def _stopped(guest: GuestStage) -> tuple[Evidence, GuestEvidence]:
    with pytest.raises(Stopped):
        run_guest(guest)
    said = evidence(guest.recorder)
    return said, said.guests[0]


def _given_back(access: FakeAccess, seen: GuestEvidence) -> None:
    assert access.libvirt.domains() == ()
    assert access.libvirt.networks == {}
    assert seen.release is not None
    assert seen.release.problems == ()
    assert seen.release.hugepages_after == seen.release.hugepages_before == {"0/2097152": 2048}
    assert all(d.present and d.config_ok for d in seen.release.devices)


def test_a_guest_that_cannot_be_placed_touches_nothing(guest, access) -> None:
    greedy = dataclasses.replace(guest, request=GuestRequest(name="g1-1gpu", gpus=9))
    said, seen = _stopped(greedy)
    assert seen.no_plan is not None
    assert [r.code for r in seen.no_plan.reasons] != []
    assert said.errors == ()  # an answer, not a broken stage
    assert access.host.calls == []
    assert (seen.started, seen.release) == (False, None)


def test_a_refused_start_is_recorded_and_everything_is_given_back(guest, access) -> None:
    access.libvirt.refuse[guest.place.domain] = ProvisionError("unable to lock pages", remedy="raise it")
    said, seen = _stopped(guest)
    assert [(e.stage, e.subject, e.message, e.remedy) for e in said.errors] == [
        ("provision", "g1-1gpu", "unable to lock pages", "raise it")
    ]
    assert (seen.started, seen.reached) == (False, False)
    _given_back(access, seen)


def test_a_full_disk_is_recorded_and_everything_is_given_back(guest, access) -> None:
    access.host.on("make-overlay", b"", status=1, stderr=b"No space left on device")
    said, seen = _stopped(guest)
    assert "No space left on device" in said.errors[0].message
    _given_back(access, seen)


def test_a_guest_that_never_answers_is_given_back_with_its_last_words(guest, access) -> None:
    access.in_guest = FakeGuest(silent=100_000)
    said, seen = _stopped(guest)
    assert (seen.started, seen.reached) == (True, False)
    assert [e.stage for e in said.errors] == ["boot"]
    assert "Kernel panic" in said.errors[0].message
    assert access.in_guest.closed == 1
    _given_back(access, seen)


def test_an_interrupt_gives_everything_back_before_it_goes_on(guest, access) -> None:
    class Interrupting(FakeGuest):
        def run(self, argv, **options):
            raise KeyboardInterrupt

    access.in_guest = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run_guest(guest)
    _given_back(access, evidence(guest.recorder).guests[0])


def test_a_release_that_cannot_be_done_is_an_error_and_no_evidence_of_one(guest, access) -> None:
    class Cutting(FakeGuest):
        def run(self, argv, **options):
            access.host.down = "connection lost"
            return super().run(argv, **options)

    access.in_guest = Cutting()
    said, seen = _stopped(guest)
    assert seen.release is None
    assert [e.stage for e in said.errors][-1] == "release"
    assert guest.unreleased == {"g1-1gpu"}  # so its claims are kept


class Once:
    """Raises at its first call, then lets the fake answer."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __call__(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


def test_an_interrupt_in_the_middle_of_a_release_does_not_leave_the_guest(guest, access) -> None:
    strike = Once(KeyboardInterrupt())

    class Struck(FakeHypervisor):
        def shutdown(self, name, *, deadline):
            strike()
            return super().shutdown(name, deadline=deadline)

    access.libvirt = Struck()
    access.in_guest = FakeGuest(silent=100_000)
    with pytest.raises(KeyboardInterrupt):
        run_guest(guest)
    _given_back(access, evidence(guest.recorder).guests[0])
    assert guest.unreleased == set()


def test_a_full_disk_of_the_controller_does_not_leave_the_guest(guest, access) -> None:
    class Full(FakeGuest):
        def run(self, argv, **options):
            guest.recorder.log.close()  # from here on nothing can be written down
            raise RecordError("No space left on device")

    access.in_guest = Full()
    with pytest.raises(RecordError):
        run_guest(guest)
    assert access.libvirt.domains() == ()


def test_a_run_that_lost_its_lease_starts_nothing(guest, access) -> None:
    guest.lease.alive = False
    said, _seen = _stopped(guest)
    assert [(e.stage, e.kind) for e in said.errors] == [("claim", "ClaimError")]
    assert access.host.calls == []


def test_a_lease_that_was_lost_is_taken_again_for_the_release(guest, access) -> None:
    class Losing(FakeGuest):
        def run(self, argv, **options):
            guest.lease.alive = False
            return super().run(argv, **options)

    access.in_guest = Losing(silent=100_000)
    _said, seen = _stopped(guest)
    _given_back(access, seen)
    assert guest.lease.regained == 1


def test_a_guest_whose_lease_another_run_took_is_that_runs_to_clear(guest, access) -> None:
    class Losing(FakeGuest):
        def run(self, argv, **options):
            guest.lease.alive, guest.lease.taken = False, True
            return super().run(argv, **options)

    access.in_guest = Losing(silent=100_000)
    said, seen = _stopped(guest)
    assert [e.stage for e in said.errors] == ["boot", "release"]
    assert seen.release is None
    assert [d.name for d in access.libvirt.domains()] == [guest.place.domain]
    assert guest.unreleased == {"g1-1gpu"}


def test_the_recorded_definition_holds_the_plan_and_no_private_key(guest, access) -> None:
    access.libvirt.refuse[guest.place.domain] = ProvisionError("stop here")
    _said, seen = _stopped(guest)
    text = (guest.recorder.path / seen.domain_xml).read_text()
    assert seen.xml_problems == ()
    assert "(private key, not recorded)" in text
    secret = (guest.scratch / "g1-1gpu.host_key").read_text()
    import base64

    assert base64.b64encode(secret.encode()).decode() not in text
    assert seen.plan is not None
    for address in seen.plan.hostdevs:
        assert f'slot="0x{address.device:02x}"' in text


def test_a_placement_that_cannot_be_read_is_missing_evidence_and_the_rest_goes_on(guest, access) -> None:
    access.host.on("g1-1gpu-placement-host", b"", status=1, stderr=b"no such domain")
    inside = access.in_guest.host
    inside.on("payload", b"")
    inside.on("g1-1gpu-sampler-scenario", b"", status=1, stderr=b"Read-only file system")
    inside.on("g1-1gpu-kernel-log", b"BUG: soft lockup\n")
    run_guest(guest)
    said = evidence(guest.recorder)
    seen = said.guests[0]
    assert (seen.started, seen.reached, seen.boot_seconds) == (True, True, 0.0)
    assert seen.observed is None
    assert [(e.stage, e.kind) for e in said.errors] == [("observe", "ProvisionError")]
    assert seen.telemetry is not None
    assert "Read-only file system" in seen.telemetry.detail
    assert seen.kernel_log == ("BUG: soft lockup",)
    assert access.in_guest.closed == 1
    _given_back(access, seen)


def test_a_payload_that_does_not_arrive_is_an_error_of_the_burn(guest, access) -> None:
    access.host.on("g1-1gpu-placement-host", b"", status=1)
    access.in_guest.host.on("payload", b"", status=2, stderr=b"tar: No space left on device")
    said, seen = _stopped(guest)
    assert [e.stage for e in said.errors] == ["observe", "burn"]
    assert "No space left" in said.errors[1].message
    _given_back(access, seen)


def test_an_image_of_ones_own_whose_python_is_too_old_runs_no_load(guest, access) -> None:
    access.host.on("g1-1gpu-placement-host", b"", status=1)
    access.in_guest.host.on("python", "3 9\n")
    own = dataclasses.replace(HOST_IMAGE, kernel=None, initrd=None, command_line="")
    said, seen = _stopped(dataclasses.replace(guest, image=own))
    (told,) = [e for e in said.errors if e.stage == "burn"]
    assert told.message == "/usr/bin/python3 is Python 3.9; the loads need 3.10 or newer"
    _given_back(access, seen)


def test_a_gpu_that_was_opened_since_the_guest_before_is_not_taken(guest, access) -> None:
    facts = guest.facts
    for device in facts.pci_devices:
        facts = hosts.with_device(facts, device.address, driver="nvidia")
    (gpu,) = _plan(guest).gpus
    access.host.on("held-gpus", f"held\t{gpu.host}\t/dev/nvidia0\t9\tnv-hostengine\nend\n")
    said, seen = _stopped(dataclasses.replace(guest, facts=facts))
    assert [(e.stage, e.subject) for e in said.errors] == [("provision", guest.name)]
    assert "nv-hostengine (pid 9)" in said.errors[0].message
    assert (seen.started, access.libvirt.domains()) == (False, ())


@pytest.mark.parametrize("last", [False, True])
def test_a_word_is_left_for_the_next_guest_where_there_is_one(guest, access, last) -> None:
    plan = _plan(guest)
    (gpu,) = plan.gpus
    inside = ObservedGpu(
        host=gpu.host,
        alias=None,
        qom_root_port=None,
        guest=gpu.host,
        guest_vendor_device="10de:2335",
        guest_numa_node=None,
        guest_local_cpus=None,
        host_driver=None,
    )
    observed = ObservedPlacement(
        guest=guest.name,
        pid=1,
        threads=(),
        memory=(),
        gpus=(inside,),
        guest_nodes=(),
        locked_bytes_limit=None,
        problems=(),
    )
    access.in_guest.host.on("payload", "")
    for label in ("sampler-scenario", "device-start", "leave-start"):
        access.in_guest.host.on(f"{guest.name}-{label}", b"", status=1)
    one = dataclasses.replace(guest, workloads=("device",), last=last)
    _burn(one, access.in_guest, plan, observed)
    labels = [label for _, label in access.in_guest.host.calls]
    assert "g1-1gpu-device-start" in labels
    assert ("g1-1gpu-leave-start" in labels) is not last
