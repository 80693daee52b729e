"""testinfra over our Transport, so that what it asked is in the run's transcripts too."""

from __future__ import annotations

import shlex
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from harness.ports import Transport

_DEADLINE = 120.0
"""Seconds for one question. An emulated host answers a systemctl call within 20 s under load."""


class TransportBackend(BaseBackend):  # type: ignore[misc]  # testinfra ships no types
    """A testinfra backend whose commands go through a ``harness.ports.Transport``."""

    NAME = "shakedown"

    def __init__(self, transport: Transport, *, deadline: float = _DEADLINE) -> None:
        super().__init__(transport.name)
        self._transport = transport
        self._deadline = deadline
        self.transcript = ""
        """Transcript of the latest command, when a recorder is attached."""

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Run a shell command line. Raises TransportError when the machine cannot be reached."""
        line = self.get_command(command, *args)
        done = self._transport.run(
            ("sh", "-c", line), deadline=self._deadline, label=f"testinfra {line[:60]}"
        )
        self.transcript = done.transcript
        return self.result(done.status, line.encode(), done.stdout, done.stderr)

    def decode(self, data: bytes) -> str:
        """Bytes as text; what is not UTF-8 is shown as escapes. (testinfra would ask the host's Python.)"""
        return data.decode("utf-8", "backslashreplace")

    def encode(self, data: str) -> bytes:
        """Text as UTF-8."""
        return data.encode("utf-8", "surrogateescape")

    @staticmethod
    def quote(command: str, *args: str) -> str:
        """``command`` with its ``%s`` replaced by quoted arguments."""
        return command % tuple(shlex.quote(arg) for arg in args) if args else command


def infra_host(transport: Transport) -> Host:
    """A testinfra ``Host`` that asks over ``transport``, with nothing cached from earlier ones."""
    backend = TransportBackend(transport)
    host = Host(backend)
    backend.set_host(host)
    return host
