"""RunRecord: the complete, serialisable account of a run (``run.json``)."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.model.evidence import Evidence
from harness.model.inventory import HostFile, Profile, Waiver
from harness.model.outcome import CheckResult, Decision

SCHEMA_VERSION = 2
"""Of ``run.json`` and of the events of a run. 2: measurements, answers and events name a GPU by its address
on the candidate host; in 1 those of guests named it as the guest saw it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTitle:
    """What a check asks, so that a record can be read without this version of the code."""

    check: str
    title: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, one verdict, and everything it rests on."""

    schema_version: int = SCHEMA_VERSION
    shakedown_version: str
    run: str
    host: HostFile
    profile: Profile
    waivers: tuple[Waiver, ...]
    evidence: Evidence
    results: tuple[CheckResult, ...]
    titles: tuple[CheckTitle, ...]
    decision: Decision
    expires_at: str
    """Until when the verdict stands (UTC, ISO 8601)."""
    files: dict[str, str] = field(default_factory=dict)
    """Evidence file to ``sha256:<hex>``."""
    events: int = 0
    """Number of events in ``events.jsonl`` (its sequence total)."""
    command: tuple[str, ...] = ()
    """The command line that started the run."""
    versions: dict[str, str] = field(default_factory=dict)
    """Software of the controller that made the run, by name."""
