"""Exclusive claims: which run owns which device of a host, so that two runs never take the same one.

A claim is a file ``claims/<pci address>`` below ``/run/shakedown`` on the candidate host. It appears by
``link(2)``, all devices of a request under one mutex: together or not at all. It names the run, its
controller and when it began. ``/run`` is empty after a reboot, as are claims and guests.

**When may a claim of another run be cleared?** Each run holds a *lease*: an ``flock`` on the host, held by
a process that lives only as long as the controller feeds it beats through its own SSH connection. When the
controller ends, by whatever signal, the kernel closes that connection and the lock is free. A dead link
frees it after ``LEASE_SECONDS`` without a beat. The state of a claim is

- ``live``: the lease is held. It is never touched; a second run is refused, or waits.
- ``quiet``: the lease is free, but its last beat is younger than the grace: perhaps a controller that only
  lost its connection and is about to resume. It is waited for, not touched.
- ``gone``: the lease is free and the grace over. The second run then *takes the dead run's lease itself*,
  which fences off the first should it come back, removes the first run's guests, networks and files with
  ``evict`` (``harness.stages.release.sweep``), drops its claims and only then claims for itself.

A controller that finds its lease lost (``Lease.alive`` false) must act no more under that run before it
holds the lease again.
"""

from __future__ import annotations

import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Protocol

from harness.errors import ClaimError, TransportError
from harness.model.pci import PciAddress
from harness.ports import Clock, Transport
from harness.stages.host_script import ask

CLAIM_ROOTS = ("/run/shakedown",)
"""Where claims live on a host: the first directory that can be written (claims of all runs must meet)."""

LEASE_SECONDS = 120.0
"""Without a beat for this long a lease ends: longer than the pause of a host that is being snapshot."""

BEAT_SECONDS = 10.0
GRACE_SECONDS = 30.0
"""A controller that lost its connection has this long to come back before it may be declared gone."""

_POLL_SECONDS = 5.0
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ROOT = re.compile(r"/[A-Za-z0-9._/-]+")


class Held(Protocol):
    """A command on a host that lives as long as it is held (``harness.backends.process.HeldCommand``)."""

    @property
    def alive(self) -> bool:
        """Whether it still runs."""

    def read_line(self, deadline: float) -> str:
        """The next line it prints."""

    def beat(self) -> bool:
        """Send one byte; False when it is gone."""

    def errors(self) -> str:
        """What it wrote on standard error."""

    def close(self) -> None:
        """Let it end."""


class HoldingTransport(Transport, Protocol):
    """A transport that can also hold a command: SSH and local ones can."""

    def hold(self, argv: tuple[str, ...]) -> Held:
        """Start a command that lives until its handle is closed or this process dies."""


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


class Lease:
    """The proof on the host that a run's controller lives. Beats by itself until closed."""

    def __init__(self, held: Held, run: str, beat_seconds: float) -> None:
        self.run = run
        self._held = held
        self._beat_seconds = beat_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {run}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the lease is lost: the run must not act on the host before it is held again."""
        return not self._ended.is_set() and self._held.alive

    def require(self) -> None:
        """Raise ClaimError when the lease is lost."""
        if not self.alive:
            raise ClaimError(
                f"run {self.run} lost its lease on the host",
                remedy="the connection broke; resume the run, which takes the lease again if nobody else has",
            )

    def close(self) -> None:
        """Give the lease back; safe to call twice."""
        self._ended.set()
        self._thread.join(30.0)
        self._held.close()

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            if not self._held.beat():
                return


def controller_name() -> str:
    """This controller, for the message another run gets: host name, process id and boot."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    boot_id = boot.read_text().strip()[:8] if boot.exists() else "unknown"
    host = re.sub(r"[^A-Za-z0-9._-]", "?", platform.node())[:64] or "unknown"
    return f"{host} pid {os.getpid()} boot {boot_id}"


