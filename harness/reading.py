"""Readers of foreign text raise ParseError and nothing else: the one boundary around all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from harness.errors import HarnessError, ParseError

P = ParamSpec("P")
T = TypeVar("T")


def reader(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator of a function that reads text of a host, guest, file or user.

    What the text brings it to that it did not foresee (a number that is none, a place that is not there)
    means that it cannot be read, and ends as ParseError with those words; never as a traceback.
    """

    def around(read: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(read)
        def bounded(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return read(*args, **kwargs)
            except HarnessError:
                raise
            except Exception as error:
                words = f"{type(error).__name__}: {error}"[:300]
                raise ParseError(f"{what} cannot be read: {words}") from error

        return bounded

    return around
