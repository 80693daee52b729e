"""Waivers: which of them may carry a failed check, and why the others may not."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from fnmatch import fnmatchcase

from harness.model.inventory import Waiver
from harness.model.outcome import SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class WaiverStatus:
    """A waiver and, when it may carry nothing on this run, the reason (empty: it may)."""

    waiver: Waiver
    void: str


def utc_day(moment: str) -> dt.date | None:
    """The UTC day of an ISO 8601 moment, or of a plain date; None when it is neither."""
    try:
        parsed = dt.datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (parsed.astimezone(dt.UTC) if parsed.tzinfo else parsed).date()


def examine(waiver: Waiver, *, subject_kind: SubjectKind, now: str) -> WaiverStatus:
    """Whether ``waiver`` may be used on a run of this kind that ended at ``now`` (UTC, ISO 8601).

    ``expires`` is inclusive. Whatever cannot be read voids the waiver: an unreadable date carries nothing.
    """
    return WaiverStatus(waiver=waiver, void=_void(waiver, subject_kind, now))


def _void(waiver: Waiver, subject_kind: SubjectKind, now: str) -> str:
    if not waiver.owner.strip():
        return "it names no owner"
    if not waiver.reason.strip():
        return "it gives no reason"
    if waiver.subject_kinds and subject_kind not in waiver.subject_kinds:
        kinds = ", ".join(kind.value for kind in waiver.subject_kinds)
        return f"it is for {kinds} runs, this is a {subject_kind.value} run"
    try:
        last_day = dt.date.fromisoformat(waiver.expires.strip())
    except ValueError:
        return f"its expiry {waiver.expires[:40]!r} is not a date"
    today = utc_day(now)
    if today is None:
        return f"the end of the run {now[:40]!r} is not a date to compare its expiry with"
    return f"it expired after {last_day.isoformat()}" if last_day < today else ""


def covers(waiver: Waiver, check: str, subject: str) -> bool:
    """Whether the waiver names this check and its glob matches this subject (case matters)."""
    return waiver.check == check and fnmatchcase(subject, waiver.subject)
