"""What each word of a memory test must be, and what all of them add up to: the controller's own answers.

The values of ``harness/native/vram_patterns.h`` and ``harness/payload/memory_patterns.py``, written down once
more on purpose: a GPU, a guest's processor and its memory made those.
"""

from __future__ import annotations

CONSTANT, WALKING_ONE, WALKING_ZERO, ADDRESS, RANDOM = range(5)
WORD = (1 << 64) - 1


def value(kind: int, index: int, argument: int) -> int:
    """The word at ``index``, counted over the whole tested memory."""
    if kind == WALKING_ONE:
        return 1 << (index + argument) % 64
    if kind == WALKING_ZERO:
        return WORD - (1 << (index + argument) % 64)
    if kind == ADDRESS:
        return (8 * index) % (WORD + 1) ^ argument
    if kind == RANDOM:
        mixed = (index * 0x9E3779B97F4A7C15 + argument) % (WORD + 1)
        mixed = ((mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93) % (WORD + 1)
        return mixed ^ (mixed >> 32)
    return argument


def total(kind: int, words: int, argument: int) -> int | None:
    """The sum of the first ``words`` words, exactly; None where it has no closed form.

    Addresses are summed for the arguments 0 and all ones, which inverts them: there a word and its inverse
    add up to all ones.
    """
    if kind == CONSTANT:
        return words * argument
    if kind in (WALKING_ONE, WALKING_ZERO):
        rest = sum(1 << (index + argument) % 64 for index in range(words % 64))
        ones = words // 64 * WORD + rest
        return ones if kind == WALKING_ONE else words * WORD - ones
    if kind == ADDRESS and argument in (0, WORD):
        offsets = 4 * words * (words - 1)
        return offsets if argument == 0 else words * WORD - offsets
    return None
