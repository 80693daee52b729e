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
from harness.backends.ssh import SshTransport
from harness.errors import HarnessError, ProvisionError

T = TypeVar("T")


class Connection:
    """One kept libvirt connection. Thread-safe; calls are made one at a time."""

    def __init__(self, uri: Callable[[], str], *, name: str, pid_file: Path | None = None) -> None:
        self._uri = uri
        self._name = name
        self._pid_file = pid_file
        self._lock = threading.Lock()
        self._conn: Any = None

    def call(self, what: str, function: Callable[[Any], T], *, deadline: float) -> T:
        """``function(virConnect)`` within ``deadline`` seconds (opening the connection included).

        A kept connection that turns out to be broken is opened anew and ``function`` called once more: what
        it does must bear that. Raises ProvisionError with libvirt's words and a remedy; errors that
        ``function`` raises on purpose (HarnessError) pass through.
        """
        with self._lock:
            answer: queue.Queue[tuple[Any, T | None, BaseException | None]] = queue.Queue(1)
            kept = self._conn

            def work() -> None:
                conn = kept
                try:
                    conn = self._opened(kept)
                    try:
                        value = function(conn)
                    except Exception as error:
                        if conn is not kept or not _is_broken(error):
                            raise
                        # Without an event loop libvirt notices a dead link only when it is used.
                        _close_quietly(conn)
                        conn = None
                        conn = self._opened(None)
                        value = function(conn)
                    answer.put((conn, value, None))
                except BaseException as error:  # noqa: BLE001  raised again below, in the caller's thread
                    answer.put((conn, None, error))

            threading.Thread(target=work, name=f"libvirt {what}", daemon=True).start()
            try:
                self._conn, value, error = answer.get(timeout=deadline)
            except queue.Empty:
                self._conn = None
                self._end_ssh()
                raise ProvisionError(
                    f"libvirt did not answer within {deadline:g} s: {what}",
                    host=self._name,
                    remedy="see whether libvirtd or the host hangs (`systemctl status libvirtd`)",
                ) from None
            except BaseException:
                # Ctrl-C: what runs there (a guest that starts) must be over before it can be released.
                with contextlib.suppress(queue.Empty):
                    self._conn, _, _ = answer.get(timeout=deadline)
                raise
        if error is None:
            return value  # type: ignore[return-value]  # None only where T allows it
        if isinstance(error, HarnessError) or not _is_libvirt_error(error):
            raise error
        words = str(error)
        raise ProvisionError(f"{what}: {words}", host=self._name, remedy=remedy_for(words)) from error

    def close(self, deadline: float = 10.0) -> None:
        """End the connection; safe to call twice."""
        with self._lock:
            conn, self._conn = self._conn, None
            if conn is None:
                return
            closing = threading.Thread(target=_close_quietly, args=(conn,), daemon=True)
            closing.start()
            closing.join(deadline)
            if closing.is_alive():
                self._end_ssh()

    def _opened(self, conn: Any) -> Any:
        import libvirt  # noqa: PLC0415  a C library that most commands never need

        if conn is not None and conn.isAlive() == 1:
            return conn
        if conn is not None:
            _close_quietly(conn)
        # libvirt prints every error on standard error unless it is given somewhere else to go.
        libvirt.registerErrorHandler(_ignore, None)
        return libvirt.open(self._uri())

    def _end_ssh(self) -> None:
        """End the ssh child of this connection. libvirt reaps it only when it closes the connection, so the
        number in the file cannot have gone to another process."""
        if self._pid_file is not None:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(self._pid_file.read_text()), signal.SIGTERM)


def _ignore(_context: object, _error: object) -> None:
    return


def _is_libvirt_error(error: BaseException) -> bool:
    import libvirt  # noqa: PLC0415

    return isinstance(error, libvirt.libvirtError)


def _is_broken(error: Exception) -> bool:
    """Whether it is the connection that failed: what the daemon says carries the source it has there."""
    import libvirt  # noqa: PLC0415

    return _is_libvirt_error(error) and error.get_error_domain() == libvirt.VIR_FROM_RPC  # type: ignore[attr-defined]


def _close_quietly(conn: Any) -> None:
    import libvirt  # noqa: PLC0415

    with contextlib.suppress(libvirt.libvirtError):
        conn.close()


class SshUri:
    """The libvirt URI of a host, through our own ssh options: the same connection, the same pinned key.

    libvirt's ``ssh`` transport cannot be told a known_hosts file; it can be told which program to run as
    ssh (``command=``). That program is a short script with our options, in the transport's own directory.
    It starts ssh in a session of its own: Ctrl-C reaches every process of the terminal's foreground group,
    and this connection is the one that ends the guests afterwards.
    """

    def __init__(self, transport: SshTransport) -> None:
        self._transport = transport
        self._directory = Path(tempfile.mkdtemp(prefix="libvirt-", dir=transport.connect()))
        self.pid_file = self._directory / "pid"

    def __call__(self) -> str:
        """Write the script for the connection as it is now and return the URI."""
        script = self._directory / "ssh"
        pid, client = shlex.quote(str(self.pid_file)), shlex.join(self._transport.client())
        # Not the leader of a group here, so that setsid keeps the process id.
        script.write_text(f'#!/bin/sh\necho $$ > {pid}\nexec setsid {client} "$@"\n')
        script.chmod(0o700)
        access = self._transport.access
        address = f"[{access.address}]" if ":" in access.address else quote(access.address)
        parameters = urlencode({"command": str(script), "no_tty": "1"}, quote_via=quote)
        return f"qemu+ssh://{quote(access.user)}@{address}:{access.port}/system?{parameters}"

    def close(self) -> None:
        """Remove the script; safe to call twice."""
        for path in (self._directory / "ssh", self.pid_file):
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._directory.rmdir()
