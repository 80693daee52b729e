"""Hostile changes of a payload's observation: any one place in it replaced or gone."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

VALUES: Any = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8), st.lists(st.integers(-1, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.none()),
)  # fmt: skip


def places(whole: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a tree of objects and lists."""
    found = [path] if path else []
    inner = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    for key, value in inner:
        found += places(value, (*path, key))
    return found


@st.composite
def changed(draw: Any, whole: dict[str, Any]) -> dict[str, Any]:
    """``whole`` with up to three places replaced or removed."""
    result = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places(result)))
        inner = result
        for key in path:
            inner = inner[key]
        if draw(st.booleans()):
            inner[last] = draw(VALUES)
        else:
            del inner[last]
        if not places(result):
            break
    return result
