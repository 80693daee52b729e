"""Whether the guests of a group live: one watch on their host, which every wait on one of them asks.

A script there sees each QEMU, libvirt's word for the domain, and the serial console as it grows. What it
sees comes over by a stream of its own, and is read in a thread: a guest that ended is known three seconds
later, with all that its console, QEMU, libvirt and the host's kernel say of it. The connection into a guest
has its ``Life`` (``harness.backends.ssh``), so that no wait on it can forget to ask.

libvirt's status file and log say what its events say, without an event loop in the controller's process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.checks.guest.death import RULES
from harness.errors import GuestDied, HarnessError
from harness.model.death import GuestDeath
from harness.polling import wait_for
from harness.ports import Clock, Transport
from harness.regular import open_regular
from harness.scripts.protocol import new_nonce
from harness.scripts.script import Script
from harness.stages.following import Stream, StreamingTransport
from harness.stages.guest.provision import GuestPlace, serial_log
from harness.telemetry.guest.autopsy import Witnesses, cause_of_death, panicked, why_silent
from harness.telemetry.guest.vitals import PULSE, Vitals, VitalsReader

PERIOD_SECONDS = 2.0
"""Between two looks at the guests. A look costs the host three processes, some 5 ms."""
_READ_SECONDS = 0.5
_CHUNK = 1 << 20
_LONGEST_LINE = 16384
_PROBE_SECONDS = 4.0
"""How long a guest whose console speaks of a panic may take to show that it lives: what a program writes into
a kernel's log looks the same there."""
_SETTLE_SECONDS = 6.0
"""How long a broken connection waits for the watch to say why: two looks, a probe fails at once then."""
_WORDS_SECONDS = 3.0
"""How long libvirt may take to write down why a QEMU ended; it does as soon as it has noticed."""
_STALE_SECONDS = 15.0
"""Without a look for so long (a network that was cut) nothing is said of a guest that does not answer."""
_BUSY_SECONDS = 20.0
_HOST_SECONDS = 120.0
"""So far back the host's kernel log is read for what it says of a QEMU that ended."""

SCRIPT = Script(
    name=PULSE,
    package="harness.stages.guest",
    file="pulse.sh",
    needs="a POSIX sh with cat, sleep, stat, tail and base64",
)
_STATUS = "/run/libvirt/qemu"
"""Where libvirt keeps the state of each running domain, for itself when it is started again."""
_QEMU_LOG = 'tail -c 16384 -- "/var/log/libvirt/qemu/$1.log"'
_HOST_LOG = "{ dmesg -kSx || dmesg; } 2>/dev/null | tail -n 400"


@dataclass(slots=True)
class _Guest:
    """What is known of one of them beyond its vitals."""

    name: str
    place: GuestPlace
    connection: Transport | None = None
    """Into it, once it answered."""
    reached: float = 0.0
    """When it did, by the controller's clock."""
    begun: int = 0
    """Kernels that began on its console, as far as that is explained."""
    death: GuestDeath | None = None
    recorded: bool = False
    known: threading.Event = field(default_factory=threading.Event)


