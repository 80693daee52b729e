"""The words of the kernels' ``vram_patterns.h`` made by a processor: in a guest a block at a time, and by the
controller one by one, to know what each of them must be and what all of them add up to.

A block is one large Python integer, its words the lanes: arithmetic on all of them is one operation of the
interpreter, so that an emulated guest without NumPy still fills its memory in reasonable time.
"""

from __future__ import annotations

CONSTANT, WALKING_ONE, WALKING_ZERO, ADDRESS, RANDOM = range(5)
_GOLDEN, _FACTOR = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
WORD = (1 << 64) - 1


def value(kind: int, index: int, argument: int) -> int:
    """One word, as ``sd_value`` has it."""
    if kind == WALKING_ONE:
        return 1 << ((index + argument) & 63)
    if kind == WALKING_ZERO:
        return WORD ^ 1 << ((index + argument) & 63)
    if kind == ADDRESS:
        return index * 8 & WORD ^ argument
    if kind == RANDOM:
        z = (index * _GOLDEN + argument) & WORD
        z = (z ^ z >> 32) * _FACTOR & WORD
        return z ^ z >> 32
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


class Blocks:
    """Makes blocks of ``words`` words (an even number)."""

    def __init__(self, words: int) -> None:
        self.words = words
        lanes = words // 2  # of 128 bits: room for the product of two words
        self._ones = int.from_bytes((1).to_bytes(16, "little") * lanes, "little")
        self._low = self._ones * WORD
        ramp = [(2 * n * _GOLDEN & WORD).to_bytes(16, "little") for n in range(lanes)]
        self._ramp = int.from_bytes(b"".join(ramp), "little")
        offsets = [(16 * n).to_bytes(8, "little") + (16 * n + 8).to_bytes(8, "little") for n in range(lanes)]
        self._offsets = int.from_bytes(b"".join(offsets), "little")
        self._every = self._ones | self._ones << 64
        ones = b"".join([(1 << n).to_bytes(8, "little") for n in range(64)])
        zeros = b"".join([(WORD ^ 1 << n).to_bytes(8, "little") for n in range(64)])
        self._walks = {WALKING_ONE: ones, WALKING_ZERO: zeros}

    def block(self, kind: int, first: int, argument: int) -> bytes:
        """Words ``first`` to ``first + words`` of a pattern, as memory holds them (little-endian)."""
        size = 8 * self.words
        if kind in self._walks:
            start = 8 * ((first + argument) & 63)
            return (self._walks[kind] * (self.words // 64 + 2))[start : start + size]
        if kind == ADDRESS:
            lanes = (self._offsets + self._every * (8 * first)) ^ (self._every * argument)
            return lanes.to_bytes(size, "little")
        if kind == RANDOM:
            start = first * _GOLDEN + argument
            return (self._hash(start) | self._hash(start + _GOLDEN) << 64).to_bytes(size, "little")
        return argument.to_bytes(8, "little") * self.words

    def _hash(self, start: int) -> int:
        z = (self._ramp + self._ones * (start & WORD)) & self._low
        z = (z ^ z >> 32 & self._low) * _FACTOR & self._low
        return z ^ z >> 32 & self._low
