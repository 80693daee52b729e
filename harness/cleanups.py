"""What is undone at the end of a block never hides why the block ended.

Python lets the last exception win: a directory that cannot be removed would be told instead of the build that
broke in it. With ``Cleanups`` the first one goes on, and what went wrong behind it stands beside it as a note
(PEP 678), which ``told`` prints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType


class Cleanups(contextlib.ExitStack):
    """An ``ExitStack`` that ends by the exception of its block whatever its callbacks raise.

    An interrupt goes on all the same, with the cause as its note: whoever presses Ctrl-C wants an end. So
    does what was raised ``from`` the cause: that is a translation, not trouble.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """As ``ExitStack``. Raises what a callback raised only where the block itself did not break."""
        try:
            return bool(super().__exit__(kind, error, trace))
        except Exception as trouble:
            if error is None or trouble is error or trouble.__cause__ is error:
                raise
            for each in _chain(trouble, error):
                add(error, each)
            return False
        except BaseException as interrupt:
            if error is not None and interrupt is not error:
                interrupt.add_note(f"it came during this cleanup: {_sentence(error)}")
            raise


@contextlib.contextmanager
def undone_if_broken(undo: Callable[[], object]) -> Iterator[None]:
    """Call ``undo`` where the block breaks, by whatever exception, which goes on."""
    with Cleanups() as stack:
        stack.callback(undo)
        yield
        stack.pop_all()


def add(cause: BaseException, trouble: BaseException) -> None:
    """Note on ``cause`` what went wrong while it was cleaned up after."""
    cause.add_note(f"the cleanup failed too: {_sentence(trouble)}")
    for note in notes(trouble):
        cause.add_note(note)


def notes(error: BaseException) -> tuple[str, ...]:
    """What stands beside an exception, in order."""
    return tuple(getattr(error, "__notes__", ()))


def told(error: BaseException) -> str:
    """The exception in words, its notes behind it, one a line."""
    return "\n".join((str(error), *(f"  note: {note}" for note in notes(error))))


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split("\n"))
    return text or "no reason was given"


def _chain(trouble: BaseException, cause: BaseException) -> Iterator[BaseException]:
    """What several callbacks raised, the first of them first."""
    found = []
    link: BaseException | None = trouble
    while link is not None and link is not cause and link not in found:
        found.append(link)
        link = link.__context__
    yield from reversed(found)
