"""Exclusive claims: which run owns which device of a host, so that two runs never take the same one.

A claim is a file ``claims/<pci address>`` below ``/run/shakedown`` on the candidate host. It appears by
``link(2)``, all devices of a request under one mutex: together or not at all. It names the run, its
controller and when it began. ``/run`` is empty after a reboot, as are claims and guests.

**When may a claim of another run be cleared?** Each run holds a *lease*: an ``flock`` on the host, held by
a process that lives only as long as the controller feeds it beats through its own SSH connection. When the
controller ends, by whatever signal, the kernel closes that connection and the lock is free. A dead link
frees it after ``leases.LEASE_SECONDS`` without a beat. The state of a claim is

- ``live``: the lease is held. It is never touched; a second run is refused, or waits.
- ``quiet``: the lease is free, but its last beat is younger than the grace: perhaps a controller that only
  lost its connection and is about to resume. It is waited for, not touched.
- ``gone``: the lease is free and the grace over. The second run then *takes the dead run's lease itself*,
  which fences off the first should it come back, removes the first run's guests, networks and files with
  ``evict`` (``harness.stages.guest.release.sweep``), drops its claims and only then claims for itself.

A controller that finds its lease lost (``Lease.alive`` false) must act no more under that run before it
holds the lease again.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cleanups import Cleanups
from harness.errors import ClaimError
from harness.model.pci import PciAddress
from harness.ports import Clock, Transport
from harness.scripts.script import Script, ask
from harness.serial import whole
from harness.stages.host.leases import (
    CLAIM_ROOTS,
    HoldingTransport,
    Lease,
    hold_lease,
    require_words,
)

SCRIPT = Script(
    name="claims",
    package="harness.stages.host",
    file="claims.sh",
    needs="a /run/shakedown that the user may write to, and util-linux (flock)",
    error=ClaimError,
)

GRACE_SECONDS = 30.0
"""A controller that lost its connection has this long to come back before it may be declared gone."""

_POLL_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One device and the run that owns it."""

    device: PciAddress
    run: str
    controller: str
    started_at: str
    state: str
    """``live``, ``quiet`` or ``gone``; see the module."""
    silent_seconds: int | None
    """Since the last beat of a lease that is not held; None when held or never seen."""

    def __str__(self) -> str:
        silent = "" if self.silent_seconds is None else f", silent for {self.silent_seconds} s"
        return (
            f"{self.device} is claimed by run {self.run} ({self.state}{silent}; "
            f"controller {self.controller}, since {self.started_at})"
        )


