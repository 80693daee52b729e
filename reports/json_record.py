"""The record itself as JSON, for ``shakedown report --format json``; its schema is in ``reports/schema``."""

from __future__ import annotations

from harness.model.record import RunRecord
from harness.serial import to_json


def render(record: RunRecord) -> str:
    """The RunRecord, all keys present, ASCII only."""
    return to_json(record) + "\n"
