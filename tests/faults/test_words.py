"""A message quotes what decided: of every fault, a value that the fault changed stands in the words, the
measurements or the quoted evidence of the check that sees it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.checks.registry import run_checks
from harness.faults.base import Fault
from harness.faults.registry import FAULTS
from harness.model.outcome import Outcome
from harness.serial import to_data
from tests.faults import clean

CONTRADICTION = re.compile(r"(\S.{4,}?), expected \1(?!\w)")
"""``runs 16 GT/s x16, expected 16 GT/s x16``: the state that failed was another."""
DERIVED = ("disturbed-by-neighbours",)
"""What decides is a ratio of many values, each of which the measurements of the loads hold."""
FAILING = [
    fault for fault in FAULTS if fault.outcome in (Outcome.FAIL, Outcome.ERROR) and fault.id not in DERIVED
]


def leaves(data: Any, path: str = "") -> dict[str, Any]:
    """Every plain value by where it stands."""
    if isinstance(data, dict):
        return {k: v for key, each in data.items() for k, v in leaves(each, f"{path}.{key}").items()}
    if isinstance(data, list):
        return {k: v for n, each in enumerate(data) for k, v in leaves(each, f"{path}[{n}]").items()}
    return {path: data}


def forms(value: Any) -> set[str]:
    """How a value may be written in a sentence."""
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, int | float):
        found = {f"{value:g}", f"{value:.0f}", f"{value:.1f}", f"{value:,}", f"{value:,.0f}"}
        found |= {f"{value / unit:g}" for unit in (1 << 10, 1 << 20, 1 << 30) if value >= unit}
        return found
    return {part for part in re.split(r"[\s,;:()]+", str(value)) if len(part) > 2 or not part.isdigit()}


def changed(fault: Fault) -> tuple[set[str], set[str]]:
    """Words of what the fault changed, as it is then and as it was; and last parts of the names of the
    fields."""
    before, after = leaves(to_data(clean.evidence())), leaves(to_data(fault.corrupt(clean.evidence())))
    places = {key for key in before.keys() | after.keys() if before.get(key, key) != after.get(key, key)}
    words = {form for key in places for form in forms(after.get(key)) | forms(before.get(key))}
    names = {part for key in places for part in re.split(r"[._\[\]0-9]+", key) if len(part) > 2}
    return words, names


@pytest.mark.parametrize("fault", FAILING, ids=lambda fault: fault.id)
def test_a_message_quotes_what_decided(fault: Fault) -> None:
    results, _ = run_checks(fault.corrupt(clean.evidence()), clean.profile(), clean.HOST)
    found = [r for r in results if r.check == fault.must_trip and r.outcome is fault.outcome]
    assert found
    words, names = changed(fault)
    for result in found:
        assert CONTRADICTION.search(result.message) is None, result.message
        assert result.remedy, "nobody is told what to do"
        told = " ".join((result.message, *(ref.quote for ref in result.evidence), str(result.measurements)))
        quoted = {
            word for word in words if re.search(rf"(?:(?<![\w.])|(?<=\bx)){re.escape(word)}(?!\w)", told)
        }
        named = {name for name in names if name.lower().rstrip("s") in result.message.lower()}
        assert quoted or named, (result.message, sorted(words)[:20], sorted(names)[:20])
