"""One open libvirt connection, and whether the descriptors below it are still its own."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import weakref
from pathlib import Path
from typing import Any

from harness.descriptors import mark_of, memory_file


class OpenConnection:
    """A ``virConnect`` that is used and closed only while its descriptors are there.

    libvirt cannot be asked for that: after a test closed them its ``isAlive`` still says yes, a call then
    spins in its C library for ever (9.0), and closing it closes whatever has those numbers by now. So its
    sockets are remembered, and beside them one descriptor of our own is opened: who closes all closes that
    one too. A connection that is lost stays in memory, untouched, until the process ends.
    """

    def __init__(self, uri: str) -> None:
        """Raises libvirtError, or OSError when there are no more descriptors."""
        import libvirt  # noqa: PLC0415  a C library that most commands never need

        before = _sockets()
        self._beside = memory_file("libvirt")
        try:
            # libvirt prints every error on standard error unless it is given somewhere else to go.
            libvirt.registerErrorHandler(_ignore, None)
            self.conn: Any = libvirt.open(uri)
        except BaseException:
            self._beside.close()
            raise
        # A socket that another thread opened meanwhile does no harm: at worst this one is given up early.
        self._sockets = {number: mark for number, mark in _sockets().items() if before.get(number) != mark}
        _keep_in_forks(self.conn)

    @property
    def lost(self) -> bool:
        """Whether its descriptors were closed by other code: then it may not be touched any more."""
        return not self._beside.held or any(mark_of(n) != mark for n, mark in self._sockets.items())

    @property
    def usable(self) -> bool:
        """Whether it is ours and libvirt says that it lives; a dead link shows only when it is used."""
        return not self.lost and self.conn.isAlive() == 1

    def close(self) -> None:
        """End it; one that is lost is left as it is. Safe to call twice."""
        import libvirt  # noqa: PLC0415

        conn, self.conn = self.conn, None
        if conn is not None and self.lost:
            _keep(conn)
        elif conn is not None:
            with contextlib.suppress(libvirt.libvirtError):
                conn.close()
        self._beside.close()


def _keep(conn: Any) -> None:
    """Python closes a connection that nobody refers to any more; so somebody does, until the process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))


def _keep_in_forks(conn: Any) -> None:
    """A fork that ends would close its parent's connection: it tells the daemon so over the shared socket."""
    known = weakref.ref(conn)

    def in_child() -> None:
        kept = known()
        if kept is not None:
            _keep(kept)

    os.register_at_fork(after_in_child=in_child)


def _sockets() -> dict[int, tuple[int, int, int] | None]:
    """The sockets of this process by their numbers."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(path.name)).st_mode):
                found[int(path.name)] = mark_of(int(path.name))
    return found


def _ignore(_context: object, _error: object) -> None:
    return
