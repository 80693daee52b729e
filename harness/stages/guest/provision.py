"""A guest on the host: overlay, definition, start, and the wait until it answers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.backends.process import Recorder
from harness.backends.ssh import SshTransport
from harness.errors import BootError, HarnessError, ProvisionError, TransportError
from harness.model.inventory import Profile, SshAccess
from harness.model.placement import PlacementPlan
from harness.model.topology import HostFacts
from harness.placement.buses import pci_hole64_kib
from harness.placement.domain.definition import GuestDefinition
from harness.ports import Clock, Hypervisor, Life, Transport
from harness.stages.guest.images import HostImage
from harness.stages.guest.keys import GuestKeys
from harness.stages.guest.network import RunNetwork
from harness.stages.host.access import HostAccess

_POLL_SECONDS = 0.5
"""A try at an address where nobody is yet takes some 3 s by itself: this pause counts while sshd starts."""
_LOOK_SECONDS = 20.0
"""How often a guest that does not answer is asked for signs of death."""
_SERIAL_TAIL = 65536

_OVERLAY = """
set -e
umask 022
mkdir -p -- "$1"
qemu-img create -q -f qcow2 -F qcow2 -b "$2" "$1/$3.qcow2"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestPlace:
    """Where one guest lives on the host."""

    domain: str
    directory: str
    """Of this run, on the host: overlays and serial logs."""
    number: int

    @property
    def overlay(self) -> str:
        """Its throw-away disk."""
        return f"{self.directory}/{self.domain}.qcow2"

    @property
    def serial(self) -> str:
        """Its serial console's log."""
        return f"{self.directory}/{self.domain}.serial"


_LONGEST_NAME = 63
DOMAIN_PREFIX = "shakedown-"
"""What the names of all our domains begin with."""


def run_prefix(run: str) -> str:
    """What the names of all domains of a run begin with."""
    return f"{DOMAIN_PREFIX}{run}-"


def guest_place(run: str, guest: str, number: int, work_dir: str) -> GuestPlace:
    """Names of a guest on the host, derived from the run's key: the same run finds them again.

    A long name is cut, and told from others by the guest's number.
    """
    name = f"{DOMAIN_PREFIX}{run}-{guest}"
    if len(name) > _LONGEST_NAME:
        name = f"{DOMAIN_PREFIX}{run}-{number}-{guest}"[:_LONGEST_NAME].rstrip(".-_")
    return GuestPlace(
        domain=name,
        directory=f"{work_dir.rstrip('/')}/runs/{run}",
        number=number,
    )


def define(
    plan: PlacementPlan,
    facts: HostFacts,
    *,
    run: str,
    place: GuestPlace,
    image: HostImage,
    network: RunNetwork,
    keys: GuestKeys,
) -> GuestDefinition:
    """The guest's identity, disk and devices beyond its placement."""
    return GuestDefinition(
        name=place.domain,
        uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"shakedown:{run}:{place.domain}")),
        run=run,
        disk=place.overlay,
        backing=image.disk,
        network=network.name,
        mac=network.mac(place.number),
        serial_log=place.serial,
        kernel=image.kernel,
        initrd=image.initrd,
        cmdline=image.command_line or None,
        fw_cfg=keys.fw_cfg(),
        pci_hole64_kib=pci_hole64_kib(facts, plan),
    )


def boot_deadline(profile: Profile, plan: PlacementPlan) -> float:
    """Seconds a guest may take to answer: firmware sizes every GPU's memory window, VFIO pins all RAM."""
    return (
        profile.boot_deadline_seconds
        + profile.boot_deadline_per_gpu_seconds * len(plan.gpus)
        + profile.boot_deadline_per_gib_seconds * plan.memory_mib / 1024
    )


