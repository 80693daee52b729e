"""Reaching a candidate host: whatever starts it, one transport and one libvirt connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from harness.backends.libvirt_hypervisor import LibvirtHypervisor
from harness.backends.local import LocalTransport
from harness.backends.process import Recorder
from harness.backends.ssh import SshTransport
from harness.cleanups import Cleanups
from harness.errors import ConfigError
from harness.images.kinds import KINDS, GuestKind
from harness.model.evidence import Engine
from harness.model.inventory import HostFile, LabFile, SshAccess
from harness.ports import Clock, HostControl, HostEnd, Hypervisor, Life

Labs = Callable[[str], LabFile]
"""Finds a lab description by name (``harness.config.files`` loads it from the inventory)."""

_Maker = Callable[[HostFile, "Labs | None"], HostControl]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccess:
    """A host that answers."""

    name: str
    transport: SshTransport | LocalTransport
    ssh: SshAccess | None
    """None for the machine itself."""
    engine: Engine
    hypervisor: Callable[[], Hypervisor]
    """libvirt on the host: opened when first asked for, then always the same connection."""
    ended: Callable[[], HostEnd | None] = lambda: None
    """How the host ended, as its control knows (``harness.ports.HostControl.ended``)."""

    def guest(
        self, access: SshAccess, *, name: str, recorder: Recorder | None = None, life: Life | None = None
    ) -> SshTransport:
        """A transport into a guest of this host, through the host's own connection. No wait on it outlasts
        the guest's ``life``."""
        through = self.transport if isinstance(self.transport, SshTransport) else None
        return SshTransport(access, name=name, through=through, recorder=recorder, life=life)


class _Present:
    """HostControl of a machine that is simply there."""

    def __init__(self, access: SshAccess) -> None:
        self._access = access

    def ensure_up(self, progress: Callable[[str], None]) -> SshAccess:
        """How it is reached; whether it answers shows when it is first asked."""
        progress(f"connecting to {self._access.user}@{self._access.address} port {self._access.port}")
        return self._access

    def as_it_is(self) -> SshAccess:
        """The same: there is nothing to start."""
        return self._access

    def engine(self) -> Engine:
        """Nothing is known of how it runs beyond what its facts say."""
        return Engine(description="a machine of its own", accelerator="hardware or not known")

    def ended(self) -> HostEnd | None:
        """Nothing is known of its end."""
        return None

    def stays(self) -> str:
        """Nothing of ours."""
        return ""


def _none(host: HostFile, _labs: Labs | None) -> HostControl:
    if host.ssh is None:
        raise ConfigError(
            f"host {host.name} has no `ssh` and its control starts nothing",
            remedy="add `ssh:` with `address:` to its inventory file",
        )
    return _Present(host.ssh)


def _lab(host: HostFile, labs: Labs | None) -> HostControl:
    from harness.lab.control import LabControl  # noqa: PLC0415  the lab's machinery is for labs only

    if host.control.lab is None or labs is None:
        raise ConfigError(f"host {host.name}: `control.lab` names no lab description")
    return LabControl(labs(host.control.lab))


def guest_kinds(host: HostFile) -> Mapping[str, GuestKind]:
    """The kinds of guest images there are, with those that the host's control brings along."""
    if host.control.kind == "lab":
        from harness.lab.guest_image import GUEST_KINDS  # noqa: PLC0415  the lab's own, for labs only

        return GUEST_KINDS
    return KINDS


_CONTROLS: tuple[tuple[str, _Maker], ...] = (("none", _none), ("lab", _lab))
_LOCAL = "local"


@contextmanager
def open_host(
    host: HostFile,
    progress: Callable[[str], None],
    *,
    recorder: Recorder | None = None,
    labs: Labs | None = None,
    clock: Clock | None = None,
    start: bool = True,
) -> Iterator[HostAccess]:
    """Make ``host`` answer, and yield how to work with it; connections end with the block.

    ``control.kind`` chooses who starts it: ``none``, ``lab``, or ``local`` for this machine itself. Where
    ``start`` is false, a host that is not up is an error: nothing is built or started. Raises ConfigError,
    TransportError or LabError.
    """
    with Cleanups() as stack:
        if host.control.kind == _LOCAL:
            local = LocalTransport(host.name, recorder=recorder)
            engine = Engine(description="the machine Shakedown runs on", accelerator="hardware or not known")
            here = LibvirtHypervisor.at("qemu:///system", name=host.name, clock=clock)
            stack.callback(here.close)
            yield HostAccess(
                name=host.name, transport=local, ssh=None, engine=engine, hypervisor=lambda: here
            )
            return
        makers = dict(_CONTROLS)
        if host.control.kind not in makers:
            known = ", ".join(sorted((*makers, _LOCAL)))
            raise ConfigError(f"host {host.name}: control.kind {host.control.kind!r} is not one of {known}")
        control = makers[host.control.kind](host, labs)
        access = control.ensure_up(progress) if start else control.as_it_is()
        if start and control.stays():
            stack.callback(_say_what_stays, control, progress)
        transport = SshTransport(access, name=host.name, recorder=recorder)
        stack.callback(transport.close)
        transport.connect()
        kept: list[LibvirtHypervisor] = []

        def hypervisor() -> Hypervisor:
            if not kept:
                kept.append(LibvirtHypervisor.over_ssh(transport, clock=clock))
                stack.callback(kept[0].close)
            return kept[0]

        yield HostAccess(
            name=host.name,
            transport=transport,
            ssh=access,
            engine=control.engine(),
            hypervisor=hypervisor,
            ended=control.ended,
        )


def _say_what_stays(control: HostControl, progress: Callable[[str], None]) -> None:
    if control.stays():  # a lab may have ended meanwhile
        progress(control.stays())


@contextmanager
def open_transport(
    host: HostFile,
    progress: Callable[[str], None],
    *,
    recorder: Recorder | None = None,
    labs: Labs | None = None,
) -> Iterator[SshTransport | LocalTransport]:
    """Only the transport of ``open_host``, for commands that need no libvirt."""
    with open_host(host, progress, recorder=recorder, labs=labs) as access:
        yield access.transport
