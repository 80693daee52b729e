"""The payload's files, as a stage puts them into a guest or an image builder bakes them in."""

from __future__ import annotations

import io
import tarfile
from importlib import resources

from harness.workloads.base import Place

_SUFFIXES = (".py", ".sh", ".pages", ".ptx", ".mkv")


def payload_files() -> dict[str, bytes]:
    """File name to content of everything that must lie in ``Place.payload`` in the guest."""
    folder = resources.files("harness.payload")
    found = {
        item.name: item.read_bytes()
        for item in folder.iterdir()
        if item.name.endswith(_SUFFIXES) and item.name != "__init__.py"
    }
    return dict(sorted(found.items()))


def payload_tar() -> bytes:
    """The same as an uncompressed tar archive, byte for byte reproducible: the stdin of ``install``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in payload_files().items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def install(place: Place) -> tuple[str, ...]:
    """The command that unpacks ``payload_tar()`` from its standard input in the guest; safe to repeat.

    What lies there is run as root, so nobody else may write to the directory: one that another user made or
    put a link in the place of, in a shared directory for instance, is refused.
    """
    return ("/bin/sh", "-c", _INSTALL, "install", place.payload)


_INSTALL = """
umask 022
mkdir -p -- "$1" && chmod go-w -- "$1" || exit
if [ -L "$1" ] || [ "$(stat -c %u -- "$1")" != "$(id -u)" ]; then
    echo "$1: it belongs to another user, or is a link" >&2
    exit 73
fi
exec tar -C "$1" -xf - --no-same-owner
"""
