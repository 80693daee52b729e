"""Files that somebody else may have put there: regular ones only, and never more of them than was agreed.

A name in a run directory, an inventory or on a command line may lead to a pipe that nobody writes, a device
without an end, a link in a circle or a file larger than memory. Everything that a command reads is opened
here: without waiting, looked at once it is open, and read up to a limit. What cannot be had is an OSError
whose ``strerror`` is fit for a sentence.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MOST_TEXT = 16 << 20
"""Bytes of a file that a person writes or hands in: facts, plans, transcripts. Facts of the largest captured
machine (896 CPUs) have 1 MB."""
MOST_RECORD = 512 << 20
"""Bytes of ``events.jsonl`` or ``run.json``; a night on eight GPUs makes some 5 MB."""
MOST_EVIDENCE = 65 << 30
"""Bytes of a file whose hash is taken: more than the longest stream, ``MOST_STREAMED`` of the backends."""
LONGEST_LINE = 1 << 20
"""Bytes of one line that a host or guest prints into a stream. A sample of one GPU has 500, a record of the
kernel's log 1 KB, and the payload's own bound for one call's answer is 64 KB."""

_BLOCK = 4 << 20
_CHUNK = 1 << 20


def open_regular(path: Path, *, links: bool = False) -> BinaryIO:
    """A regular file for reading; through a link at its end only with ``links``. Raises OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except ValueError as error:  # a NUL, or half a pair of surrogates
        raise OSError(errno.EINVAL, "it is not a valid file name") from error
    except PermissionError as error:
        raise OSError(error.errno, "you may not read it") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "its links form a loop" if links else "it is a link") from error
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise OSError(errno.ENXIO, "it is not a regular file") from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, most: int, *, links: bool = False) -> bytes:
    """All of a regular file of at most ``most`` bytes. Raises OSError, EFBIG for a larger one."""
    with open_regular(path, links=links) as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {_size(most)}")
    return data


def sha256_of(path: Path) -> str:
    """``sha256:<hex>`` of a regular file's bytes. Raises OSError, also for one larger than any stream of ours
    (a file with holes costs nothing to make, and a day to read)."""
    with open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size > MOST_EVIDENCE:
            raise OSError(errno.EFBIG, f"it is larger than {_size(MOST_EVIDENCE)}")
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"  # type: ignore[arg-type]  # BufferedReader


def mode_beside(folder: Path) -> int:
    """The mode of a file that is made in ``folder``: whoever may list the folder may read it, none but us
    writes to it, and in a directory that is shared (``/tmp``) it is for us alone. Raises OSError."""
    mode = folder.stat().st_mode
    return 0o600 if mode & stat.S_ISVTX else 0o600 | mode & 0o044


def lines_of(stream: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The lines of a file, each with its newline. One longer than ``longest`` bytes comes without: cut there,
    so that it reads like a torn one, and its rest is passed over without being kept."""
    while line := stream.readline(longest):
        yield line
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(_CHUNK)


def line_blocks(stream: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """The same lines as ``lines_of``, joined: for files of which each line costs next to nothing.

    A block is many whole lines, or one that was cut or is torn: only such a block ends without a newline.
    """
    rest, cut = b"", False
    while data := stream.read(_BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            begin = data.index(b"\n") + 1 if cut else 0  # the end of a line whose beginning was told already
            yield from _bounded(rest + data[begin:end], longest)
            rest, cut = data[end:], False
        elif not cut:
            rest += data
        if len(rest) > longest:
            yield rest[:longest]
            rest, cut = b"", True
    if rest:
        yield rest


def _bounded(block: bytes, longest: int) -> Iterator[bytes]:
    """Whole lines as one block where none is too long, and else one by one, the long ones cut."""
    here = 0
    while len(block) - here > longest:
        here = block.rfind(b"\n", here, here + longest) + 1
        if not here:
            yield from ((line + b"\n")[:longest] for line in block[:-1].split(b"\n"))
            return
    if block:
        yield block


def _size(count: int) -> str:
    return (
        f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB" if count >= 1024 else f"{count} B"
    )
