"""md5crypt (``$1$``), so that the controller can make hashes without ``crypt``, which Python 3.13 dropped.

The algorithm is Poul-Henning Kamp's (FreeBSD ``libcrypt``, ``crypt-md5.c``); the tests hold it to published
hashes and to OpenSSL.
"""

from __future__ import annotations

import hashlib

_DIGITS = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ORDER = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def md5crypt(password: str, salt: str) -> str:
    """The hash ``$1$salt$...`` of ``password``; the salt is at most 8 characters of the crypt alphabet."""
    word, grain = password.encode(), salt.encode()
    inner = _md5(word + grain + word)
    mixed = word + b"$1$" + grain + (inner * (len(word) // 16 + 1))[: len(word)]
    bits = len(word)
    while bits:
        mixed += b"\0" if bits & 1 else word[:1]
        bits >>= 1
    digest = _md5(mixed)
    for turn in range(1000):
        data = word if turn & 1 else digest
        data += grain if turn % 3 else b""
        data += word if turn % 7 else b""
        data += digest if turn & 1 else word
        digest = _md5(data)
    return f"$1${salt}${_encode(digest)}"


def _encode(digest: bytes) -> str:
    out = []
    for a, b, c in _ORDER:
        out.append(_letters(digest[a] << 16 | digest[b] << 8 | digest[c], 4))
    out.append(_letters(digest[11], 2))
    return "".join(out)


def _letters(value: int, count: int) -> str:
    return "".join(_DIGITS[value >> 6 * n & 63] for n in range(count))
