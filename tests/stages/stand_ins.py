"""What stages are given, made from fakes: an open record, and a host with guests that answer in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.config.files import load_host, load_profile
from harness.errors import ClaimError, TransportError
from harness.images.guest import GuestImage
from harness.model.evidence import Engine, Evidence
from harness.model.guest import GuestDemand, GuestRequest
from harness.model.inventory import HostFile, Profile, SshAccess
from harness.ports import HostEnd, Life
from harness.progress import Progress
from harness.record.attempts import assemble
from harness.record.events import read_events
from harness.record.recorder import Recorder
from harness.stages.guest.images import HostImage
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport

RUN = "20260101T000000Z-abcdef"


def a_demand(name: str, *workloads: str, gpus: int = 1, group: str = "") -> GuestDemand:
    """A guest to try, alone unless a group is named."""
    return GuestDemand(request=GuestRequest(name=name, gpus=gpus), workloads=workloads, group=group or name)


def a_recorder(
    directory: Path,
    *,
    host: HostFile | None = None,
    profile: Profile | None = None,
    guests: tuple[GuestDemand, ...] = (),
) -> Recorder:
    """An open record of run ``RUN``, in which these guests are demanded."""
    return Recorder.begin(
        directory,
        host=host or load_host("lab"),
        profile=profile or load_profile("smoke"),
        waivers=(),
        guests=guests,
        clock=FakeClock(),
        run_id=RUN,
    )


def evidence(recorder: Recorder) -> Evidence:
    """What the record says so far."""
    return assemble(read_events(recorder.directory.events).events)


def quiet() -> Progress:
    """Progress that nobody reads."""
    return Progress(io.StringIO())


@dataclass
class FakeGuest(FakeTransport):
    """A guest that starts to answer after so many tries."""

    silent: int = 0
    why: str = "Connection refused"
    life: Life | None = None
    """As the real transport: no wait outlasts it."""

    def __post_init__(self) -> None:
        FakeTransport.__init__(self, FakeHost("guest"))

    def run(self, argv, **options):  # type: ignore[no-untyped-def]
        if self.life is not None:
            self.life.require()
        if self.silent > 0:
            self.silent -= 1
            error = TransportError(self.why, host="guest")
            raise error if self.life is None else self.life.explained(error)
        return super().run(argv, **options)


@dataclass
class FakeAccess:
    """``harness.stages.host.access.HostAccess`` in memory."""

    host: FakeHost = field(default_factory=FakeHost)
    libvirt: FakeHypervisor = field(default_factory=FakeHypervisor)
    in_guest: FakeGuest = field(default_factory=FakeGuest)
    guests: dict[str, FakeGuest] = field(default_factory=dict)
    """By name, where there is more than one."""
    asked_for: list[SshAccess] = field(default_factory=list)
    name: str = "fake"
    engine: Engine = Engine(description="a machine in memory")
    ssh: SshAccess | None = None
    ended: Callable[[], HostEnd | None] = lambda: None

    @property
    def transport(self) -> FakeTransport:
        return FakeTransport(self.host)

    def hypervisor(self) -> FakeHypervisor:
        return self.libvirt

    def guest(
        self, access: SshAccess, *, name: str, recorder: object = None, life: Life | None = None
    ) -> FakeGuest:
        self.asked_for.append(access)
        found = self.guests.get(name, self.in_guest)
        found.life = life
        return found


@dataclass
class FakeLease:
    """``harness.stages.host.leases.Lease`` in memory: lost when told so, and perhaps taken by another run."""

    alive: bool = True
    taken: bool = False
    regained: int = 0

    def require(self) -> None:
        if not self.alive:
            raise ClaimError("run lost its lease on the host")

    def regain(self) -> None:
        if self.taken:
            raise ClaimError("run is already controlled by another process")
        self.regained += not self.alive
        self.alive = True


HOST_IMAGE = HostImage(
    disk="/srv/images/abc/disk.qcow2",
    kernel="/srv/images/abc/vmlinux",
    initrd="/srv/images/abc/initrd",
    command_line="console=ttyS0",
)


def an_image(directory: Path, digest: str = "abc123", **files: bytes) -> GuestImage:
    """A built image with small files of known content."""
    import hashlib

    home = directory / digest
    home.mkdir(parents=True)
    contents = {"disk.qcow2": b"disk", "vmlinux": b"kernel", "initrd": b"initrd", **files}
    for name, data in contents.items():
        (home / name).write_bytes(data)
    return GuestImage(
        kind="cpu",
        digest=digest,
        disk=home / "disk.qcow2",
        kernel=home / "vmlinux",
        initrd=home / "initrd",
        command_line="console=ttyS0",
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
