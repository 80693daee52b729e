"""Small charts as inline SVG: stage timings, and a value against its limits."""

from __future__ import annotations

from collections.abc import Mapping

from harness.model.outcome import Measurement
from reports.parts.svg import add, drawing, text, to_text, tooltip
from reports.parts.text import duration, number

_ROW = 24.0
_LABEL = 190.0
_WIDTH = 1120.0


def timings(seconds: Mapping[str, float]) -> str:
    """Stages in their order, a bar each; empty when no stage ended."""
    if not seconds:
        return ""
    longest = max((*seconds.values(), 1e-9))
    total = sum(seconds.values())
    root = drawing(_WIDTH, _ROW * len(seconds) + 4, "Seconds by stage")
    room = _WIDTH - _LABEL - 170
    for index, (stage, value) in enumerate(seconds.items()):
        y = index * _ROW + 4
        text(root, _LABEL - 12, y + 13, stage, class_="label", text_anchor="end")
        add(root, "rect", x=_LABEL, y=y, width=room, height=18, rx=3, class_="idle")
        width = max(2.0, room * max(0.0, value) / longest)
        bar = add(root, "rect", x=_LABEL, y=y, width=width, height=18, rx=3, class_="time")
        tooltip(bar, f"{stage}: {duration(value)}")
        share = f" · {100 * value / total:.0f} %" if total else ""
        text(root, _LABEL + room + 10, y + 13, duration(value) + share, class_="label")
    return to_text(root)


def against_limits(value: Measurement) -> str:
    """The value as a bar with a mark at each limit; empty without a value or without limits."""
    if value.value is None or value.within is None:
        return ""
    marks = [limit for limit in (value.lower, value.upper) if limit is not None]
    low = min(0.0, value.value, *marks)
    high = max(0.0, value.value, *marks)
    span = (high - low) * 1.1 or 1.0
    width, height = 180.0, 16.0
    label = f"{number(value.value)} {value.unit}, {'inside' if value.within else 'outside'} its limits"
    root = drawing(width, height, label)
    add(root, "rect", x=0, y=4, width=width, height=8, rx=3, class_="idle")
    share = (value.value - low) / span
    style = "good" if value.within else "bad"
    add(root, "rect", x=0, y=4, width=max(2.0, width * share), height=8, rx=3, class_=style)
    for limit in marks:
        x = width * (limit - low) / span
        add(root, "line", x1=x, x2=x, y1=0, y2=height, class_="limit")
    return to_text(root)
