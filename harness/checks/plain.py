"""Recorded values as a person reads them in evidence: no ``None``, no tuples, no names of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any


def plain(value: object) -> str:
    """A value in plain words: ``not known`` for None, ``yes`` and ``no``, ``none`` for what is empty.

    A list is its items, a mapping and a frozen value are ``name: value`` for each part, separated by commas.
    """
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(plain(each) for each in value) or "none"
    parts = _parts(value)
    if parts is not None:
        return (
            ", ".join(f"{str(name).replace('_', ' ')}: {plain(each)}" for name, each in parts.items())
            or "none"
        )
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _parts(value: object) -> Mapping[Any, object] | None:
    """What a mapping or a frozen value is made of; None for what has words of its own (an address)."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type) or not dataclasses.is_dataclass(value) or "__str__" in vars(type(value)):
        return None
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
