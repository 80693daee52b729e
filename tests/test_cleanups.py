"""The cause is told first, and what failed while cleaning up behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.cleanups import Cleanups, notes, told, undone_if_broken
from harness.errors import ImageError, LabError, ReleaseError


def _fails(error: BaseException) -> Callable[[], None]:
    def undo() -> None:
        raise error

    return undo


def _block(cause: BaseException | None, *troubles: BaseException) -> None:
    """A block that ends by ``cause``, with cleanups that fail, the first of them first."""
    with Cleanups() as stack:
        for trouble in reversed(troubles):
            stack.callback(_fails(trouble))
        if cause is not None:
            raise cause


def test_the_cause_goes_on_with_all_that_failed_behind_it_in_order() -> None:
    cause = ImageError("the mirror does not answer", remedy="check the network")
    with pytest.raises(ImageError) as caught:
        _block(cause, LabError("QEMU does not end", remedy="look at ps"), ReleaseError("the lock is stuck"))
    assert caught.value is cause
    assert told(cause).splitlines() == [
        "the mirror does not answer",
        "  remedy: check the network",
        "  note: the cleanup failed too: QEMU does not end   remedy: look at ps",
        "  note: the cleanup failed too: the lock is stuck",
    ]


def test_nested_blocks_tell_each_failure_once() -> None:
    def nested() -> None:
        with Cleanups() as outer:
            outer.callback(_fails(LabError("two")))
            _block(ImageError("why"), LabError("one"))

    with pytest.raises(ImageError) as caught:
        nested()
    assert [note.rpartition(": ")[2] for note in notes(caught.value)] == ["one", "two"]


def test_without_a_cause_the_failure_is_the_news() -> None:
    with pytest.raises(LabError, match="stuck"):
        _block(None, LabError("stuck"))


def test_an_interrupt_during_cleanup_ends_it_and_names_the_cause() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        _block(ImageError("why"), KeyboardInterrupt())
    assert "why" in notes(caught.value)[0]


def test_an_interrupted_block_stays_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        _block(KeyboardInterrupt(), LabError("stuck"))
    assert "stuck" in notes(caught.value)[0]


def test_a_translation_of_the_cause_passes() -> None:
    def translate(_kind: object, error: BaseException | None, _trace: object) -> bool:
        raise LabError("in other words") from error

    def translated() -> None:
        with Cleanups() as stack:
            stack.push(translate)
            raise ImageError("why")

    with pytest.raises(LabError, match="in other words"):
        translated()


def test_only_a_broken_block_is_undone() -> None:
    undone: list[str] = []
    with undone_if_broken(lambda: undone.append("never")):
        pass
    cause = LabError("why")
    with pytest.raises(LabError), undone_if_broken(lambda: undone.append("once")):
        raise cause
    assert undone == ["once"]
