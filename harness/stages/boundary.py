"""The one place where an exception becomes data: a broken stage is recorded, and what needs it is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.errors import HarnessError
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
        message=error.message,
        remedy=error.remedy,
        host=error.host,
        subject=subject,
        transcript=error.transcript,
    )


@contextmanager
def stage(recorder: Recorder, name: str, *, subject: str = "") -> Iterator[None]:
    """Time a stage; record a HarnessError of it once and raise Stopped instead."""
    with recorder.stage(name):
        try:
            yield
        except HarnessError as error:
            recorder.error(stage_error(error, name, subject))
            raise Stopped from error
