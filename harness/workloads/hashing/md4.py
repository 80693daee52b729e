"""MD4 (RFC 1320) and NTLM, since OpenSSL 3 no longer offers MD4 to ``hashlib``.

The tests hold it to the seven digests of RFC 1320, appendix A.5, and to hashcat's example hash of mode 1000.
"""

from __future__ import annotations

import struct

_MASK = 0xFFFFFFFF
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_ROUNDS = (
    (0, tuple(range(16)), (3, 7, 11, 19)),
    (0x5A827999, tuple(n % 4 * 4 + n // 4 for n in range(16)), (3, 5, 9, 13)),
    (0x6ED9EBA1, (0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), (3, 9, 11, 15)),
)
"""Of each round (RFC 1320, 3.4): the added constant, the order of the words, the rotations."""


def _mixed(turn: int, x: int, y: int, z: int) -> int:
    if turn == 0:
        return (x & y) | (~x & z)
    return (x & y) | (x & z) | (y & z) if turn == 1 else x ^ y ^ z


def md4(data: bytes) -> bytes:
    """The 16 bytes of MD4."""
    padded = data + b"\x80" + bytes((55 - len(data)) % 64) + struct.pack("<Q", len(data) * 8)
    state = _START
    for at in range(0, len(padded), 64):
        words = struct.unpack("<16I", padded[at : at + 64])
        a, b, c, d = state
        for turn, (constant, order, shifts) in enumerate(_ROUNDS):
            for n, index in enumerate(order):
                total = (a + _mixed(turn, b, c, d) + words[index] + constant) & _MASK
                shift = shifts[n % 4]
                a, b, c, d = d, (total << shift | total >> (32 - shift)) & _MASK, b, c
        state = tuple((old + new) & _MASK for old, new in zip(state, (a, b, c, d), strict=True))  # type: ignore[assignment]
    return struct.pack("<4I", *state)


def ntlm(password: str) -> str:
    """Windows' hash of a password: MD4 of its UTF-16, in hexadecimal."""
    return md4(password.encode("utf-16-le")).hex()
