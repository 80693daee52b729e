"""Payloads that treat several devices, each in a process of its own: reading what became of each.

The counterpart of ``harness/payload/bounded.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.workloads.base import Observation, exact

_KINDS = ("done", "unable", "broken", "failed", "hung", "died")
_FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One device's part of a payload's output."""

    name: str
    finished: tuple[Answer, ...]
    """Wrong when it hung, died, failed or never began; it then says what it was doing. Empty when unknown."""
    unknown: str
    """Why nothing is known of it; empty otherwise."""
    observed: Observation | None
    """None unless it finished."""


def entries(where: str, seen: Observation, names: Sequence[str]) -> tuple[Entry, ...]:
    """An entry for each name, in that order and none else. Raises ParseError."""
    found = [Observation(item, where) for item in seen.items("entries")]
    said = [entry.text("name") for entry in found]
    if said != list(names):
        raise ParseError(f"{where}: {', '.join(names)} were expected, the guest reports {str(said)[:300]}")
    return tuple(_entry(where, name, entry) for name, entry in zip(names, found, strict=True))


def _entry(where: str, name: str, entry: Observation) -> Entry:
    kind, at, error = entry.text("kind"), entry.text("at"), entry.text_or_none("error")
    if kind not in _KINDS:
        raise ParseError(f"{where}: unknown state {kind[:40]!r}")
    if kind == "done":
        finished = (exact(f"{name} to the end", _FINISHED, _FINISHED),)
        return Entry(name=name, finished=finished, unknown="", observed=entry.inner("observed"))
    said = f"{kind} ({at[:80]}): {error or 'no reason given'}"
    if kind == "unable":
        return Entry(name=name, finished=(), unknown=f"{name} {said}"[:1000], observed=None)
    finished = (exact(f"{name} to the end", _FINISHED, said, said),)
    return Entry(name=name, finished=finished, unknown="", observed=None)


def settled(
    where: str, answers: Sequence[Answer], found: Sequence[Entry], more: Sequence[str] = ()
) -> tuple[Answer, ...]:
    """The answers, where nothing that was due is unknown, or where one is wrong, whatever else is missing.

    ``more``: what else is unknown. Raises ParseError: missing evidence accuses no device and clears none.
    """
    unknown = [*(entry.unknown for entry in found if entry.unknown), *more]
    if unknown and all(answer.ok for answer in answers):
        rest = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ParseError(f"{where}: {unknown[0]}{rest}")
    return tuple(answers)
