"""Giving a guest back: end it, remove what it had, and compare the host with what it was before.

Everything here may be called twice and after any failure: each step is tried even if the one before it
failed, and what is left over is found by asking the host, not by remembering. Domains and networks without
the run's own key are never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from harness.errors import HarnessError, ReleaseError
from harness.model.evidence import DeviceReturn, ReleaseEvidence
from harness.model.pci import PciAddress
from harness.polling import wait_for
from harness.ports import Clock, Hypervisor, Transport
from harness.stages.host.leases import CLAIM_ROOTS
from harness.stages.host.state import HostState, run_directory, snapshot_host_state

_SETTLE_SECONDS = 45.0
"""Drivers are bound again and hugepages freed by work the kernel does after QEMU is gone; tp-libvirt waits
10 s for the driver on hardware, and an emulated host is several times slower."""

_REMOVE = 'for path in "$@"; do rm -rf -- "$path" || status=1; done; exit "${status:-0}"'
_REMOVE_IF_EMPTY = 'rmdir -- "$1" 2>/dev/null; [ ! -d "$1" ] || [ -n "$(ls -A -- "$1")" ]'
"""A run's directory goes with the last guest's files; beside files of another guest it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What carries a run's key on a host."""

    domains: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.domains or self.networks or self.files or self.claims)


@dataclass
class _Attempts:
    """Steps that are all tried; what failed is kept as a sentence."""

    progress: Callable[[str], None]
    problems: list[str] = field(default_factory=list)

    def step(self, what: str, action: Callable[[], object]) -> bool:
        """Do one step; False (and a problem on record) when it failed."""
        self.progress(what)
        try:
            action()
        except HarnessError as error:
            self.problems.append(f"{what}: {error.message}")
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """A guest that is to be given back."""

    guest: str
    domain: str
    devices: tuple[PciAddress, ...]
    """Every function that was handed to it."""
    files: tuple[str, ...] = ()
    """Paths (of files or directories) below the run's directory."""


