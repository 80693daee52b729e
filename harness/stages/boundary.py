"""The one place where an exception becomes data: a broken stage is recorded, and what needs it is skipped."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from harness.cleanups import notes
from harness.errors import GuestDied, HarnessError, RecordError, why
from harness.model.evidence import StageError
from harness.record.recorder import Recorder


class Stopped(Exception):
    """A stage broke and its error is recorded: nothing that builds on it may run.

    Not a HarnessError: it carries no news, it only unwinds to whoever can go on without the broken part.
    """


def stage_error(error: HarnessError, stage: str, subject: str = "") -> StageError:
    """The error as data."""
    return StageError(
        stage=error.stage or stage,
        kind=type(error).__name__,
        message="; ".join((error.message, *notes(error))),
        remedy=error.remedy,
        host=error.host,
        subject=subject,
        transcript=error.transcript,
    )


@contextmanager
def stage(recorder: Recorder, name: str, *, subject: str = "") -> Iterator[None]:
    """Time a stage; record a HarnessError of it once and raise Stopped instead."""
    with recorder.stage(name), recorded(recorder, name, subject=subject):
        yield


@contextmanager
def recorded(recorder: Recorder, name: str, *, subject: str = "") -> Iterator[None]:
    """As ``stage``, for a part whose time is counted already. RecordError passes: see ``contained``. That a
    guest died is recorded once, whoever waited for it (``harness.stages.guest.life.record_death``)."""
    try:
        yield
    except RecordError:
        raise
    except GuestDied as error:
        raise Stopped from error
    except HarnessError as error:
        recorder.error(stage_error(error, name, subject))
        raise Stopped from error


@contextmanager
def contained(recorder: Recorder, name: str, *, subject: str = "") -> Iterator[None]:
    """Let nothing out of the block that is recorded: a broken stage, and also a defect of our own code, whose
    traceback is kept. RecordError passes (a run must not go on blind), and so do interrupts."""
    try:
        yield
    except (Stopped, GuestDied):
        pass
    except RecordError:
        raise
    except HarnessError as error:
        recorder.error(stage_error(error, name, subject))
    except Exception as error:  # noqa: BLE001  the boundary: our own defects become evidence too
        record_defect(
            recorder,
            stage="harness",
            kind=type(error).__name__,
            message=f"internal error of Shakedown: {why(error)}",
            remedy="this is a bug in Shakedown, not a fault of the host: report it with this run directory",
            subject=subject,
        )


def record_defect(
    recorder: Recorder, *, stage: str, kind: str, message: str, remedy: str, subject: str = ""
) -> None:
    """Record the exception that is being handled, with its traceback as a file of the run."""
    trace = traceback.format_exc().encode("utf-8", "backslashreplace")
    file = recorder.save_file("transcripts/internal-error.txt", trace)
    recorder.error(
        StageError(stage=stage, kind=kind, message=message, remedy=remedy, subject=subject, transcript=file)
    )