def make_overlay(transport: Transport, place: GuestPlace, image: HostImage) -> None:
    """The throw-away disk over the shared image. Raises ProvisionError (full disk, no qemu-img)."""
    result = transport.run(
        ("sh", "-c", _OVERLAY, "sh", place.directory, image.disk, place.domain), label="make-overlay"
    )
    if result.status != 0:
        raise ProvisionError(
            f"the overlay {place.overlay} could not be made: {result.complaint[:600]}",
            remedy="check that work_dir exists and has free space, and that qemu-utils is installed",
            transcript=result.transcript,
        )


def wait_for_guest(
    host: HostAccess,
    place: GuestPlace,
    access: SshAccess,
    *,
    name: str,
    deadline: float,
    clock: Clock,
    progress: Callable[[str], None],
    recorder: Recorder | None,
    life: Life | None = None,
) -> tuple[SshTransport, float]:
    """A connection to the guest and the seconds it took to answer.

    Raises GuestDied as soon as whoever watches its ``life`` knows that it ended, and BootError with the end
    of its serial console when it ends unwatched, or does not answer in time.
    """
    guest = host.guest(access, name=name, recorder=recorder, life=life)
    try:
        return guest, _until_it_answers(
            guest, host, place, name=name, deadline=deadline, clock=clock, progress=progress
        )
    except BaseException:
        guest.close()  # a connection that was half made leaves a process behind
        raise


def _until_it_answers(
    guest: SshTransport,
    host: HostAccess,
    place: GuestPlace,
    *,
    name: str,
    deadline: float,
    clock: Clock,
    progress: Callable[[str], None],
) -> float:
    begun = looked = clock.monotonic()
    last = "it never answered"
    while True:
        waited = clock.monotonic() - begun
        try:
            if guest.run(("true",), deadline=30.0, label="").status == 0:
                return clock.monotonic() - begun
        except TransportError as error:
            last = error.message
        if waited > deadline:
            raise BootError(
                f"{name} did not answer SSH within {deadline:.0f} s: {last}"
                f"{serial_words(host.transport, place)}",
                remedy="read the guest's serial console; raise boot_deadline_seconds in the profile if it "
                "was still booting",
            )
        if clock.monotonic() - looked > _LOOK_SECONDS:
            looked = clock.monotonic()
            _must_live(host.transport, host.hypervisor(), place, name)
        progress(f"waiting for {name} to boot: {waited:.0f} s of at most {deadline:.0f} s")
        clock.sleep(_POLL_SECONDS)


def serial_log(host: Transport, place: GuestPlace) -> str:
    """The end of the guest's serial console, as text; empty when it cannot be read."""
    try:
        result = host.run(("tail", "-c", str(_SERIAL_TAIL), "--", place.serial), label="guest-serial")
    except HarnessError:
        return ""
    return result.text if result.status == 0 else ""


def serial_words(host: Transport, place: GuestPlace) -> str:
    """The last lines of the serial console as part of a sentence."""
    lines = [line.strip() for line in serial_log(host, place).splitlines() if line.strip()]
    return f"; its console ends: {' | '.join(lines[-4:])[:600]}" if lines else "; its console is empty"


def _must_live(host: Transport, hypervisor: Hypervisor, place: GuestPlace, name: str) -> None:
    state = next((d for d in hypervisor.domains() if d.name == place.domain), None)
    if state is None or not state.running:
        raise BootError(
            f"{name} ended while it was booting{serial_words(host, place)}",
            remedy="read the guest's serial console and the host's /var/log/libvirt/qemu log",
        )


def guest_access(network: RunNetwork, place: GuestPlace, keys: GuestKeys, directory: Path) -> SshAccess:
    """How the guest is reached through its host, with its key pinned."""
    address = network.address(place.number)
    known_hosts = directory / f"{place.domain}.known_hosts"
    keys.pin(address, known_hosts)
    return SshAccess(
        address=address,
        identity_file=str(keys.identity),
        known_hosts=str(known_hosts),
        connect_timeout_seconds=5.0,
    )
