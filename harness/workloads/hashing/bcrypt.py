"""bcrypt (``$2a$``), so that the controller can make hashes of passwords it picked itself.

The algorithm is Provos' and Mazieres' ("A Future-Adaptable Password Scheme", USENIX 1999). Blowfish's
tables are the binary digits of pi behind the point (Schneier, 1993), so they are computed here, not typed
in. The tests hold it to the vectors that jBCrypt, crypt_blowfish and hashcat publish. A hash of cost 5 takes
a fraction of a second: plain Python on purpose, since the controller needs two or three of them.
"""

from __future__ import annotations

import struct
from functools import lru_cache

_MASK = 0xFFFFFFFF
_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TABLE_WORDS = 18 + 4 * 256
_TEXT = b"OrpheanBeholderScryDoubt"


def _arctan_inverse(x: int, one: int) -> int:
    """arctan(1/x) as a fixed-point number, ``one`` being 1."""
    term = total = one // x
    n, square = 3, x * x
    while term:
        term = -term // square
        total += term // n
        n += 2
    return total


@lru_cache(maxsize=1)
def pi_words() -> tuple[int, ...]:
    """The 1042 32-bit words of pi's fraction that fill Blowfish's tables (Machin's formula)."""
    guard = 64
    one = 1 << (32 * _TABLE_WORDS + guard)
    pi = 4 * (4 * _arctan_inverse(5, one) - _arctan_inverse(239, one))
    fraction = (pi - 3 * one) >> guard
    return struct.unpack(f">{_TABLE_WORDS}I", fraction.to_bytes(4 * _TABLE_WORDS, "big"))


class _Blowfish:
    def __init__(self) -> None:
        words = list(pi_words())
        self.p = words[:18]
        self.s = [words[18 + 256 * n : 18 + 256 * (n + 1)] for n in range(4)]

    def encrypt(self, left: int, right: int) -> tuple[int, int]:
        p, (s0, s1, s2, s3) = self.p, self.s
        for n in range(0, 16, 2):
            left ^= p[n]
            right ^= (
                ((s0[left >> 24] + s1[left >> 16 & 255]) ^ s2[left >> 8 & 255]) + s3[left & 255]
            ) & _MASK
            right ^= p[n + 1]
            left ^= (
                ((s0[right >> 24] + s1[right >> 16 & 255]) ^ s2[right >> 8 & 255]) + s3[right & 255]
            ) & _MASK
        return right ^ p[17], left ^ p[16]

    def expand(self, key: tuple[int, ...], salt: tuple[int, ...]) -> None:
        """ExpandKey: ``key`` has 18 words, ``salt`` four (zeros for the plain key schedule)."""
        self.p = [word ^ key[n] for n, word in enumerate(self.p)]
        left = right = turn = 0
        for box in (self.p, *self.s):
            for n in range(0, len(box), 2):
                left, right = self.encrypt(left ^ salt[turn], right ^ salt[turn + 1])
                box[n], box[n + 1] = left, right
                turn ^= 2


def _encoded(data: bytes) -> str:
    bits = int.from_bytes(data, "big") << (-len(data) * 8 % 6)
    count = (len(data) * 8 + 5) // 6
    return "".join(_DIGITS[bits >> 6 * n & 63] for n in reversed(range(count)))


def written(salt: bytes, digest: bytes, cost: int) -> str:
    """``$2a$cost$`` and the 22 and 31 letters of a 16-byte salt and a 23-byte digest."""
    return f"$2a${cost:02}${_encoded(salt)}{_encoded(digest)}"


def bcrypt(password: bytes, salt: bytes, cost: int) -> str:
    """The hash of at most 72 bytes of ``password``; the salt has 16 bytes, the cost is 4 to 31."""
    cycled = (password + b"\0") * (72 // (len(password) + 1) + 1)
    key = struct.unpack(">18I", cycled[:72])
    grain = struct.unpack(">4I", salt)
    grain_as_key = tuple(grain[n % 4] for n in range(18))
    cipher, none = _Blowfish(), (0, 0, 0, 0)
    cipher.expand(key, grain)
    for _ in range(1 << cost):
        cipher.expand(key, none)
        cipher.expand(grain_as_key, none)
    words = list(struct.unpack(">6I", _TEXT))
    for _ in range(64):
        for n in (0, 2, 4):
            words[n], words[n + 1] = cipher.encrypt(words[n], words[n + 1])
    return written(salt, struct.pack(">6I", *words)[:23], cost)
