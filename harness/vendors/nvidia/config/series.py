"""What must hold in the series of a scenario of the NVML stand-in: that each can be played, and can show."""

from __future__ import annotations

import difflib
import itertools

from harness.config.yaml_source import Loc, YamlSource
from harness.model.vendor import Kind
from harness.telemetry.gpu.series import PROPERTIES, REASONS, SENSOR
from harness.vendors.standin import (
    MOST_GPUS,
    MOST_POINTS,
    MOST_SERIES,
    MOST_TEXTS,
    OF_THE_MACHINE,
    READINGS,
    TEXTS,
    StandinApply,
    StandinForm,
    StandinScenario,
    StandinSeries,
    StandinValue,
    reasons,
    standing_form,
)

LONGEST_SECONDS = 1e8
"""Three years; what is beyond is a slip (milliseconds, a date)."""
LARGEST = 2.0**63
"""NVML counts in 64 bits."""
_LONGEST_TEXT = 90
_SIGNED = "degC"


def check_series(scenario: StandinScenario, source: YamlSource) -> None:
    """Each series names a reading, and its points are values that this reading can have, in order of time."""
    points = sum(len(series.points) for series in scenario.series)
    texts = sum(len(series.points) for series in scenario.series if series.reading in TEXTS)
    for count, most, what in (
        (len(scenario.series), MOST_SERIES, "series"),
        (points, MOST_POINTS, "points"),
        (texts, MOST_TEXTS, "texts"),
    ):
        if count > most:
            source.wrong(("series",), f"{count} {what} are more than the {most} allowed")
    for index, series in enumerate(scenario.series):
        _series(series, source, ("series", index))


def _series(series: StandinSeries, source: YamlSource, loc: Loc) -> None:
    if series.reading not in READINGS:
        close = difflib.get_close_matches(series.reading[:80], READINGS, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        message = f"unknown reading {series.reading[:60]!r}{hint}"
        source.wrong((*loc, "reading"), message, remedy=f"known: {', '.join(READINGS)}")
        return
    if series.gpu is not None and not 0 <= series.gpu < MOST_GPUS:
        source.wrong((*loc, "gpu"), f"{series.gpu} is not between 0 and {MOST_GPUS - 1}")
    if series.gpu is not None and series.reading in OF_THE_MACHINE:
        source.wrong(
            (*loc, "gpu"), f"{series.reading} belongs to the machine, not to a GPU", remedy="remove gpu"
        )
    _shape(series, source, loc)
    _times(series, source, loc)
    for index, (_, value) in enumerate(series.points):
        problem = _problem(series, value)
        if problem:
            source.wrong((*loc, "points", index), problem)


def _shape(series: StandinSeries, source: YamlSource, loc: Loc) -> None:
    """Form, noise, rate and way of applying suit the kind of reading."""
    kind = READINGS[series.reading]
    if series.form is StandinForm.LINEAR and standing_form(series.reading) is StandinForm.STEP:
        source.wrong((*loc, "form"), f"{series.reading} has no values in between: use form: step")
    if series.rate and kind is not Kind.COUNTER:
        source.wrong((*loc, "rate"), f"{series.reading} is no counter, so it has no rate")
    if series.apply is not StandinApply.SET and kind is None:
        source.wrong((*loc, "apply"), f"{series.reading} is a text: it can only be set")
    if series.noise < 0 or series.noise > LARGEST:
        source.wrong((*loc, "noise"), f"{series.noise} is no standard deviation")
    elif series.noise and kind is not Kind.GAUGE:
        source.wrong((*loc, "noise"), f"{series.reading} has no noise: it is a counter, a state or a text")


def _times(series: StandinSeries, source: YamlSource, loc: Loc) -> None:
    times = [at for at, _ in series.points]
    if not times:
        source.wrong((*loc, "points"), "no point: a series has at least one, [seconds, value]")
        return
    for index, at in enumerate(times):
        if not 0 <= at <= LONGEST_SECONDS:
            source.wrong((*loc, "points", index), f"{at} is not between 0 and {LONGEST_SECONDS:.0f} seconds")
    for index, (one, other) in enumerate(itertools.pairwise(times), 1):
        if other < one:
            source.wrong((*loc, "points", index), f"{other} s after {one} s: points must be in order of time")
    if series.until is not None and not times[0] < series.until <= LONGEST_SECONDS:
        message = f"{series.until} s is not after the first point, at {times[0]} s"
        source.wrong((*loc, "until"), message)
    if series.repeat is not None and not times[-1] - times[0] < series.repeat <= LONGEST_SECONDS:
        message = f"a period of {series.repeat} s has no room for points over {times[-1] - times[0]} s"
        source.wrong((*loc, "repeat"), message)


def _problem(series: StandinSeries, value: StandinValue) -> str:
    """What is wrong with a value; empty when nothing is."""
    name = series.reading
    if value is None:
        return ""
    if READINGS[name] is None:
        usable = isinstance(value, str) and value.isprintable() and value == value.strip() != "-"
        short = usable and 0 < len(str(value).encode()) <= _LONGEST_TEXT
        return "" if short else f"{name} is a text of up to {_LONGEST_TEXT} characters; found {value!r:.80}"
    if isinstance(value, str) and name != "reasons":
        return f"{name} is a number; found {value!r:.80}"
    if isinstance(value, str):
        unknown = f"reasons are numbers, or names of {', '.join(REASONS.values())}, joined by +"
        return "" if reasons(value) is not None else f"{unknown}; found {value!r:.80}"
    return _unplayable(series, float(value))


def _unplayable(series: StandinSeries, number: float) -> str:
    """Why NVML could not tell a number; empty when it could, plausible or not."""
    name = series.reading
    if abs(number) >= LARGEST:
        return f"{number:g} is beyond NVML's range"
    if number < 0 and series.apply is not StandinApply.ADD and _unit(name) != _SIGNED:
        return f"{name} cannot be below 0; found {number:g}"
    if name == "load" and series.apply is StandinApply.SET and number > 1:
        return f"load is a share of 0 to 1; found {number:g}"
    return ""


def _unit(name: str) -> str:
    if name in SENSOR:
        return SENSOR[name].unit
    return PROPERTIES.get(name, _SIGNED if name == "ambient" else "")