def controller_name() -> str:
    """This controller, for the message another run gets: host name, process id and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip()[:8] if boot.exists() else "unknown"
    host = re.sub(r"[^A-Za-z0-9._-]", "?", platform.node())[:64] or "unknown"
    return f"{host} pid {os.getpid()} boot {boot_id}"


def holders(
    transport: Transport, *, roots: tuple[str, ...] = CLAIM_ROOTS, grace: float = GRACE_SECONDS
) -> tuple[Claim, ...]:
    """Every claim on the host, in address order. Raises ClaimError or TransportError."""
    require_words("any", roots)
    return _claims(transport, ("list", f"{grace:.0f}", *roots, "--"))[0]


def claim(
    transport: HoldingTransport,
    run: str,
    devices: tuple[PciAddress, ...],
    *,
    clock: Clock,
    progress: Callable[[str], None],
    evict: Callable[[str], None] | None = None,
    wait: float = 0.0,
    grace: float = GRACE_SECONDS,
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> None:
    """Claim all ``devices`` for ``run``, whose lease the caller holds; what it has already is kept.

    Waits up to ``wait`` seconds for a live holder, and out the grace of a quiet one. ``evict`` removes what
    a run that is proven gone left behind; without it nothing of others is cleared. Raises ClaimError
    naming the first holder.
    """
    require_words(run, roots)
    began = clock.monotonic()
    arguments = ("take", run, controller_name(), clock.now(), f"{grace:.0f}", *roots, "--")
    while True:
        blockers, taken = _claims(transport, (*arguments, *(str(d) for d in devices)))
        if taken:
            return
        waited = clock.monotonic() - began
        live = [b for b in blockers if b.state == "live"]
        quiet = [b for b in blockers if b.state == "quiet"]
        if live and waited >= wait:
            raise _refusal(live[0], transport.name, "wait for it with --wait, or choose another host")
        if not live and not quiet:
            if evict is None or not blockers:
                raise _refusal(
                    blockers[0] if blockers else None,
                    transport.name,
                    "its controller is gone: resume that run, or start a new run, which clears it",
                )
            for gone in sorted({b.run for b in blockers}):
                progress(f"run {gone} has ended: clearing its leftovers on {transport.name}")
                clear(transport, gone, evict, roots)
            continue
        progress(f"waiting {waited:.0f} s: {(live or quiet)[0]}")
        clock.sleep(_POLL_SECONDS)


def release_claims(
    transport: Transport,
    run: str,
    devices: tuple[PciAddress, ...] = (),
    *,
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> None:
    """Give back ``devices``, or everything of ``run`` and its lease file when none are named. Claims of
    other runs stay. Safe to call twice. Raises ClaimError or TransportError."""
    require_words(run, roots)
    _claims(transport, ("release", run, *roots, "--", *(str(d) for d in devices)))


@contextmanager
def claimed(
    transport: HoldingTransport,
    run: str,
    devices: tuple[PciAddress, ...],
    *,
    clock: Clock,
    progress: Callable[[str], None],
    evict: Callable[[str], None] | None = None,
    wait: float = 0.0,
    grace: float = GRACE_SECONDS,
    roots: tuple[str, ...] = CLAIM_ROOTS,
    keep: Callable[[], bool] | None = None,
) -> Iterator[Lease]:
    """Lease and claims for the length of a block. What was claimed is given back at its end, however it
    ends; a controller that dies leaves claims that its resumed run, or an evicting one, takes over.

    ``keep`` is asked at the end: True leaves the claims as such a controller does. For a run that could not
    remove its guests: their devices are not free, and the next run, finding the claims, clears them first.
    """

    def give_back() -> None:
        if keep is None or not keep():
            release_claims(transport, run, roots=roots)

    with Cleanups() as stack:
        lease = hold_lease(transport, run, roots=roots)
        stack.callback(lease.close)
        stack.callback(give_back)
        claim(
            transport,
            run,
            devices,
            clock=clock,
            progress=progress,
            evict=evict,
            wait=wait,
            grace=grace,
            roots=roots,
        )
        yield lease


def clear(
    transport: HoldingTransport, run: str, evict: Callable[[str], None], roots: tuple[str, ...]
) -> None:
    """Remove with ``evict`` what a run that is gone left behind, under its own lease, and its claims."""
    with closing(hold_lease(transport, run, roots=roots)):
        evict(run)
        release_claims(transport, run, roots=roots)


def _claims(transport: Transport, arguments: tuple[str, ...]) -> tuple[tuple[Claim, ...], bool]:
    """The claims that it tells of, and whether those that were asked for are taken."""
    answer, _ = ask(transport, SCRIPT, *arguments)
    claims = [_read_claim(row, transport.name) for row in answer.rows("claims")]
    taken = any(frame.title == "taken" for frame in answer.frames)
    return tuple(sorted(claims, key=lambda c: c.device)), taken


def _read_claim(row: tuple[str, ...], host: str) -> Claim:
    try:
        device, run, controller, started, state, age = row
        return Claim(
            device=PciAddress.parse(device),
            run=run or "(unreadable)",
            controller=controller,
            started_at=started,
            state=state,
            silent_seconds=whole(age) if age else None,
        )
    except ValueError as error:
        raise ClaimError(
            f"a claim on this host cannot be read: {row!r}",
            host=host,
            remedy="check /run/shakedown/claims on the host",
        ) from error


def _refusal(first: Claim | None, host: str, remedy: str) -> ClaimError:
    return ClaimError(str(first) if first else "the claim was refused", host=host, remedy=remedy)