def release_guests(
    transport: Transport,
    hypervisor: Hypervisor,
    leaving: tuple[Leaving, ...],
    *,
    run: str,
    before: HostState,
    work_dir: str,
    clock: Clock,
    progress: Callable[[str], None],
    networks: tuple[str, ...] = (),
    shutdown_seconds: float = 90.0,
    settle_seconds: float = _SETTLE_SECONDS,
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> tuple[ReleaseEvidence, ...]:
    """End guests that lived together and give back all they held; then, for each, the host as it is beside
    ``before``, when none of them was there.

    Devices, processes, domains and files are each guest's own; memory, the network and what nobody can be
    named for are the group's, and stand with every guest of it. Raises ReleaseError when a domain is not this
    run's or a path lies elsewhere, and TransportError or ParseError when the host can no longer be asked:
    then nothing is known, and nothing is claimed.
    """
    home = run_directory(work_dir, run)
    for path in (path for guest in leaving for path in guest.files):
        if not path.startswith(f"{home}/") or ".." in path.split("/"):
            raise ReleaseError(f"{path} is not below {home} and is not removed", host=transport.name)
    attempts = {guest.guest: _Attempts(progress) for guest in leaving}
    began = clock.monotonic()
    ends: dict[str, tuple[bool, bool]] = {}
    refused: list[HarnessError] = []
    for guest in leaving:
        try:
            ends[guest.guest] = _end_domain(
                hypervisor, attempts[guest.guest], run=run, domain=guest.domain, seconds=shutdown_seconds
            )
        except HarnessError as error:
            refused.append(error)  # the others are ended all the same
    if refused:
        raise refused[0]
    for network in networks:
        attempts[leaving[0].guest].step(f"stop network {network}", partial(hypervisor.stop_network, network))
    for guest in leaving:
        if guest.files:
            attempts[guest.guest].step(
                f"remove {len(guest.files)} files of {guest.guest}",
                partial(_remove, transport, guest.files, home),
            )

    def look() -> HostState:
        devices = tuple(before.devices)
        return snapshot_host_state(transport, devices, run=run, work_dir=work_dir, roots=roots)

    after = _settled(look, before, leaving, clock=clock, progress=progress, seconds=settle_seconds)
    domains = {d.name for d in hypervisor.domains() if d.metadata_run == run} | set(after.domains)
    seconds = clock.monotonic() - began
    return tuple(
        ReleaseEvidence(
            guest=guest.guest,
            devices=tuple(d for d in compare_devices(before, after) if d.device in guest.devices),
            hugepages_before=before.hugepages,
            hugepages_after=after.hugepages,
            leftover_processes=_leftover_processes(before, after, guest.domain),
            leftover_files=_not_of_others(_new(before.files, after.files), guest, leaving),
            leftover_domains=tuple(sorted(domains & {guest.domain})),
            leftover_networks=_new(before.networks, after.networks),
            leftover_claims=_new(before.claims, after.claims),
            seconds=seconds,
            forced=ends[guest.guest][1],
            ended_before=ends[guest.guest][0],
            problems=tuple(attempts[guest.guest].problems),
        )
        for guest in leaving
    )


def _not_of_others(files: tuple[str, ...], guest: Leaving, leaving: tuple[Leaving, ...]) -> tuple[str, ...]:
    others = {path for other in leaving if other is not guest for path in other.files}
    return tuple(path for path in files if path not in others)


def compare_devices(before: HostState, after: HostState) -> tuple[DeviceReturn, ...]:
    """Every function of ``before`` beside what it is in ``after``, in address order."""
    return tuple(_returned(device, before, after) for device in sorted(before.devices))


def find_leftovers(
    transport: Transport,
    hypervisor: Hypervisor,
    run: str,
    *,
    work_dir: str,
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> Leftovers:
    """What carries the key of ``run`` on the host. Raises TransportError, ParseError or ProvisionError."""
    state = snapshot_host_state(transport, (), run=run, work_dir=work_dir, roots=roots)
    domains = {d.name for d in hypervisor.domains() if d.metadata_run == run}
    return Leftovers(
        domains=tuple(sorted(domains | set(state.domains))),
        networks=state.networks,
        files=state.files,
        claims=state.claims,
    )


def sweep(
    transport: Transport,
    hypervisor: Hypervisor,
    run: str,
    *,
    work_dir: str,
    progress: Callable[[str], None],
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> Leftovers:
    """Remove the domains, networks and files of ``run``; returns what there was.

    Claims stay: whoever holds the run's lease gives them back afterwards. Only for one's own run, or under
    the lease of a run proven gone (``claims.claim(evict=...)``). Raises ReleaseError naming what could not
    be removed.
    """
    found = find_leftovers(transport, hypervisor, run, work_dir=work_dir, roots=roots)
    attempts = _Attempts(progress)
    for name in found.domains:
        attempts.step(f"end leftover domain {name}", partial(hypervisor.destroy, name))
    for name in found.networks:
        attempts.step(f"stop leftover network {name}", partial(hypervisor.stop_network, name))
    home = run_directory(work_dir, run)
    attempts.step(f"remove {home}", lambda: _remove(transport, (home,)))  # empty directories are no files
    if found:
        left = find_leftovers(transport, hypervisor, run, work_dir=work_dir, roots=roots)
        names = (*left.domains, *left.networks, *left.files)
        if names:
            raise ReleaseError(
                f"leftovers of run {run} could not be removed: {', '.join(names[:10])}: "
                f"{'; '.join(attempts.problems) or 'no error was reported'}",
                host=transport.name,
                remedy="remove them on the host (`virsh list --all`), then run again",
            )
    return found


def _end_domain(
    hypervisor: Hypervisor, attempts: _Attempts, *, run: str, domain: str, seconds: float
) -> tuple[bool, bool]:
    """End and undefine the domain; whether it had ended before that, and whether it had to be destroyed."""
    state = next((d for d in hypervisor.domains() if d.name == domain), None)
    if state is None:
        return True, False
    if state.metadata_run != run:
        whose = f"run {state.metadata_run}" if state.metadata_run else "somebody else"
        raise ReleaseError(f"domain {domain} belongs to {whose} and is left alone")
    gone: list[bool] = []
    if state.running:
        attempts.step(
            f"shut down {domain}", lambda: gone.append(hypervisor.shutdown(domain, deadline=seconds))
        )
    forced = state.running and gone != [True]
    attempts.step(
        f"{'destroy' if forced else 'undefine'} {domain}",
        lambda: hypervisor.destroy(domain),
    )
    return not state.running, forced


def _remove(transport: Transport, paths: tuple[str, ...], home: str = "") -> None:
    """Remove ``paths``, then the directory ``home`` if nothing is left in it. Raises ReleaseError."""
    lines = [("sh", "-c", _REMOVE, "sh", *paths)]
    if home:
        lines.append(("sh", "-c", _REMOVE_IF_EMPTY, "sh", home))
    for line in lines:
        result = transport.run(line, deadline=120.0, label="remove-files")
        if result.status != 0:
            raise ReleaseError(result.complaint[-400:])


def _settled(
    look: Callable[[], HostState],
    before: HostState,
    leaving: tuple[Leaving, ...],
    *,
    clock: Clock,
    progress: Callable[[str], None],
    seconds: float,
) -> HostState:
    """The host once devices, hugepages and processes are as before, or as it is after ``seconds``."""
    after = before

    def as_before() -> bool | None:
        nonlocal after
        after = look()
        same = after.devices == before.devices and after.hugepages == before.hugepages
        left = any(_leftover_processes(before, after, guest.domain) for guest in leaving)
        return True if same and not left else None

    words = "waiting for drivers to bind again and memory to be freed"
    wait_for(as_before, seconds=seconds, every=1.0, clock=clock, waiting=lambda: progress(words))
    return after


def _leftover_processes(before: HostState, after: HostState, domain: str) -> tuple[str, ...]:
    """QEMU processes of the domain that were not there before. One that is exiting has no command line
    any more: it counts as well."""
    mark = f"guest={domain},"
    return tuple(
        f"{pid}: {command}"
        for pid, command in sorted(after.processes.items())
        if pid not in before.processes and (mark in command or not command)
    )


def _new(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(after) - set(before)))


def _returned(device: PciAddress, before: HostState, after: HostState) -> DeviceReturn:
    then, now = before.devices[device], after.devices[device]
    return DeviceReturn(
        device=device,
        driver_before=then.driver,
        driver_after=now.driver,
        config_ok=now.config_ok,
        reset_methods_before=then.reset_methods,
        reset_methods_after=now.reset_methods,
        present=now.present,
    )
