"""A group of guests on a host like the lab, whose host, libvirt and guests answer in memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.config.files import load_host, load_profile
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.guest import GuestDemand
from harness.record.recorder import Recorder
from harness.stages.claimed_host import ClaimedHost
from harness.stages.context import RunContext
from harness.stages.guest.group import GuestGroup, guest_group
from harness.stages.guest.images import HostImage
from harness.stages.guest.life import GuestSite
from harness.stages.guest.network import run_network
from tests.fakes import FakeClock, FakeHost
from tests.fakes.scripts import answering, host_state
from tests.placement import hosts
from tests.stages.stand_ins import HOST_IMAGE, RUN, FakeAccess, FakeGuest, FakeLease, evidence, quiet

HEADER = "34 12 e8 11 00 00 10 00 10 00 ff 00 00 00 80 00"
PAGES = {"0/2097152": 2048}
IDLE = "p2p"
"""A load that a guest of one GPU has no use for: its burn is prepared, watched and over, and nothing ran."""


def _host_state(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Every function that is asked about is there, without a driver; 2048 pages are free."""
    asked = argv[argv.index("--", 3) + 1 :]
    rows = "\n".join(f"{address}\t1\t\tbus\t {HEADER}" for address in asked)
    return answering("host-state", host_state(devices=rows, hugepages="0\t2048\t2048"))(argv, stdin)


def an_access(*names: str, host: FakeHost | None = None) -> FakeAccess:
    """A host on which everything that guests of these names need can be had; where they land it does not say.
    The guests have quiet kernels."""
    made = FakeAccess(host=host or FakeHost())
    made.host.on("host-state", _host_state)
    made.host.on("stream", b"")
    made.host.on("make-overlay", b"")
    made.host.on("remove-files", b"")
    made.host.on("guest-serial", b"[    9.9] Kernel panic\n")
    for name in names:
        made.host.on(f"{name}-placement-host", b"", status=1, stderr=b"no such domain")
        made.guests[name] = a_guest(name)
    return made


def a_guest(name: str, made: FakeGuest | None = None) -> FakeGuest:
    """Takes its payload, has no room for telemetry, and a kernel with nothing to tell."""
    made = made or FakeGuest()
    made.host.on("payload", b"")
    made.host.on("python", "3 11\n")
    made.host.on(f"{name}-sampler-scenario", b"", status=1, stderr=b"Read-only file system")
    made.host.on(f"{name}-kernel-log", b"")
    return made


def a_claimed_host(
    recorder: Recorder, access: FakeAccess, demands: tuple[GuestDemand, ...], **changes: Any
) -> ClaimedHost:
    """The lab's facts, claimed; ``changes`` are fields of its run or of the claimed host."""
    profile = dataclasses.replace(load_profile("smoke"), boot_deadline_seconds=10.0)
    context = RunContext(
        run=RUN,
        recorder=recorder,
        host=dataclasses.replace(load_host("lab"), placement=load_host("example").placement),
        profile=profile,
        demands=demands,
        clock=FakeClock(),
        progress=quiet(),
    )
    fields: dict[str, Any] = {"facts": hosts.lab_like(), "gpus": (), "lease": FakeLease()}
    return ClaimedHost(context=context, access=access, **{**fields, **changes})  # type: ignore[arg-type]


def a_site(scratch: Path, image: HostImage = HOST_IMAGE, guests: int = 1) -> GuestSite:
    """Image, network and a place for keys."""
    return GuestSite(image=image, network=run_network(RUN, guests), scratch=scratch)


def a_group(host: ClaimedHost, site: GuestSite, *, last: bool = True) -> GuestGroup:
    """All that the run demands, as one group."""
    return guest_group(host, site, host.context.demands, last=last)


def ran(group: GuestGroup, *workloads: str) -> tuple[Evidence, tuple[GuestEvidence, ...]]:
    """The whole life of a group, in an orderly run; what the record says of it."""
    group.provision()
    group.burn({guest.name: workloads for guest in group.guests})
    group.release(orderly=True)
    said = known(group)
    return said, said.guests


def known(group: GuestGroup) -> Evidence:
    """What the record says so far: of broken stages perhaps, and never of a defect of the project's own."""
    said = evidence(group.host.context.recorder)
    assert [error for error in said.errors if error.stage == "harness"] == []
    return said


def given_back(access: FakeAccess, *guests: GuestEvidence) -> None:
    """Nothing of these guests is left, and the record says so."""
    assert access.libvirt.domains() == ()
    assert access.libvirt.networks == {}
    for seen in guests:
        assert seen.release is not None, seen.name
        assert seen.release.problems == ()
        assert seen.release.hugepages_after == seen.release.hugepages_before == PAGES
        assert seen.plan is not None
        assert tuple(sorted(seen.plan.hostdevs)) == tuple(d.device for d in seen.release.devices)
        assert all(d.present and d.config_ok for d in seen.release.devices)
