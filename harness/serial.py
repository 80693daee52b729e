"""Values of ``harness.model`` to and from JSON: one adapter per type, made on first use."""

from __future__ import annotations

import functools
import json
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from harness.errors import ParseError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


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


def from_data(kind: type[T], data: Any, *, source: str = "input") -> T:
    """Data as read from JSON back to a value; raises ParseError naming the place that does not fit."""
    from pydantic import ValidationError  # noqa: PLC0415

    try:
        return cast("T", _adapter(cast("Hashable", kind)).validate_python(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ParseError(f"{source}: {where}: {first['msg']}") from error


def from_json(kind: type[T], text: str | bytes, *, source: str = "input") -> T:
    """JSON text to a value; raises ParseError with the line where the JSON or the shape breaks."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(f"{source}: not JSON: {error}") from error
    return from_data(kind, data, source=source)


def strict_json(text: str) -> Any:
    """JSON text as data; raises ValueError where Python's reader is more lenient than the standard: NaN and
    infinities, and a key that an object has twice."""
    return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)


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
