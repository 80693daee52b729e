"""Guests that live at the same time: each placed around the others, and none of them the end of another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.errors import ProvisionError, RecordError
from harness.model.death import DeathKind
from harness.model.evidence import GuestEvidence
from harness.model.guest import GuestDemand
from harness.record.events import read_events
from harness.record.judge import recorded_files
from harness.stages.guest.group import GuestGroup
from tests.fakes.scripts import answering, host_state
from tests.stages.groups import (
    HEADER,
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
from tests.stages.stand_ins import FakeAccess, FakeGuest, a_demand, a_recorder, evidence

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")

A, B = "2x1gpu-a", "2x1gpu-b"
PAIR = (a_demand(A, group="2x1gpu"), a_demand(B, group="2x1gpu"))
Answer = Callable[[tuple[str, ...], bytes], tuple[int, bytes, bytes]]


@pytest.fixture
def access() -> FakeAccess:
    return an_access(A, B)


@pytest.fixture
def made(tmp_path, access) -> Iterator[Callable[..., GuestGroup]]:
    """Makes the group of these demands."""
    opened = []

    def make(demands: tuple[GuestDemand, ...] = PAIR, **changes: object) -> GuestGroup:
        recorder = a_recorder(tmp_path / "runs", guests=demands)
        opened.append(recorder)
        host = a_claimed_host(recorder, access, demands, **changes)
        return a_group(host, a_site(tmp_path, guests=len(demands)))

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def pair(made) -> GuestGroup:
    """Two guests of one GPU each."""
    return made()


def domains_of(group: GuestGroup) -> list[str]:
    return [guest.place.domain for guest in group.guests]


def running(access: FakeAccess) -> list[str]:
    return [domain.name for domain in access.libvirt.domains() if domain.running]


def by_name(guests: tuple[GuestEvidence, ...]) -> tuple[GuestEvidence, GuestEvidence]:
    found = {guest.name: guest for guest in guests}
    return found[A], found[B]


def test_each_is_placed_around_the_others(made) -> None:
    demands = (a_demand(A, gpus=2, group="2x1gpu"), a_demand(B, gpus=2, group="2x1gpu"))
    said, (one, other) = ran(made(demands))
    assert one.plan is not None
    assert other.plan is not None
    assert not set(one.plan.hostdevs) & set(other.plan.hostdevs)
    assert not set(one.plan.vcpupin.values()) & set(other.plan.vcpupin.values())
    assert len({gpu.host for guest in (one, other) for gpu in guest.plan.gpus}) == 4  # type: ignore[union-attr]
    assert [guest.group for guest in said.guests] == ["2x1gpu", "2x1gpu"]


def test_they_have_addresses_networks_and_files_of_their_own(pair, access) -> None:
    ran(pair)
    assert len({each.address for each in access.asked_for}) == 2
    assert len({each.known_hosts for each in access.asked_for}) == 2
    overlays = [argv for argv, label in access.host.calls if label == "make-overlay"]
    assert len(set(overlays)) == len(overlays) == 2


def test_where_they_landed_is_read_while_all_of_them_run(pair, access) -> None:
    seen: dict[str, list[str]] = {}

    def looked_at(name: str) -> Answer:
        def answer(_argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
            seen[name] = running(access)
            return 1, b"", b"not now"

        return answer

    for name in (A, B):
        access.host.on(f"{name}-placement-host", looked_at(name))
    pair.provision()
    assert seen == {A: sorted(domains_of(pair)), B: sorted(domains_of(pair))}
    assert [pair.broken(guest.name) for guest in pair.guests] == [False, False]
    assert pair.connection(A) is access.guests[A]
    assert pair.connection(B) is access.guests[B]


def test_the_host_is_looked_at_before_any_of_them_is_there(pair, access) -> None:
    ran(pair)
    labels = [label for _, label in access.host.calls]
    assert labels.index("host-state") < labels.index("make-overlay")
    assert pair.before is not None
    assert set(pair.before.devices) == {a for guest in pair.guests for a in guest.plan.hostdevs}


def test_a_host_that_cannot_be_looked_at_starts_none_of_them(pair, access) -> None:
    access.host.on("host-state", b"", status=1)
    said, guests = ran(pair, "hashing")
    assert [(e.stage, e.subject) for e in said.errors] == [("provision", "2x1gpu")]
    assert [(g.started, g.release) for g in guests] == [(False, None)] * 2
    assert [label for _, label in access.host.calls] == ["host-state"]


def test_loads_run_in_all_of_them_at_the_same_time(pair, access) -> None:
    """Each load begins only when the other one does: one after the other would wait for ever."""
    together = threading.Barrier(2)

    def begun(_argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        together.wait(30.0)
        return 1, b"", b"no such load"

    for name in (A, B):
        access.guests[name].host.on(f"{name}-hashing-start", begun)
    said, _ = ran(pair, "hashing")
    burnt = [(e.stage, e.subject) for e in said.errors if e.stage.startswith("burn")]
    assert sorted(burnt) == [("burn hashing", A), ("burn hashing", B)]


def test_each_of_them_gets_its_own_loads(pair, access) -> None:
    for name, load in ((A, "hashing"), (B, "vram")):
        access.guests[name].host.on(f"{name}-{load}-start", b"", status=1)
    pair.provision()
    pair.burn({A: ("hashing",), B: ("vram",)})
    for name, load, other in ((A, "hashing", "vram"), (B, "vram", "hashing")):
        labels = {label for _, label in access.guests[name].host.calls}
        assert f"{name}-{load}-start" in labels
        assert f"{name}-{other}-start" not in labels


def test_one_without_a_load_of_its_own_is_left_in_peace(pair, access) -> None:
    pair.provision()
    pair.burn({A: (IDLE,)})
    one, other = by_name(known(pair).guests)
    assert [result.status for result in one.results] == ["not_applicable"]
    assert (other.results, other.telemetry) == ((), None)
    assert "payload" not in {label for _, label in access.guests[B].host.calls}


def _refused(group: GuestGroup, access: FakeAccess) -> str:
    access.libvirt.refuse[domains_of(group)[0]] = ProvisionError("unable to lock pages")
    return "provision"


def _silent(_group: GuestGroup, access: FakeAccess) -> str:
    access.guests[A] = FakeGuest(silent=100_000)
    return "boot"


def _without_payload(_group: GuestGroup, access: FakeAccess) -> str:
    access.guests[A].host.on("payload", b"", status=2, stderr=b"tar: No space left on device")
    return "burn"


@pytest.mark.parametrize("breaks", [_refused, _silent, _without_payload])
def test_one_that_breaks_ends_none_of_the_others(pair, access, breaks) -> None:
    stage = breaks(pair, access)
    access.guests[B].host.on(f"{B}-kernel-log", b"BUG: soft lockup\n")
    pair.provision()
    pair.burn({A: (IDLE,), B: (IDLE,)})
    assert [pair.broken(A), pair.broken(B)] == [True, False]
    pair.release(orderly=True)
    said = known(pair)
    one, other = by_name(said.guests)
    assert [(e.stage, e.subject) for e in said.errors if e.stage != "observe"] == [(stage, A)]
    assert one.results == ()
    assert one.kernel_log == (() if breaks is _without_payload else None), (
        "whoever lives is asked for its log"
    )
    assert (other.started, other.reached) == (True, True)
    assert [result.workload for result in other.results] == [IDLE]
    assert other.kernel_log == ("BUG: soft lockup",)
    given_back(access, one, other)
    assert pair.host.unreleased == set()


def test_one_for_which_there_is_no_plan_ends_none_of_the_others(made, access) -> None:
    """The one that comes later finds what the ones before left."""
    group = made((a_demand(A, gpus=3, group="2x1gpu"), a_demand(B, gpus=2, group="2x1gpu")))
    group.provision()
    assert [group.broken(A), group.broken(B)] == [False, True]
    group.release(orderly=True)
    said = known(group)
    one, other = by_name(said.guests)
    assert [e.stage for e in said.errors] == ["observe"]
    assert one.reached
    assert other.no_plan is not None
    assert (other.started, other.release) == (False, None)
    given_back(access, one)
    assert access.guests[B].host.calls == []


def test_a_defect_of_our_own_in_one_of_them_ends_none_of_the_others(pair, access) -> None:
    access.guests[A].host.on("payload", lambda _argv, _stdin: 1 // 0)  # type: ignore[arg-type,return-value]
    pair.provision()
    pair.burn({A: (IDLE,), B: (IDLE,)})
    assert [pair.broken(A), pair.broken(B)] == [True, False]
    pair.release(orderly=True)
    said = evidence(pair.host.context.recorder)
    (defect,) = [error for error in said.errors if error.stage == "harness"]
    assert (defect.kind, defect.subject) == ("ZeroDivisionError", A)
    assert [result.workload for result in by_name(said.guests)[1].results] == [IDLE]
    given_back(access, *said.guests)


def test_a_full_disk_of_the_controller_ends_the_run_and_leaves_none_of_them(pair, access) -> None:
    def full(_argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        pair.host.context.recorder.log.close()  # from here on nothing can be written down
        return 0, b"", b""

    access.guests[A].host.on("payload", full)
    pair.provision()
    with pytest.raises(RecordError):
        pair.burn({A: ("hashing",), B: ("hashing",)})
    with pytest.raises(RecordError):
        pair.release(orderly=False)
    assert access.libvirt.domains() == ()
    assert access.libvirt.networks == {}


def test_a_run_that_lost_its_lease_starts_none_of_them(pair, access) -> None:
    pair.host.lease.alive = False
    said, _ = ran(pair)
    assert [(e.stage, e.subject) for e in said.errors] == [("claim", "2x1gpu")]
    assert [pair.broken(guest.name) for guest in pair.guests] == [True, True]
    assert access.host.calls == []


def test_what_stays_behind_is_told_of_its_guest_and_memory_of_all_of_them(pair, access) -> None:
    pair.provision()
    one, other = pair.guests
    assert one.plan is not None
    lost = one.plan.hostdevs[0]

    def afterwards(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        """A device is gone, memory is missing, and QEMU of the other guest does not end."""
        asked = argv[argv.index("--", 3) + 1 :]
        state = host_state(
            devices="\n".join(f"{a}\t{int(a != str(lost))}\t\tbus\t {HEADER}" for a in asked),
            hugepages="0\t2048\t900",
            processes=f"7\tqemu -name guest={other.place.domain},x",
        )
        return answering("host-state", state)(argv, stdin)

    access.host.on("host-state", afterwards)
    pair.release(orderly=True)
    mine, its = (guest.release for guest in by_name(known(pair).guests))
    assert mine is not None
    assert its is not None
    assert [d.device for d in mine.devices if not d.present] == [lost]
    assert [d.device for d in its.devices if not d.present] == []
    assert {d.device for d in mine.devices} == set(one.plan.hostdevs)
    assert not {d.device for d in mine.devices} & {d.device for d in its.devices}
    assert mine.hugepages_after == its.hugepages_after == {"0/2097152": 900}
    assert (mine.leftover_processes, len(its.leftover_processes)) == ((), 1)
    assert pair.host.unreleased == {B}


def test_a_card_that_was_split_since_it_was_discovered_starts_no_guest(pair, access) -> None:
    def now(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        asked = argv[argv.index("--", 3) + 1 :]
        rows = "\n".join(f"{a}\t1\t\tbus\t {HEADER}" for a in asked)
        frames = host_state(devices=rows, split=asked[0], hugepages="0\t2048\t2048")
        return answering("host-state", frames)(argv, stdin)

    access.host.on("host-state", now)
    said, _ = ran(pair)
    assert [guest.started for guest in said.guests] == [False, False]
    (error,) = said.errors
    assert "got virtual functions since the host was discovered" in error.message
    assert "sriov_numvfs" in error.remedy


def test_one_that_had_ended_by_itself_is_told_apart_from_the_others(pair, access) -> None:
    pair.provision()
    access.libvirt.shutdown(domains_of(pair)[0], deadline=1.0)
    pair.release(orderly=False)
    one, other = by_name(known(pair).guests)
    assert one.release is not None
    assert other.release is not None
    assert (one.release.ended_before, other.release.ended_before) == (True, False)
    given_back(access, one, other)


@pytest.mark.timeout(60)
def test_one_that_dies_under_load_is_named_once_and_ends_none_of_the_others(pair, access) -> None:
    """Its QEMU is killed while its load runs: the wait ends, and what the other has to show is shown."""
    access.host.on("guest-qemu-log", b"qemu: terminating on signal 15 from pid 812 (bash)\n")
    access.host.on("guest-host-log", b"")
    access.guests[A].host.on("/bin/sh", _runs_on)
    a_guest(A, access.guests[A])
    for name in (A, B):
        access.guests[name].host.on("cat", b"99.0 1.0\n")
    pair.provision()
    assert pair.pulse is not None
    nonce = next(argv[4] for argv, _ in access.host.calls if len(argv) > 4 and "pulse" in argv)

    def heard(*lines: str, path: Path = pair.pulse.path) -> None:
        with path.open("a") as file:
            file.write("".join(f"{nonce} {line}\n" for line in lines))

    with pair.pulse.path.open("a") as file:
        file.write(f"shakedown 1 pulse {nonce}\n")
    heard("uptime 9.00", "pid 0 4711", "pid 1 4712")

    def kill() -> None:
        heard("gone 0 4711")

    threading.Timer(1.0, kill).start()
    begun = time.monotonic()
    pair.burn({A: ("hashing", "vram"), B: (IDLE,)})
    assert time.monotonic() - begun < 10.0
    assert [pair.broken(A), pair.broken(B)] == [True, False]
    pair.release(orderly=True)
    said = known(pair)
    one, other = by_name(said.guests)
    assert one.death is not None
    assert (one.death.kind, one.death.signal, one.death.during) == (DeathKind.QEMU_KILLED, 15, "burn")
    assert [(e.stage, e.kind) for e in said.errors if e.subject == A] == [
        ("observe", "TransportError"),
        ("guest", "GuestDied"),
    ]
    assert (other.death, other.kernel_log) == (None, ())
    assert [result.workload for result in other.results] == [IDLE]
    given_back(access, one, other)
    events = read_events(pair.host.context.recorder.directory.events).events
    assert "telemetry/2x1gpu.pulse.txt" in recorded_files(events)


def test_an_interrupt_while_they_come_up_leaves_none_of_them(pair, access) -> None:
    class Interrupting(FakeGuest):
        def run(self, argv, **options):
            raise KeyboardInterrupt

    access.guests[B] = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        pair.provision()
    assert running(access) == sorted(domains_of(pair))
    pair.release(orderly=False)
    given_back(access, *known(pair).guests)
    assert access.guests[A].closed == access.guests[B].closed == 1


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """SIGINT to this process, with its usual effect also where the tests were started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def _runs_on(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
    """The guest's job runner of a load that does not end by itself."""
    time.sleep(0.01)
    status = {
        "key": argv[argv.index("--key") + 1], "state": "running", "created": True, "exit": None,
        "stopped": False, "started": 1.0, "ended": None, "now": 2.0, "boot": "b",
        "stdout_bytes": 0, "stderr_bytes": 0, "stdout_total": 0,
    }  # fmt: skip
    return answering("runner", {"status": json.dumps(status) + "\n"})(argv, b"")


@pytest.mark.timeout(60)
def test_an_interrupt_in_the_middle_of_loads_that_run_together_leaves_none_of_them(
    pair, access, ctrl_c
) -> None:
    both = threading.Barrier(2, action=lambda: threading.Timer(0.2, ctrl_c).start())

    def begun(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        both.wait(30.0)
        return _runs_on(argv, stdin)

    for name in (A, B):
        access.guests[name].host.on("/bin/sh", _runs_on)
        a_guest(name, access.guests[name])
        access.guests[name].host.on(f"{name}-hashing-start", begun)
    pair.provision()
    with pytest.raises(KeyboardInterrupt):
        pair.burn({A: ("hashing", "vram"), B: ("hashing", "vram")})
    for thread in [t for t in threading.enumerate() if t.name.startswith("burn")]:
        thread.join(10.0)  # its work is over; the thread itself ends a little later
        assert not thread.is_alive()
    pair.release(orderly=False)
    said = known(pair)
    for name in (A, B):
        labels = {label for _, label in access.guests[name].host.calls}
        assert f"{name}-vram-start" not in labels, "no further load begins"
    given_back(access, *said.guests)
    assert pair.host.unreleased == set()
