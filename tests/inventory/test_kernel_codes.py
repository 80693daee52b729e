"""The tables of Xids and SXids: as complete as their sources, each code ruled and sourced."""

from __future__ import annotations

import pytest

from harness.config.files import load_kernel_codes
from harness.model.kernel_codes import KernelCode
from harness.model.outcome import Action
from harness.model.telemetry import Ruling

TABLES = load_kernel_codes()
FAILS = (Ruling.STOP, Ruling.RETEST, Ruling.CONFIG)


@pytest.mark.parametrize(
    ("ruling", "codes"),
    [
        (Ruling.STOP, (48, 54, 57, 58, 62, 64, 74, 79, 92, 95, 110, 120, 123, 125, 136, 140, 143)),
        (Ruling.STOP, (145, 149, 150, 157, 158, 167, 171, 172)),
        (Ruling.RETEST, (8, 11, 13, 31, 32, 38, 39, 43, 44, 46, 61, 63, 66, 68, 69, 80, 94, 109, 119)),
        (Ruling.RETEST, (121, 122, 137, 151, 155, 156, 160, 163)),
        (Ruling.CONFIG, (78,)),
        (Ruling.LINK, (45, 154)),
        (Ruling.NOTE, (93,)),
    ],
)
def test_xids_are_ruled_as_decided(ruling: Ruling, codes: tuple[int, ...]) -> None:
    assert {code: TABLES.of("xid")[code].ruling for code in codes} == dict.fromkeys(codes, ruling)


def test_codes_that_no_source_explains_are_left_unknown() -> None:
    assert not {1, 14, 90, 91, 173, 999} & set(TABLES.of("xid"))


def test_a_harmless_ruling_is_rare_and_gives_its_reason() -> None:
    harmless = [c for c in TABLES.of("xid").values() if c.ruling not in FAILS]
    assert {c.code for c in harmless} == {45, 93, 106, 107, 154, 162}
    assert all(c.reason for c in harmless)


@pytest.mark.parametrize(
    ("codes", "rulings"),
    [
        ((11012, 11021, 15008, 19049, 19071, 24001), {Ruling.NOTE}),
        ((11001, 12001, 14017, 15001, 19047, 20034, 24004), {Ruling.STOP}),
        ((12020, 22003, 22011, *range(23001, 23018)), {Ruling.STOP}),
    ],
)
def test_sxids_are_ruled_by_what_they_leave_behind(codes: tuple[int, ...], rulings: set[Ruling]) -> None:
    assert {TABLES.of("sxid")[code].ruling for code in codes} == rulings
    assert len(TABLES.of("sxid")) >= 92


@pytest.mark.parametrize(
    "entry", [code for table in TABLES.tables.values() for code in table.values()], ids=lambda e: str(e.code)
)
def test_each_code_has_a_meaning_a_source_and_an_action_where_one_is_due(entry: KernelCode) -> None:
    assert entry.meaning
    assert entry.sources
    assert all(entry.sources.values())
    assert (entry.action is Action.NONE) == (entry.ruling not in FAILS)
