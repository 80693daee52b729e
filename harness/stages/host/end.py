"""A host that ended under a run is the cause of what broke after it, whatever each of those errors says."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.errors import (
    BootError,
    ClaimError,
    CommandTimeout,
    GuestDied,
    HarnessError,
    HostEnded,
    LabError,
    ParseError,
    ProvisionError,
    ReleaseError,
    TransportError,
    WorkloadError,
)
from harness.model.evidence import StageError
from harness.ports import HostEnd
from harness.record.recorder import Recorder
from harness.stages.boundary import stage_error

FILE = "transcripts/host-end.txt"

_OF_MACHINES: tuple[type[HarnessError], ...] = (
    BootError,
    ClaimError,
    CommandTimeout,
    GuestDied,
    LabError,
    ParseError,
    ProvisionError,
    ReleaseError,
    TransportError,
    WorkloadError,
)
_KINDS = frozenset(kind.__name__ for kind in _OF_MACHINES)
"""What a machine that is gone can break. Files, images and our own defects are nobody's end."""


def names_end(
    recorder: Recorder, host: str, ended: Callable[[], HostEnd | None], progress: Callable[[str], None]
) -> None:
    """From now on, an error of a machine is recorded as the end of the host where ``ended`` knows of one: the
    same error each time, so that it is told once, with its log as a file of the run."""
    lock = threading.Lock()
    known: list[StageError] = []

    def explain(error: StageError) -> StageError:
        if error.kind not in _KINDS:
            return error
        with lock:
            if not known:
                end = ended()
                if end is None:
                    return error
                progress(end.message)
                found = HostEnded(
                    end.message,
                    host=host,
                    remedy=end.remedy,
                    transcript=recorder.save_file(FILE, end.log) if end.log else "",
                )
                known.append(stage_error(found, "host"))
            return known[0]

    recorder.explained_by(explain)
