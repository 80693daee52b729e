"""Leases: the proof, on the candidate host, that the controller of a run lives (see ``claims``)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Protocol

from harness.errors import ClaimError, TransportError
from harness.ports import Transport
from harness.scripts.protocol import new_nonce
from harness.scripts.script import Script, first_mark

CLAIM_ROOTS = ("/run/shakedown",)
"""Where claims live on a host: the first directory that can be written (claims of all runs must meet)."""

SCRIPT = Script(
    name="lease",
    package="harness.stages.host",
    file="lease.sh",
    needs="util-linux (flock), coreutils and a /run that the user may write to",
)

LEASE_SECONDS = 120.0
"""Without a beat for this long a lease ends: longer than the pause of a host that is being snapshot."""

BEAT_SECONDS = 10.0
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


class Lease:
    """The proof on the host that a run's controller lives. Beats by itself until closed."""

    def __init__(self, take: Callable[[bool], Held], run: str, beat_seconds: float) -> None:
        """``take`` takes the lease on the host or raises; called at once, and by ``regain`` with True."""
        self.run = run
        self._take = take
        self._beat_seconds = beat_seconds
        self._begin(again=False)

    @property
    def alive(self) -> bool:
        """False once the lease is lost: the run must not act on the host before it is held again."""
        return not self._ended.is_set() and self._held.alive

    def require(self) -> None:
        """Raise ClaimError when the lease is lost."""
        if not self.alive:
            raise ClaimError(
                f"run {self.run} lost its lease on the host",
                remedy="the connection was lost; resume the run, which takes the lease again if no other "
                "run has it",
            )

    def regain(self) -> None:
        """Take the lease again if it is lost, and nobody acted meanwhile as if the run were gone.

        Raises ClaimError when another process has it by now (which then clears what the run left) or had it,
        TransportError when the host cannot be asked.
        """
        if not self.alive:
            self.close()
            self._begin(again=True)

    def close(self) -> None:
        """Give the lease back; safe to call twice."""
        self._ended.set()
        self._thread.join(30.0)
        self._held.close()

    def _begin(self, *, again: bool) -> None:
        self._held = self._take(again)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {self.run}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._beat_seconds):
            if not self._held.beat():
                return


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
    require_words(run, roots)

    def take(again: bool) -> Held:
        nonce = new_nonce()
        mode = "again" if again else "new"
        held = transport.hold(SCRIPT.held(nonce, run, f"{lease_seconds:g}", mode, *roots))
        try:
            _require_holding(held, nonce, run, transport.name)
        except BaseException:
            held.close()
            raise
        return held

    return Lease(take, run, beat_seconds)


def _require_holding(held: Held, nonce: str, run: str, host: str) -> None:
    answer = first_mark(SCRIPT, nonce, lambda: held.read_line(60.0))
    if answer == "held":
        raise ClaimError(
            f"run {run} is already controlled by another process",
            host=host,
            remedy="wait for it, or end that process; its lease is then free",
        )
    if answer == "cleared":
        raise ClaimError(
            f"run {run} lost its lease, and its claims were cleared before it could take it again",
            host=host,
            remedy="another run may have used its devices, or the host rebooted: the results prove nothing",
        )
    if answer != "holding":
        raise TransportError(
            f"the lease of run {run} could not be taken: {answer or held.errors() or 'no answer'}",
            host=host,
            remedy=f"the host needs {SCRIPT.needs}",
        )


def require_words(run: str, roots: tuple[str, ...]) -> None:
    """Raise ClaimError unless these are plain words that a shell script may be given."""
    if not _WORD.fullmatch(run):
        raise ClaimError(f"not a run key: {run!r}", remedy="letters, digits, dot, dash and underscore")
    if not roots or not all(_ROOT.fullmatch(root) for root in roots):
        raise ClaimError(f"not directories for claims: {roots!r}")
