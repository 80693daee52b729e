"""The words of changes: property, value before and after, time and source; and which of them decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks.base import Case, MissingEvidence, Subject
from harness.checks.host.unchanged import CHECKS, words
from harness.model.host_change import HostChange, Weight
from harness.model.outcome import Action, CheckResult, Outcome
from harness.model.telemetry import HostTelemetry
from harness.telemetry.host.table import WATCHED, About
from tests.faults import clean

(CHECK,) = CHECKS
WHOLE = clean.evidence()
HOST = WHOLE.host_telemetry
CHANGE = HostChange(
    what="driver",
    subject="DRIVER",
    before="vfio-pci",
    after="nvidia",
    since=805.2,
    at=810.3,
    source="0000:41:00.0/uevent",
    weight=Weight.HARMFUL,
    why="it was taken away",
)


def asked(telemetry: HostTelemetry | None) -> CheckResult:
    case = Case(evidence=replace(WHOLE, host_telemetry=telemetry), profile=clean.profile(), host=clean.HOST)
    return CHECK.judge(case, Subject(name="host", slot="host"))


def changed(*changes: HostChange) -> HostTelemetry:
    assert HOST is not None
    return replace(HOST, changes=changes)


def test_a_change_is_told_with_values_times_and_source() -> None:
    said = words(CHANGE)
    assert said == "driver (DRIVER): vfio-pci -> nvidia between 805 and 810 s [0000:41:00.0/uevent]"
    assert words(replace(CHANGE, until=830.0)).endswith("restored at 830 s [0000:41:00.0/uevent]")
    assert " at 810 s" in words(replace(CHANGE, since=None))
    assert " at " not in words(replace(CHANGE, since=None, at=None))


@pytest.mark.parametrize(
    ("weight", "outcome", "action"),
    [
        (Weight.HARMFUL, Outcome.FAIL, Action.FIX_CONFIG),
        (Weight.DOUBTFUL, Outcome.ERROR, Action.RETEST),
        (Weight.TOLD, Outcome.PASS, Action.NONE),
    ],
)
def test_the_weight_decides_and_the_message_holds_what_decided(weight, outcome, action) -> None:
    result = asked(changed(replace(CHANGE, weight=weight)))
    assert (result.outcome, result.action) == (outcome, action)
    for word in ("vfio-pci -> nvidia", "between 805 and 810 s", "0000:41:00.0/uevent"):
        assert word in result.message
        assert word in result.evidence[0].quote


def test_the_worst_change_decides_whatever_came_first() -> None:
    told = replace(CHANGE, what="libvirt", weight=Weight.TOLD)
    doubt = replace(CHANGE, what="claim", weight=Weight.DOUBTFUL)
    assert asked(changed(told, doubt)).outcome is Outcome.ERROR
    result = asked(changed(told, doubt, CHANGE))
    assert result.outcome is Outcome.FAIL
    assert "driver" in result.message
    assert "claim" in result.message


def test_a_change_of_a_guest_is_not_the_hosts() -> None:
    assert asked(changed(replace(CHANGE, guest="g1"))).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "telemetry",
    [None, replace(changed(), samples=0), replace(changed(), asked={}), replace(changed(), closed=False)],
)
def test_a_host_that_was_not_watched_passes_nothing(telemetry) -> None:
    with pytest.raises(MissingEvidence):
        asked(telemetry)


def test_each_row_of_the_table_has_a_name_of_its_own_and_a_reason() -> None:
    names = [row.name for row in WATCHED]
    assert len(names) == len(set(names))
    assert all(len(row.why) > 20 and row.title for row in WATCHED)
    assert {row.about for row in WATCHED} == set(About)
