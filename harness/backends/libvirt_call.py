"""Calls into libvirt's C library with a deadline, over a connection that is kept and reopened if it broke.

libvirt calls block without limit and cannot be interrupted from Python. Each runs in a daemon thread; one
that does not return in time is left behind, its ssh child is ended so that it returns in the end, and the
next call opens a new connection. Libvirt's own keep-alive would need its event loop in a further thread;
the shared SSH connection already notices a dead link, so there is none.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from harness.backends.libvirt_errors import remedy_for
from harness.backends.libvirt_opened import OpenConnection
from harness.backends.ssh import SshTransport
from harness.errors import HarnessError, ProvisionError, TransportError
from harness.identity import WRITE_DOWN, read_birth, send

T = TypeVar("T")


class Connection:
    """One kept libvirt connection. Thread-safe; calls are made one at a time."""

    def __init__(self, uri: Callable[[], str], *, name: str, birth: Path | None = None) -> None:
        self._uri = uri
        self._name = name
        self._birth = birth
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._opened: OpenConnection | None = None

    def call(self, what: str, function: Callable[[Any], T], *, deadline: float) -> T:
        """``function(virConnect)`` within ``deadline`` seconds (opening the connection included).

        A kept connection that turns out to be broken is opened anew and ``function`` called once more: what
        it does must bear that. Raises ProvisionError with libvirt's words and a remedy; errors that
        ``function`` raises on purpose (HarnessError) pass through.
        """
        if os.getpid() != self._pid:
            raise ProvisionError(
                f"{what}: this is a fork of the run's process, and only that process may use libvirt",
                host=self._name,
                remedy="end a forked process with os._exit",
            )
        with self._lock:
            answer: queue.Queue[tuple[OpenConnection | None, T | None, BaseException | None]] = queue.Queue(1)
            kept = self._opened

            def work() -> None:
                opened = kept
                try:
                    opened = self._usable(kept)
                    try:
                        value = function(opened.conn)
                    except Exception as error:
                        if opened is not kept or not (opened.lost or _is_broken(error)):
                            raise
                        # Without an event loop libvirt notices a dead link only when it is used.
                        self._give_up(opened)
                        opened = None
                        opened = self._usable(None)
                        value = function(opened.conn)
                    answer.put((opened, value, None))
                except BaseException as error:  # noqa: BLE001  raised again below, in the caller's thread
                    answer.put((opened, None, error))

            threading.Thread(target=work, name=f"libvirt {what}", daemon=True).start()
            try:
                self._opened, value, error = answer.get(timeout=deadline)
            except queue.Empty:
                self._opened = None
                self._end_ssh()
                raise ProvisionError(
                    f"libvirt did not answer within {deadline:g} s: {what}",
                    host=self._name,
                    remedy="check whether libvirtd or the host hangs (`systemctl status libvirtd`)",
                ) from None
            except BaseException:
                # Ctrl-C: what runs there (a guest that starts) must be over before it can be released.
                with contextlib.suppress(queue.Empty):
                    self._opened, _, _ = answer.get(timeout=deadline)
                raise
        if error is None:
            return value  # type: ignore[return-value]  # None only where T allows it
        if isinstance(error, HarnessError) or not (isinstance(error, OSError) or _is_libvirt_error(error)):
            raise error
        words = str(error)
        raise ProvisionError(f"{what}: {words}", host=self._name, remedy=remedy_for(words)) from error

    def close(self, deadline: float = 10.0) -> None:
        """End the connection; safe to call twice. A fork leaves it alone."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            closing = threading.Thread(target=self._give_up, args=(opened,), daemon=True)
            closing.start()
            closing.join(deadline)
            if closing.is_alive():
                self._end_ssh()

    def _usable(self, opened: OpenConnection | None) -> OpenConnection:
        if opened is not None and opened.usable:
            return opened
        if opened is not None:
            self._give_up(opened)
        return OpenConnection(self._uri())

    def _give_up(self, opened: OpenConnection) -> None:
        lost = opened.lost
        opened.close()
        if lost:
            self._end_ssh()

    def _end_ssh(self) -> None:
        """End the ssh child of this connection, as it wrote itself down. libvirt reaps it only when it closes
        the connection; where a test did that instead, its number may be another's by now."""
        born = None if self._birth is None else read_birth(self._birth)
        if born is not None:
            with contextlib.suppress(OSError):
                send(born, signal.SIGTERM)


def _is_libvirt_error(error: BaseException) -> bool:
    import libvirt  # noqa: PLC0415

    return isinstance(error, libvirt.libvirtError)


def _is_broken(error: Exception) -> bool:
    """Whether it is the connection that failed: what the daemon says carries the source it has there."""
    import libvirt  # noqa: PLC0415

    return _is_libvirt_error(error) and error.get_error_domain() == libvirt.VIR_FROM_RPC  # type: ignore[attr-defined]


class SshUri:
    """The libvirt URI of a host, through our own ssh options: the same connection, the same pinned key.

    libvirt's ``ssh`` transport cannot be told a known_hosts file; it can be told which program to run as
    ssh (``command=``). That program is a short script with our options, in the transport's own directory.
    It starts ssh in a session of its own: Ctrl-C reaches every process of the terminal's foreground group,
    and this connection is the one that ends the guests afterwards.
    """

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport
        try:
            self._directory = Path(tempfile.mkdtemp(prefix="libvirt-", dir=transport.connect()))
            self._directory.chmod(0o700)  # whatever the umask is
        except OSError as error:
            raise TransportError(f"no directory for libvirt's ssh: {error}", host=transport.name) from error
        self.birth = self._directory / "born"

    def __call__(self) -> str:
        """Write the script for the connection as it is now and return the URI. Raises TransportError."""
        script = self._directory / "ssh"
        start = shlex.join(
            ("exec", "sh", "-c", WRITE_DOWN, str(self.birth), "setsid", *self._transport.client())
        )
        # libvirt hands on what this process has by now, and a test may have changed it.
        search = shlex.quote(self._transport.search_path)
        # Not the leader of a group here, so that setsid keeps the process id.
        lines = ("#!/bin/sh", f"cd /; umask 077; PATH={search}; export PATH", f'{start} "$@"')
        try:
            script.write_text("\n".join((*lines, "")))
            script.chmod(0o700)
        except OSError as error:
            raise TransportError(f"libvirt's ssh: {error}", host=self._transport.name) from error
        access = self._transport.access
        address = f"[{access.address}]" if ":" in access.address else quote(access.address)
        parameters = urlencode({"command": str(script), "no_tty": "1"}, quote_via=quote)
        return f"qemu+ssh://{quote(access.user)}@{address}:{access.port}/system?{parameters}"

    def close(self) -> None:
        """Remove the script; safe to call twice."""
        for path in (self._directory / "ssh", self.birth):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._directory.rmdir()
