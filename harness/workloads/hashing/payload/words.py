"""The words that passwords are searched among: the guest lists them, the controller picks some of them."""

from __future__ import annotations

ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_MASK = (1 << 64) - 1


def word(seed: int, index: int) -> str:
    """Candidate ``index``: 12 letters of splitmix64's value number ``index`` from ``seed``."""
    z = (seed + (index + 1) * 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return "".join([ALPHABET[z >> shift & 31] for shift in range(0, 60, 5)])
