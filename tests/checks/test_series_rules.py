"""Each rule of series is tripped by its bad series and not by its clean one; a rule that is not is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks.watching.series_rules import SeriesRule, judged, rules, tried
from harness.config.files import load_kernel_codes
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Outcome
from harness.telemetry.gpu import plausible
from harness.vendors.nvidia.checks.series import CARD
from harness.vendors.nvidia.standin.rehearsed import rehearsed

RULES = rules()
HOST, PROFILE = HostFile(name="rehearsed"), Profile(name="rehearsed", checks={}, guests=())
CODES = load_kernel_codes()


def wrong(rule: SeriesRule) -> list[str]:
    return list(tried(rule, HOST, PROFILE, CODES))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_does_its_work(rule: SeriesRule) -> None:
    assert wrong(rule) == []


@pytest.mark.parametrize("rule", RULES[::6], ids=lambda rule: rule.id)
def test_a_rule_that_guards_nothing_or_everything_is_found(rule: SeriesRule) -> None:
    assert len(wrong(replace(rule, bad={}, source=" "))) == 2
    assert len(wrong(replace(rule, clean=rule.bad))) == 1


def test_every_way_to_doubt_a_sensor_has_its_series_and_no_rule_is_there_twice() -> None:
    ids = [rule.id for rule in RULES]
    assert len(set(ids)) == len(ids)
    untried = {rule.id for rule in plausible.RULES} - {i.removeprefix("sensor-") for i in ids}
    assert untried == {"contrary"}  # the rehearsed card tells no margin; tests/telemetry plays one that does


@pytest.mark.parametrize("check", sorted({rule.check for rule in RULES}))
def test_a_healthy_card_passes_every_check(check: str) -> None:
    assert judged(check, CARD, {}, host=HOST, profile=PROFILE, codes=CODES)[0] is Outcome.PASS


def test_a_case_of_a_reading_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown reading: clok_sm"):
        rehearsed({"clok_sm": ((0.0, 1.0),)})