class Pulse:
    """The watch over a group of guests, from before the first of them starts until they are given back."""

    def __init__(
        self,
        transport: StreamingTransport,
        guests: Sequence[tuple[str, GuestPlace]],
        *,
        path: Path,
        clock: Clock,
        progress: Callable[[str], None],
    ) -> None:
        """Begins at once. A watch that cannot be begun is told and tried again; it ends nothing."""
        self._transport, self.path = transport, path
        self._clock, self._progress = clock, progress
        self._guests = [_Guest(name, place) for name, place in guests]
        self._nonce = new_nonce()
        self._reader = VitalsReader(len(self._guests), self._nonce)
        self._read, self._rest = 0, b""
        self._looked: float | None = None
        self._stream: Stream | None = None
        self._why = ""
        self._ended = threading.Event()
        self._probing = threading.local()
        """``on`` in a thread that asks a guest whether it lives: its own question is not explained to it."""
        self._begin()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()

    def life(self, name: str) -> GuestLifeline:
        """The life of one guest, for the connection into it."""
        return GuestLifeline(self, self._of(name))

    def reached(self, name: str, connection: Transport) -> None:
        """A guest answered: from now on it can be asked whether it lives."""
        guest = self._of(name)
        guest.reached, guest.begun = self._clock.monotonic(), self._vitals(guest).begun
        guest.connection = connection

    def death(self, name: str) -> GuestDeath | None:
        """How a guest ended; None while it lives, as far as anybody knows."""
        return self._of(name).death

    def unrecorded(self, name: str) -> GuestDeath | None:
        """As ``death``, and only to who asks first: whoever records it."""
        guest = self._of(name)
        if guest.death is None or guest.recorded:
            return None
        guest.recorded = True
        return guest.death

    def close(self) -> None:
        """End the watch: from here on a guest ends because it was asked to. Safe to call twice."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(30.0)
        if self._stream is not None:
            self._stream.close()

    def _of(self, name: str) -> _Guest:
        return next(guest for guest in self._guests if guest.name == name)

    def _vitals(self, guest: _Guest) -> Vitals:
        return self._reader.guests[self._guests.index(guest)]

    # -- the watch itself ----------------------------------------------------------------------------

    def _begin(self) -> None:
        watched = (part for guest in self._guests for part in (guest.place.domain, guest.place.serial))
        try:
            self._stream = self._transport.stream(
                SCRIPT.held(self._nonce, f"{PERIOD_SECONDS:g}", _STATUS, *watched), self.path
            )
            self._why = ""
        except (HarnessError, OSError) as error:
            why = error.message if isinstance(error, HarnessError) else str(error)
            if why != self._why:
                self._progress(f"the guests' state cannot be watched: {why}")
            self._stream, self._why = None, why

    def _watch(self) -> None:
        while not self._ended.wait(_READ_SECONDS):
            try:
                self._take()
                for guest in self._guests:
                    self._look(guest)
                if self._stream is None or not (self._stream.alive or self._stream.full):
                    self._again()
            except (HarnessError, OSError):
                continue  # what stands in the way now may be gone next time

    def _again(self) -> None:
        if self._stream is not None:
            self._stream.close()
        if not self._ended.wait(PERIOD_SECONDS):
            self._begin()

    def _take(self) -> None:
        """Read what came since the last time."""
        if not self.path.exists():
            return
        with open_regular(self.path) as file:
            file.seek(self._read)
            data = file.read(_CHUNK)
        self._read += len(data)
        *lines, self._rest = (self._rest[-_LONGEST_LINE:] + data).split(b"\n")
        before = self._reader.uptime
        for line in lines:
            self._reader.take(line.decode("ascii", "replace"))
        if self._reader.uptime != before:
            self._looked = self._clock.monotonic()

    def _look(self, guest: _Guest) -> None:
        vitals = self._vitals(guest)
        if guest.death is not None:
            return
        if vitals.gone or vitals.state.startswith("crashed"):
            self._died(guest, rebooted=False)
        elif panicked(vitals.console):
            if self._uptime(guest) is None:
                self._died(guest, rebooted=False)
            else:
                vitals.console = ""  # it lives: a program wrote those words
        elif guest.connection is not None and vitals.begun > guest.begun:
            since = self._clock.monotonic() - guest.reached
            uptime = self._uptime(guest)
            guest.begun = vitals.begun
            if uptime is None or uptime < since - _PROBE_SECONDS:
                self._died(guest, rebooted=True)

    def _uptime(self, guest: _Guest) -> float | None:
        """Seconds since its kernel began, where it answers."""
        if guest.connection is None:
            return None
        self._probing.on = True
        try:
            said = guest.connection.run(("cat", "/proc/uptime"), deadline=_PROBE_SECONDS)
            return float(said.text.split()[0]) if said.status == 0 else None
        except (HarnessError, ValueError, IndexError):
            return None
        finally:
            self._probing.on = False

    def _died(self, guest: _Guest, *, rebooted: bool) -> None:
        if self._ended.is_set():
            return  # it was asked to
        seen = self._witnesses(guest, rebooted=rebooted)
        self._know(guest, cause_of_death(seen, at=self._clock.now()))

    def _know(self, guest: _Guest, death: GuestDeath) -> None:
        guest.death = death
        guest.known.set()
        self._progress(f"{guest.name} died: {death.words}")

    def _witnesses(self, guest: _Guest, *, rebooted: bool = False) -> Witnesses:
        """All that can be heard of it now. Never raises HarnessError."""
        vitals = self._vitals(guest)
        uptime = self._reader.uptime
        qemu_log = ""
        if vitals.gone:

            def ended() -> bool | None:
                nonlocal qemu_log
                qemu_log = self._said("guest-qemu-log", _QEMU_LOG, guest.place.domain)
                return "shutting down" in qemu_log or None

            wait_for(ended, seconds=_WORDS_SECONDS, every=1.0, clock=self._clock)
        return Witnesses(
            console=serial_log(self._transport, guest.place) or vitals.console,
            qemu_log=qemu_log,
            host_log=self._said("guest-host-log", _HOST_LOG) if vitals.gone else "",
            host_since=None if uptime is None else uptime - _HOST_SECONDS,
            pid=vitals.pid,
            gone=vitals.gone,
            state=vitals.state,
            rebooted=rebooted,
            busy=vitals.busy(_BUSY_SECONDS),
        )

    def _said(self, label: str, script: str, *arguments: str) -> str:
        try:
            result = self._transport.run(("sh", "-c", script, label, *arguments), deadline=15.0, label=label)
        except HarnessError:
            return ""
        return result.text if result.status == 0 else ""

    # -- what the connections ask --------------------------------------------------------------------

    def require(self, guest: _Guest) -> None:
        """Raises GuestDied."""
        if guest.death is not None:
            raise died(guest.name, guest.death)

    def explained(self, guest: _Guest, error: HarnessError) -> HarnessError:
        """Why a guest that once answered does not, where that can be known; else the error, with the remedy
        that fits a guest that is only slow."""
        if getattr(self._probing, "on", False):
            return error
        if guest.connection is not None:
            guest.known.wait(_SETTLE_SECONDS)
        if guest.death is None and guest.connection is not None and not self._stale():
            self._silent(guest, error)
        return error if guest.death is None else died(guest.name, guest.death)

    def _stale(self) -> bool:
        looked = self._looked
        return looked is None or self._clock.monotonic() - looked > _STALE_SECONDS

    def _silent(self, guest: _Guest, error: HarnessError) -> None:
        """A guest whose QEMU lives has not answered: hung, or only slow."""
        if self._uptime(guest) is not None:
            return  # a command of its own took too long
        seen = self._witnesses(guest)
        death = why_silent(seen, at=self._clock.now())
        if death is not None:
            self._know(guest, death)
        elif seen.busy is not None:
            error.remedy = (
                f"{guest.name} is alive but slow: its QEMU uses {seen.busy / 100:.1f} CPUs, and its "
                "console shows no fault; check what else runs on the host, or raise the deadline"
            )


class GuestLifeline:
    """``harness.ports.Life`` of one guest."""

    def __init__(self, pulse: Pulse, guest: _Guest) -> None:
        self._pulse, self._guest = pulse, guest

    def require(self) -> None:
        """Raises GuestDied."""
        self._pulse.require(self._guest)

    def explained(self, error: HarnessError) -> HarnessError:
        """GuestDied where the guest died; else the error."""
        return self._pulse.explained(self._guest, error)


def died(name: str, death: GuestDeath) -> GuestDied:
    """The error of every wait on a guest that ended."""
    console = f"; its console ends: {' | '.join(death.console[-6:])[:900]}" if death.console else ""
    return GuestDied(f"{name} died: {death.words}{console}", remedy=RULES[death.kind].remedy, stage="guest")