def hold_lease(
    transport: HoldingTransport,
    run: str,
    *,
    roots: tuple[str, ...] = CLAIM_ROOTS,
    beat_seconds: float = BEAT_SECONDS,
    lease_seconds: float = LEASE_SECONDS,
) -> Lease:
    """Hold the lease of ``run``. Raises ClaimError when another process holds it, TransportError when the
    host cannot be asked."""
    _require_words(run, roots)
    script = resources.files("harness.stages").joinpath("lease.sh").read_text()
    held = transport.hold(("sh", "-c", script, "sh", run, f"{lease_seconds:g}", *roots))
    try:
        _require_holding(held, run, transport.name)
    except BaseException:
        held.close()
        raise
    return Lease(held, run, beat_seconds)


def _require_holding(held: Held, run: str, host: str) -> None:
    answer = held.read_line(60.0)
    if answer == "held":
        raise ClaimError(
            f"run {run} is already driven by another process",
            host=host,
            remedy="wait for it, or end that process; its lease is then free",
        )
    if answer != "holding":
        raise TransportError(
            f"the lease of run {run} could not be taken: {answer or held.errors() or 'no answer'}",
            host=host,
            remedy="the host needs util-linux (flock), coreutils and a writable /run",
        )


def holders(
    transport: Transport, *, roots: tuple[str, ...] = CLAIM_ROOTS, grace: float = GRACE_SECONDS
) -> tuple[Claim, ...]:
    """Every claim on the host, in address order. Raises ClaimError or TransportError."""
    _require_words("any", roots)
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
    _require_words(run, roots)
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
                    "its controller is gone: resume that run, or start a run that clears it",
                )
            for gone in sorted({b.run for b in blockers}):
                _clear(transport, gone, evict, progress, roots)
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
    _require_words(run, roots)
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
) -> Iterator[Lease]:
    """Lease and claims for the length of a block. What was claimed is given back at its end, however it
    ends; a controller that dies leaves claims that its resumed run, or an evicting one, takes over."""
    lease = hold_lease(transport, run, roots=roots)
    try:
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
    finally:
        try:
            release_claims(transport, run, roots=roots)
        finally:
            lease.close()


def _clear(
    transport: HoldingTransport,
    run: str,
    evict: Callable[[str], None],
    progress: Callable[[str], None],
    roots: tuple[str, ...],
) -> None:
    progress(f"run {run} is gone: clearing what it left on {transport.name}")
    lease = hold_lease(transport, run, roots=roots)
    try:
        evict(run)
        release_claims(transport, run, roots=roots)
    finally:
        lease.close()


def _claims(transport: Transport, arguments: tuple[str, ...]) -> tuple[tuple[Claim, ...], bool]:
    claims = []
    done = False
    for row in ask(transport, "claims", arguments, label="claims"):
        if row[0] == "error":
            raise ClaimError(
                f"claims on this host cannot be used: {row[-1]}",
                host=transport.name,
                remedy="the user needs a writable /run/shakedown and util-linux (flock) on the host",
            )
        if row[0] == "claim":
            claims.append(_read_claim(row, transport.name))
        done = done or row[0] == "taken"
    return tuple(sorted(claims, key=lambda c: c.device)), done


def _read_claim(row: tuple[str, ...], host: str) -> Claim:
    try:
        _, device, run, controller, started, state, age = row
        return Claim(
            device=PciAddress.parse(device),
            run=run or "(unreadable)",
            controller=controller,
            started_at=started,
            state=state,
            silent_seconds=int(age) if age else None,
        )
    except ValueError as error:
        raise ClaimError(
            f"a claim on this host cannot be read: {row!r}",
            host=host,
            remedy="look into /run/shakedown/claims on the host",
        ) from error


def _refusal(first: Claim | None, host: str, remedy: str) -> ClaimError:
    return ClaimError(str(first) if first else "the claim was refused", host=host, remedy=remedy)


def _require_words(run: str, roots: tuple[str, ...]) -> None:
    if not _WORD.fullmatch(run):
        raise ClaimError(f"not a run key: {run!r}", remedy="letters, digits, dot, dash and underscore")
    if not roots or not all(_ROOT.fullmatch(root) for root in roots):
        raise ClaimError(f"not directories for claims: {roots!r}")
