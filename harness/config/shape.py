"""The data of an inventory file as a value, with everything that is wrong with them at once.

What has no shape is taken out, so that the rest can be looked at all the same.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from harness.config.yaml_source import Loc, YamlSource
from harness.errors import ConfigError

T = TypeVar("T")

_EXPECTED = {
    "bool_type": "true or false was expected",
    "dataclass_exact_type": "keys with values were expected",
    "dataclass_type": "keys with values were expected",
    "dict_type": "keys with values were expected",
    "float_type": "a number was expected",
    "int_from_float": "a whole number was expected",
    "int_type": "a whole number was expected",
    "string_type": "text was expected",
    "tuple_type": "a list was expected",
}


def checked(kind: type[T], source: YamlSource, rules: Callable[[T, YamlSource], None]) -> T:
    """The value. Raises ConfigError with all that is wrong: its shape, and by the rules what has a shape."""
    value, bad = _shaped(kind, source)
    trial, left = source, bad
    for _ in range(_DEEPEST):
        if value is not None or not left:
            break
        trial = _without(kind, trial, left)
        value, still = _shaped(kind, trial)
        _adopt(trial, source, bad)
        # What cannot stand without the place that was taken out goes with it, level by level.
        left = tuple(filter(None, (place[:-1] if place in bad else place for place in still)))
        bad = (*bad, *left)
    if value is not None:
        ruled = dataclasses.replace(source, problems=[])
        try:
            rules(value, ruled)
        except ConfigError as error:
            ruled.problems.append(((), error))
        _adopt(ruled, source, bad)
    try:
        source.settle()
    except ConfigError as error:
        error.readable = value
        raise
    assert value is not None  # noqa: S101  without a value there was a problem
    return value


def _adopt(trial: YamlSource, source: YamlSource, bad: Iterable[Loc]) -> None:
    """Note in ``source`` what a trial found, but of places that were taken out: that says nothing."""
    source.problems.extend(
        (loc, problem) for loc, problem in trial.problems if not any(_overlap(loc, b) for b in bad)
    )


_DEEPEST = 6
"""Levels of an inventory file, at the most."""


def _overlap(one: Loc, other: Loc) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


_PLACEHOLDERS: dict[Any, Any] = {str: "placeholder", int: 1, float: 1.0}


def _without(kind: type[Any], source: YamlSource, places: Iterable[Loc]) -> YamlSource:
    """The same with what stands at these places taken out, or replaced where a plain value has to be; its
    problems are its own."""
    data = copy.deepcopy(source.data)
    for place in places:
        here, holder, path = data, None, place
        for depth, step in enumerate(place, 1):
            if isinstance(here, dict):
                holder, path = here, place[:depth]
            try:
                here = here[step]
            except (LookupError, TypeError):
                break
        if holder is not None:
            value = _PLACEHOLDERS.get(_type_at(kind, path))
            holder.pop(path[-1], None)
            holder |= {} if value is None else {path[-1]: value}
    return dataclasses.replace(source, data=data, problems=[])


def _shaped(kind: type[T], source: YamlSource) -> tuple[T | None, tuple[Loc, ...]]:
    """The value, or every place where the data have another shape than it; those are noted in ``source``."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415  0.1 s, which `--help` must not pay

    if not isinstance(source.data, dict):
        raise source.error((), f"a mapping of keys was expected, found {said(source.data)}")
    try:
        # Through JSON because only there is pydantic strict about scalars ("4" is not 4) and lax about
        # shapes (a list becomes a tuple).
        return TypeAdapter(kind).validate_json(json.dumps(source.data), strict=True), ()
    except ValidationError as error:
        return None, tuple(_explain(kind, source, problem) for problem in error.errors())


def _explain(kind: type[Any], source: YamlSource, problem: Any) -> Loc:
    """Note a problem in words; returns the place that it is about."""
    loc: Loc = tuple(problem["loc"])
    parent = _type_at(kind, loc[:-1])
    keys = [f.name for f in dataclasses.fields(parent)] if dataclasses.is_dataclass(parent) else []
    if problem["type"] == "unexpected_keyword_argument":
        message = f"unknown key{nearest(str(loc[-1]), keys)}"
        remedy = f"keys here are {', '.join(keys)}"
    elif problem["type"] in ("missing", "missing_keyword_only_argument"):
        message, remedy = "this key is required", ""
    elif problem["type"] == "value_error" and _named_field(kind, loc, problem):
        loc = (*loc, _named_field(kind, loc, problem))
        message, remedy = str(problem["ctx"]["error"]).partition(": ")[2], ""
    else:
        message = f"{_expected(problem)}; found {said(problem['input'])}"
        expected = str(problem.get("ctx", {}).get("expected", ""))
        remedy = f"use one of {expected}" if problem["type"] in ("enum", "literal_error") else ""
    source.wrong(loc, message, remedy=remedy)
    return loc


def _expected(problem: Any) -> str:
    """What a place should hold, in the words of who writes the file, not of who reads it."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    if problem["type"] in ("enum", "literal_error"):
        return f"{problem['ctx']['expected']} was expected"
    return _EXPECTED.get(problem["type"], str(problem["msg"]))


def _named_field(kind: type[Any], loc: Loc, problem: Any) -> str:
    """The field that a whole value's own rule names before a colon; empty when it names none."""
    owner = _type_at(kind, loc)
    named = str(problem["ctx"]["error"]).partition(": ")[0]
    fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    return named if named in [field.name for field in fields] else ""


def said(value: Any) -> str:
    """A value as it is quoted in a message: at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type_at(kind: Any, loc: Loc) -> Any:
    """The type that a place in a file is read as; None when the place is not of a known shape."""
    for step in loc:
        kind = _without_none(kind)
        if dataclasses.is_dataclass(kind):
            kind = typing.get_type_hints(kind).get(str(step))
        else:
            arguments = typing.get_args(kind)
            if not arguments:
                return None
            kind = arguments[0] if typing.get_origin(kind) is tuple else arguments[-1]
    return _without_none(kind)


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(kind) if a is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the known name that is most like another; empty for none."""
    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
