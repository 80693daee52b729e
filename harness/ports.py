"""Protocols for the world outside. Real backends live in ``harness.backends`` and ``harness.lab``; each
has an in-memory fake in ``tests.fakes`` that passes the same contract suite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HarnessError
from harness.model.evidence import Engine
from harness.model.inventory import SshAccess


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """A finished command. Output is bytes as captured: decoding is the parser's business."""

    argv: tuple[str, ...]
    status: int
    """Exit status; 128 + n when a signal n ended it."""
    stdout: bytes
    stderr: bytes
    seconds: float
    transcript: str = ""
    """File inside the run directory where it was saved, when a recorder was attached."""

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are shown as escapes, never dropped."""
        return self.stdout.decode("utf-8", "backslashreplace")

    @property
    def complaint(self) -> str:
        """Standard error as text in the same way, without blanks around it: what to tell when it failed."""
        return self.stderr.decode("utf-8", "backslashreplace").strip()


class Life(Protocol):
    """Whether a machine that commands are run on still lives, where somebody watches it."""

    def require(self) -> None:
        """Raise once it can never answer again (GuestDied). Asked every second while a command runs."""

    def explained(self, error: HarnessError) -> HarnessError:
        """What to raise for a command that the machine did not answer: why, if that is known."""


class Transport(Protocol):
    """Runs commands on one machine. A non-zero exit status is a result; being unable to run is an error."""

    @property
    def name(self) -> str:
        """The machine, for messages."""

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        """Run ``argv`` (no shell on our side) and wait at most ``deadline`` seconds.

        ``label`` names the transcript. Raises CommandTimeout, or TransportError when the machine could not
        be reached or the connection broke.
        """

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        """Copy a local file to ``target``; it appears there whole or not at all."""

    def close(self) -> None:
        """End the connection; safe to call twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainState:
    """A libvirt domain as the host reports it."""

    name: str
    uuid: str
    running: bool
    metadata_run: str | None
    """Run key from our own metadata element; None for domains that we did not create."""
    xml: str


class Hypervisor(Protocol):
    """What Shakedown asks of libvirt on one host, over one kept connection. Idempotent throughout."""

    def version(self) -> str:
        """libvirt and hypervisor versions, ``libvirt 9.0.0, QEMU 7.2.22``."""

    def domains(self) -> tuple[DomainState, ...]:
        """All domains, running or not, ours or not."""

    def define_and_start(self, xml: str, *, run: str) -> None:
        """Define (schema-validated) and start. Raises ProvisionError with libvirt's words and a remedy."""

    def start_network(self, xml: str) -> None:
        """Create a transient network; one of that name that is ours already is kept."""

    def stop_network(self, name: str) -> None:
        """Destroy a transient network; absent is fine."""

    def shutdown(self, name: str, *, deadline: float) -> bool:
        """Ask the guest to power off; True if it was gone within ``deadline`` seconds."""

    def destroy(self, name: str) -> None:
        """End and undefine a domain; absent is fine."""

    def qmp(self, name: str, command: str) -> str:
        """One QMP query (JSON in, JSON out) through libvirt's monitor passthrough."""

    def close(self) -> None:
        """End the connection; safe to call twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEnd:
    """How a host that was started for a run came to its end."""

    message: str
    """In one sentence, with its last words: a host's text, which may hold hostile characters."""
    remedy: str
    log: bytes
    """All that is known, as a file for the record."""


class HostControl(Protocol):
    """Power and life of a candidate host. ``none`` for machines that are simply there; ``lab``."""

    def ensure_up(self, progress: Callable[[str], None]) -> SshAccess:
        """Make the host answer SSH and say how to reach it. Raises LabError or TransportError."""

    def as_it_is(self) -> SshAccess:
        """How to reach a host that is up already; starts and builds nothing. Raises LabError if it is not."""

    def engine(self) -> Engine:
        """How the host runs and what that cannot show."""

    def ended(self) -> HostEnd | None:
        """How the host ended since it was reached, where its control knows that for certain; None while it
        runs, and for hosts of which nothing is known."""

    def stays(self) -> str:
        """What is left running when all is done, and how to stop it; empty for nothing."""


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def monotonic(self) -> float:
        """Seconds that never go backwards."""

    def now(self) -> str:
        """UTC, ISO 8601 with milliseconds and ``Z``."""

    def sleep(self, seconds: float) -> None:
        """Wait."""
