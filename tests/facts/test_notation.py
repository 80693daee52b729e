"""How the kernel's own notations are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.facts.notation import chosen, count, flag, hex_digits, id_list, id_mask, kib


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-3,8", (0, 1, 2, 3, 8)),
        ("0-9:2/4", (0, 1, 4, 5, 8, 9)),
        ("", ()),
        ("(null)", ()),
        ("7", (7,)),
        (None, None),
        ("3-1", None),
        ("0-999999999", None),
        ("0-3,", None),
        ("-1", None),
        ("٣", None),
        ("0-9:0/0", None),
    ],
)
def test_a_list_is_read_or_unknown(text: str | None, expected: tuple[int, ...] | None) -> None:
    assert id_list(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ff", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("1,00000001", (0, 32)),
        ("00000000,00000000", ()),
        ("xyz", None),
        ("", None),
        (None, None),
        ("1,000000001", None),
    ],
)
def test_a_mask_has_32_bits_a_word_most_significant_first(
    text: str | None, expected: tuple[int, ...] | None
) -> None:
    assert id_mask(text) == expected


@given(st.sets(st.integers(0, 4000), max_size=60))
def test_any_set_survives_being_written_as_a_list(numbers: set[int]) -> None:
    assert id_list(",".join(str(n) for n in sorted(numbers))) == tuple(sorted(numbers))


@given(st.text(max_size=80))
def test_no_text_makes_a_reader_fail(text: str) -> None:
    for reader in (id_list, id_mask, count, flag, chosen):
        reader(text)
    assert hex_digits(text, 4) is None or text[2:].lower() == hex_digits(text, 4)


def test_minus_one_is_unknown() -> None:
    assert count("-1") is None
    assert count("0") == 0


def test_sizes_in_meminfo_are_kib() -> None:
    text = "Node 1 MemTotal:       2048 kB\nNode 1 MemFree:        1 kB"
    assert kib(text, "MemTotal") == 2048 * 1024
    assert kib(text, "MemFree") == 1024
    assert kib(text, "HugePages_Total") is None
