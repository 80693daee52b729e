"""Values of ``harness.model`` to and from JSON: one adapter per type, made on first use.

All JSON that the harness reads goes through ``recorded_json``. What it lets through can be counted, compared
and written again: whole numbers of at most 64 bits, finite fractions, no key twice.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from harness.errors import ParseError
from harness.reading import reader

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

MOST_WHOLE = 2**64 - 1
"""Largest whole number that is read, either sign: no counter, address or size of a machine has more bits."""

_HALF = re.compile(
    r"(?<!\\)((?:\\\\)*)(?:(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|\\(u[dD][89a-fA-F][0-9a-fA-F]{2}))"
)
"""Escapes of surrogates in JSON text, behind whole backslashes (1): a whole pair (2), or half of one (3)."""


@functools.cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415  pydantic costs 0.1 s; `--help` must not pay it

    return TypeAdapter(cast("type[Any]", kind))


def to_data(value: Any) -> Any:
    """The value as JSON-ready data (dicts, lists, text, numbers); every key always present."""
    return _adapter(cast("Hashable", type(value))).dump_python(value, mode="json", by_alias=True)


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """The value as JSON text. Bare NaN and infinities, which strict JSON forbids, raise ValueError."""
    return json.dumps(to_data(value), indent=indent, allow_nan=False, ensure_ascii=True)


@reader("data")
def from_data(kind: type[T], data: Any, *, source: str = "input") -> T:
    """Data as read from JSON back to a value; raises ParseError naming the place that does not fit."""
    from pydantic import ValidationError  # noqa: PLC0415

    adapter = _adapter(cast("Hashable", kind))
    try:
        text = json.dumps(data, allow_nan=False)
        if any(match[3] for match in _HALF.finditer(text)):
            # pydantic's reader of JSON takes no half pairs; its other one takes "nan" for a number, so the
            # value is written once more.
            value = adapter.validate_python(data)
            json.dumps(adapter.dump_python(value, mode="json"), allow_nan=False)
        else:
            # Through JSON because only there is pydantic strict about scalars ("4" is not 4) and lax about
            # shapes (a list becomes a tuple).
            value = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ParseError(f"{source}: {where}: {first['msg'][:300]}") from error
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ParseError(f"{source}: {str(error)[:300]}") from error
    return cast("T", value)


@reader("JSON")
def from_json(kind: type[T], text: str | bytes, *, source: str = "input") -> T:
    """JSON text to a value; raises ParseError with the line where the JSON or the shape breaks."""
    try:
        data = recorded_json(text)
    except ValueError as error:
        raise ParseError(f"{source}: not JSON: {str(error)[:200]}") from error
    return from_data(kind, data, source=source)


def strict_json(text: str | bytes, *, beyond: float | None = None) -> Any:
    """JSON text of a host, guest or file as data: as ``recorded_json``, but half a pair of surrogates comes
    as its escape in words, as bytes that are not UTF-8 do elsewhere. Raises ValueError and nothing else.

    A number out of bounds comes as ``beyond`` where that is given: for texts in which it spoils itself only.
    """
    plain = text.decode("utf-8") if isinstance(text, bytes) else text
    if not plain.isascii():
        plain = plain.encode("utf-8", "backslashreplace").decode("utf-8")
    return recorded_json(_HALF.sub(_in_words, plain) if "\\u" in plain else plain, beyond=beyond)


def recorded_json(text: str | bytes, *, beyond: float | None = None) -> Any:
    """JSON text of ours as data, halves of pairs as they were written. Raises ValueError, and nothing else.

    Refused is what Python's reader takes beyond the standard, and what nobody can calculate with: NaN and
    infinities, also as a number that is too large, whole numbers of more than 64 bits, a key that an object
    has twice, and what is nested too deep to read.
    """
    try:
        return json.loads(
            text,
            parse_constant=_no_constant,
            parse_int=_or(whole, beyond),
            parse_float=_or(finite, beyond),
            object_pairs_hook=_no_twins,
        )
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _or(read: Callable[[str], float], beyond: float | None) -> Callable[[str], float]:
    def lenient(text: str) -> float:
        try:
            return read(text)
        except ValueError:
            return cast("float", beyond)

    return read if beyond is None else lenient


def whole(text: str) -> int:
    """A whole number from its decimal digits. Raises ValueError for none, and for more than 64 bits."""
    value = int(text) if len(text) <= 24 else MOST_WHOLE + 1
    if abs(value) > MOST_WHOLE:
        raise ValueError(f"{text[:20]} is not allowed: a whole number of more than 64 bits")
    return value


def finite(text: str) -> float:
    """A number from its decimal digits. Raises ValueError for none, and for one beyond all measure."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not allowed: not a finite number")
    return value


def _in_words(match: re.Match[str]) -> str:
    return match[1] + (match[2] or f"\\\\{match[3]}")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not strict JSON")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def json_schema(kind: type[Any]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a model type, as written to disk for readers of ``run.json``."""
    return _adapter(cast("Hashable", kind)).json_schema(mode="serialization", by_alias=True)
