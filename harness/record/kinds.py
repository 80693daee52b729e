"""The kinds of event a run may write; anything else in ``events.jsonl`` is a RecordError."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What an event says. Each is written by one method of ``Recorder`` and read by one line of the fold."""

    RUN_START = "run.start"
    RUN_RESUMED = "run.resumed"
    RUN_END = "run.end"
    STAGE_START = "stage.start"
    STAGE_END = "stage.end"
    LEDGER = "ledger"
    ASKED = "asked"
    FILE = "file"
    WATCH = "watch"
    RECOVERED = "recovered"
    ENGINE = "engine"
    FACTS = "facts"
    REFERENCE = "reference"
    SYSTEM = "system"
    RESET = "reset"
    GUEST_PLAN = "guest.plan"
    GUEST_XML = "guest.xml"
    GUEST_STARTED = "guest.started"
    GUEST_REACHED = "guest.reached"
    GUEST_OBSERVED = "guest.observed"
    GUEST_LOOKED_AT = "guest.looked_at"
    GUEST_DEATH = "guest.death"
    GUEST_KERNEL_LOG = "guest.kernel_log"
    WORKLOAD = "workload"
    TELEMETRY = "telemetry"
    HOST_TELEMETRY = "telemetry.host"
    GUEST_CARDS = "guest.cards"
    RESIDUE = "residue"
    RELEASE = "release"
    ERROR = "error"
    NOTE = "note"
    RECORD = "record"
    END = "end"
