"""Counts and sizes that a file may give: held where data become a value, before anything is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MOST_GPUS = 256
"""GPUs of one machine, or of one guest, as the planner has it; the largest server that is sold has 16."""
MOST_MIB = 1 << 30
"""MiB of memory: a petabyte."""
LONGEST = 366 * 86400.0
"""Seconds of anything a profile or record plans: a year."""


def bounded(**limits: tuple[float, float]) -> Callable[[type[T]], type[T]]:
    """A class whose named numbers, read from data, lie between two others; None passes.

    pydantic reads the hook; whoever makes such a value in code is not held to it.
    """

    def held(kind: type[T]) -> type[T]:
        def schema(_cls: type[T], source: Any, handler: Callable[[Any], Any]) -> Any:
            from pydantic_core import core_schema  # noqa: PLC0415

            return core_schema.no_info_after_validator_function(within, handler(source))

        def within(value: T) -> T:
            for name, (low, high) in limits.items():
                number = getattr(value, name)
                if number is not None and not (math.isfinite(number) and low <= number <= high):
                    raise ValueError(f"{name}: {number} is not between {low:g} and {high:g}")
            return value

        kind.__get_pydantic_core_schema__ = classmethod(schema)  # type: ignore[attr-defined]
        return kind

    return held
