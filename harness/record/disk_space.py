"""Whether the controller's disk holds what a run will write: a disk that fills up ends a burn after hours."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.errors import RecordError

_MIB = 1 << 20
_ALWAYS_MIB = 64
"""Events, transcripts and reports: some 5 MiB on the lab, and what a loud kernel log adds."""
_GPU_BYTES = 2_500
"""A second for each GPU. Its samples at 10 Hz are 1,120 bytes of spool (8 GPUs for four hours: 129 MB, made
with the stand-in's lines) and a fifth of that as Parquet; doubled for what errors and processes add."""
_HOST_BYTES = 20_000
"""A second of the host's side: every 15 s each thread and CPU of a large server, some 250 KB."""


def require_disk_space(runs: Path, *, seconds: float, gpus: int) -> None:
    """Raises RecordError unless the disk of ``runs`` has room for the record of a burn of so many seconds.

    A disk that does not say passes: what cannot be written ends the run then, as it always did.
    """
    there = next((path for path in (runs, *runs.absolute().parents) if path.is_dir()), None)
    if there is None:
        return
    need = _ALWAYS_MIB + int(seconds * (gpus * _GPU_BYTES + _HOST_BYTES)) // _MIB
    try:
        free = shutil.disk_usage(there).free // _MIB
    except OSError:
        return
    if free < need:
        raise RecordError(
            f"the record of this run needs up to {need} MiB below {runs}, but only {free} MiB are free",
            remedy="free disk space there, or choose another directory with --runs",
        )
