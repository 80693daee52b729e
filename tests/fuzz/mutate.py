"""Hostile changes of a real capture that keep its structure: what a broken or wicked machine could send."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from typing import Any

from tests.workloads.mutations import places

NUMBERS = (
    b"-1", b"0", b"1", b"255", b"65536", b"4294967295", b"18446744073709551615", b"18446744073709551616",
    b"1000000000000", b"1" + b"0" * 400, b"9" * 5000, b"1e400", b"-1e400", b"1e308", b"4.9e-324",
    b"NaN", b"nan", b"Infinity", b"-Infinity", b"inf", b"0x1f", b"1_0", b"true", b"", b"3.5",
    "\u0663".encode(),
)  # fmt: skip
WORDS = (
    b"0000:00:3f.3", b"0000:ff:1f.7", b"ffffffff:00:00.0", b"0000:00:00.8", b"\x1b[2J", b"\x00", b"\xff\xfe",
    "\u202e".encode(), b"\\ud800", b"\\udc00", b"%YAML 1.9", b"---", b"&a", b"*a", b"!!python/object",
    b"null", b"x" * 3000,
    b"0-4294967295", b"0-65535", b"^0", b"{}", b"[]", b'""', b"<a/>", b"&amp;", b"]]>",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 2**63, 2**64, 10**30, 10**12, -(10**12), 1e308, -1e308, 5e-324, "", "nan",
    "1e400", "x" * 3000, "\ud800", "\x1b[2J", "\u202e", [], {}, [[]], [None], {"": None}, {"a": {"b": []}},
    "0000:00:3f.3", "2026-13-45T99:99:99Z", "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z",
)  # fmt: skip
ADDRESSES = (
    b"0000:00:3f.3", b"0000:ff:20.0", b"ffffffff:00:00.0", b"0000:00:00.8", b"00:1f.7", b"10000:e1:00.0",
    b"000000000:00:00.0", b"zzzz:00:00.0",
)  # fmt: skip
_ADDRESS = re.compile(rb"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[^\s,:;=\"'\[\]{}()<>]+")
_PLACEHOLDER = 7700770077


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """``seed`` with one to four changes."""
    found = seed
    for _ in range(chance.randint(1, 4)):
        found = chance.choice(CHANGES)(found, chance)
    return found


def _replaced(
    raw: bytes, chance: random.Random, pattern: re.Pattern[bytes], others: tuple[bytes, ...]
) -> bytes:
    matches = list(pattern.finditer(raw))
    if not matches:
        return raw
    match = chance.choice(matches)
    return raw[: match.start()] + chance.choice(others) + raw[match.end() :]


def _number(raw: bytes, chance: random.Random) -> bytes:
    return _replaced(raw, chance, _NUMBER, NUMBERS)


def _word(raw: bytes, chance: random.Random) -> bytes:
    return _replaced(raw, chance, _WORD, WORDS)


def _everywhere(raw: bytes, chance: random.Random) -> bytes:
    """A name or an address replaced wherever it stands, so that the text still agrees with itself."""
    names = _ADDRESS.findall(raw) if chance.random() < 0.6 else _WORD.findall(raw)
    others = ADDRESSES if chance.random() < 0.6 else (*NUMBERS, *WORDS)
    return raw.replace(chance.choice(names), chance.choice(others)) if names else raw


def _lines(raw: bytes, chance: random.Random) -> bytes:
    """A line gone, twice, or at another place."""
    lines = raw.splitlines(keepends=True)
    if not lines:
        return raw
    at = chance.randrange(len(lines))
    kind = chance.randrange(3)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(at, lines[at])
    else:
        lines.insert(chance.randrange(len(lines)), lines.pop(at))
    return b"".join(lines)


def _cut(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(raw))
    return raw[:at] if chance.random() < 0.5 else raw[at:]


def _bytes(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(raw))
    piece = bytes(chance.randrange(256) for _ in range(chance.randint(1, 8)))
    return raw[:at] + piece + raw[at + chance.randint(0, 4) :]


def _json(raw: bytes, chance: random.Random) -> bytes:
    """One place in a JSON document, or in one line of many, replaced or gone; also by what JSON forbids."""
    lines = raw.splitlines(keepends=True)
    candidates = [n for n, line in enumerate(lines) if line.lstrip()[:1] in (b"{", b"[")]
    whole = raw.lstrip()[:1] in (b"{", b"[") and len(lines) > 1 and not lines[0].rstrip().endswith(b"}")
    if not candidates:
        return raw
    at = chance.choice(candidates)
    try:
        tree = json.loads(raw if whole else lines[at])
    except (ValueError, RecursionError):
        return raw
    changed = _changed(tree, chance)
    text = json.dumps(changed).encode()
    text = text.replace(str(_PLACEHOLDER).encode(), chance.choice(NUMBERS))
    if whole:
        return text + b"\n"
    lines[at] = text + b"\n"
    return b"".join(lines)


def _changed(tree: Any, chance: random.Random) -> Any:
    result = copy.deepcopy(tree)
    found = places(result)
    if not found:
        return result
    *path, last = chance.choice(found)
    inner = result
    for key in path:
        inner = inner[key]
    kind = chance.randrange(4)
    if kind == 0:
        del inner[last]
    elif kind == 1 and isinstance(inner, list):
        inner.insert(last, copy.deepcopy(inner[last]))
    elif kind == 2:
        inner[last] = _PLACEHOLDER
    else:
        inner[last] = copy.deepcopy(chance.choice(VALUES))
    return result


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _number, _number, _word, _everywhere, _everywhere, _lines, _cut, _bytes, _json, _json, _json,
)  # fmt: skip
