"""Readers of foreign text raise one error of ours and nothing else: the boundary around all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from harness.errors import HarnessError, ParseError, why

P = ParamSpec("P")
T = TypeVar("T")


def reader(what: str, error: type[HarnessError] = ParseError) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of a function that reads text of a host, guest, file or user.

    What the text brings it to that it did not foresee (a number that is none, a place that is not there)
    means that it cannot be read, and ends as ``error`` with those words; never as a traceback.
    """

    def around(read: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(read)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return read(*args, **kwargs)
            except HarnessError:
                raise
            except Exception as unforeseen:
                words = why(unforeseen)[:300]
                raise error(f"{what} cannot be read: {words}") from unforeseen

        return bounded

    return around
