"""When loads ran and what of them each GPU's samples cover, as inline SVG: a gap is a hole one can see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree as ET

from harness.model.telemetry import GpuTelemetry, GuestTelemetry, LoadWindow, Ruling
from reports.parts.svg import add, drawing, guest_class, text, to_text, tooltip
from reports.parts.text import clean, duration

_WIDTH = 1120.0
_LABEL = 190.0
_ROOM = _WIDTH - _LABEL - 20
_ROW = 24.0
_BAR = 16.0
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)
_MOST_TICKS = 12
_LETTER = 7.0
"""Width of a letter of a label, roughly."""


class _Scale:
    """Seconds of the machine's boot clock to places on the paper."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, max(end, start + 1.0)

    def x(self, seconds: float) -> float:
        share = (min(max(seconds, self.start), self.end) - self.start) / (self.end - self.start)
        return _LABEL + _ROOM * share

    def width(self, start: float, end: float) -> float:
        return max(1.0, self.x(end) - self.x(start))


def timeline(telemetry: GuestTelemetry, rounds: Mapping[str, int], names: Sequence[str]) -> str:
    """Loads, GPUs, gaps and kernel events over time; empty when no load was recorded.

    ``rounds`` leads from a load's key to its round; a load's colour is its place in ``names``.
    """
    if not telemetry.loads:
        return ""
    lanes = _lanes(telemetry.loads)
    ends = [load.end for load in telemetry.loads] + [t for t in (telemetry.ended,) if t is not None]
    begins = [load.start for load in telemetry.loads] + [t for t in (telemetry.started,) if t is not None]
    scale = _Scale(min(begins), max(ends))
    height = _ROW * (len(lanes) + len(telemetry.gpus) + 1) + 26
    root = drawing(_WIDTH, height, f"Loads and samples of {telemetry.guest} over time")
    y = _rounds(root, scale, telemetry, rounds, height)
    y = _loads(root, scale, lanes, names, y)
    for gpu in telemetry.gpus:
        _gpu(root, scale, telemetry, gpu, y)
        y += _ROW
    _events(root, scale, telemetry, y)
    _axis(root, scale, y + 6)
    return to_text(root)


def _lanes(loads: Iterable[LoadWindow]) -> list[list[LoadWindow]]:
    """Loads in rows in which none overlaps another; loads that ran side by side need several."""
    lanes: list[list[LoadWindow]] = []
    for load in sorted(loads, key=lambda load: (load.start, load.end)):
        free = next((lane for lane in lanes if lane[-1].end <= load.start), None)
        if free is None:
            lanes.append([load])
        else:
            free.append(load)
    return lanes


def _rounds(
    root: ET.Element, scale: _Scale, telemetry: GuestTelemetry, rounds: Mapping[str, int], height: float
) -> float:
    """A line where each round begins; returns where the rows begin."""
    first: dict[int, float] = {}
    for load in telemetry.loads:
        number = rounds.get(load.key, 1)
        first[number] = min(first.get(number, load.start), load.start)
    room = _ROOM / len(first)
    for number, start in sorted(first.items()):
        if len(first) > 1 and room > 4:
            add(root, "line", x1=scale.x(start), x2=scale.x(start), y1=2, y2=height - 24, class_="round")
            if room > 60:
                text(root, scale.x(start) + 3, 12, f"round {number}", class_="tiny")
    return 18.0 if len(first) > 1 else 4.0


def _loads(
    root: ET.Element, scale: _Scale, lanes: list[list[LoadWindow]], names: Sequence[str], y: float
) -> float:
    for index, lane in enumerate(lanes):
        text(root, _LABEL - 12, y + 12, "loads" if index == 0 else "", class_="label", text_anchor="end")
        for load in lane:
            x, width = scale.x(load.start), scale.width(load.start, load.end)
            style = guest_class(names.index(load.workload))
            bar = add(root, "rect", x=x, y=y, width=width, height=_BAR, rx=2, class_=f"{style} load")
            tooltip(bar, f"{load.workload}: {duration(load.end - load.start)} from {load.start:.1f} s")
            if width > _LETTER * len(load.workload) + 8:
                text(root, x + 5, y + 12, load.workload, class_="onload")
        y += _ROW
    return y


def _busy(loads: Iterable[LoadWindow], scale: _Scale) -> list[tuple[float, float]]:
    """Time under load, without the pauses between loads that are too short to be drawn."""
    found: list[tuple[float, float]] = []
    for load in sorted(loads, key=lambda load: load.start):
        if found and scale.x(load.start) - scale.x(found[-1][1]) < 0.5:
            found[-1] = (found[-1][0], max(found[-1][1], load.end))
        else:
            found.append((load.start, load.end))
    return found


def _gpu(root: ET.Element, scale: _Scale, telemetry: GuestTelemetry, gpu: GpuTelemetry, y: float) -> None:
    """One GPU: watched time under load, with its gaps cut out of it."""
    name = clean(str(gpu.host_address or f"GPU {gpu.index}"), 40)
    text(root, _LABEL - 12, y + 12, name, class_="label", text_anchor="end")
    add(root, "rect", x=_LABEL, y=y, width=_ROOM, height=_BAR, rx=2, class_="idle")
    for start, end in _busy(telemetry.loads, scale):
        width, style = scale.width(start, end), "good" if gpu.covered_seconds > 0 else "bad"
        bar = add(root, "rect", x=scale.x(start), y=y, width=width, height=_BAR, class_=style)
        tooltip(bar, f"under load from {start:.1f} s to {end:.1f} s, watched except where a hole is drawn")
    for gap in gpu.gaps:
        x, width = scale.x(gap.start), max(2.0, scale.width(gap.start, gap.end))
        hole = add(root, "rect", x=x, y=y - 2, width=width, height=_BAR + 4, class_="gap")
        why = f": {gap.reason}" if gap.reason else ""
        tooltip(hole, f"no sample for {gap.seconds:.1f} s from {gap.start:.1f} s{why}")


def _events(root: ET.Element, scale: _Scale, telemetry: GuestTelemetry, y: float) -> None:
    """Marks of kernel events, over all rows."""
    for event in telemetry.kernel.events if telemetry.kernel is not None else ():
        if event.at is None or not scale.start <= event.at <= scale.end:
            continue
        style = "note" if event.ruling in (Ruling.NOTE, Ruling.LINK) else "event"
        mark = add(root, "line", x1=scale.x(event.at), x2=scale.x(event.at), y1=2, y2=y, class_=style)
        code = "" if event.code is None else f" {event.code}"
        tooltip(mark, f"{event.at:.1f} s: {event.family.value}{code}, {event.ruling.value}: {event.line}")


def _axis(root: ET.Element, scale: _Scale, y: float) -> None:
    """Seconds since the first sample."""
    lasted = scale.end - scale.start
    step = next((tick for tick in _TICKS if lasted / tick <= _MOST_TICKS), _TICKS[-1])
    add(root, "line", x1=_LABEL, x2=_LABEL + _ROOM, y1=y, y2=y, class_="axis")
    for number in range(int(min(lasted // step, 2 * _MOST_TICKS)) + 1):
        x = scale.x(scale.start + number * step)
        add(root, "line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis")
        text(root, x, y + 16, _clock(number * step), class_="tiny", text_anchor="middle")


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
