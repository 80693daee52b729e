"""Captured trees of real machines (tests/captures)."""

from __future__ import annotations

import tarfile
from pathlib import Path

CAPTURES = Path(__file__).resolve().parent / "captures"
"""What other projects captured or publish, with their licences."""
HWLOC = CAPTURES / "hwloc"
TREES = sorted(HWLOC.glob("*.tar.bz2"))


def unpack(archive: Path, target: Path) -> Path:
    """The one directory that ``archive`` holds, unpacked below ``target`` with its links as they are."""
    with tarfile.open(archive) as tar:
        # Debian 12's Python 3.11.2 has no filters yet; newer ones refuse such links unless told to trust.
        tar.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        tar.extractall(target)  # noqa: S202  links are the point
    return next(target.iterdir())
