"""What hashcat is asked to find: hashes made here of passwords picked here, and one that nobody can find.

The hash without a password makes hashcat go through everything it was given instead of stopping at the last
find: so the work of a session is known beforehand, and "exhausted" is how a right one ends.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from harness.workloads.hashing.payload.words import ALPHABET, word

BCRYPT_COST = 5
"""That of hashcat's benchmark, so that rates compare with published ones."""

_TO_BCRYPT = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)
"""base64's alphabet to that of bcrypt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A kind of hash as hashcat numbers it (``hashcat --help``, hash modes)."""

    number: int
    salted: bool
    """Salted ones are slow by design and are searched with a word list, the others with a mask."""


MODES: Mapping[str, Mode] = {
    "md5": Mode(number=0, salted=False),
    "ntlm": Mode(number=1000, salted=False),
    "sha256": Mode(number=1400, salted=False),
    "bcrypt": Mode(number=3200, salted=True),
    "md5crypt": Mode(number=500, salted=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HashVectors:
    """One mode: what the guest is told, and what only the controller knows (``planted``)."""

    mode: str
    planted: Mapping[str, str]
    """Hash to password."""
    decoy: str
    """A hash that no candidate has."""
    work: int
    """hashcat's progress at the end: candidates, times salts."""
    charset: str = ""
    """Of a mask's ``?2``; its ``?1`` is the whole alphabet."""
    mask: str = ""
    words: int = 0
    seed: int = 0

    @property
    def hashes(self) -> tuple[str, ...]:
        """All hashes in an order that does not tell the decoy."""
        return tuple(sorted((*self.planted, self.decoy)))


class _Dice:
    """Numbers that follow from a job: the same at ``prepare`` and at ``parse``, others for every job."""

    def __init__(self, name: str) -> None:
        self._name, self._turn = name, 0

    def raw(self, count: int) -> bytes:
        self._turn += 1
        return hashlib.shake_256(f"{self._name}\n{self._turn}".encode()).digest(count)

    def below(self, limit: int) -> int:
        return int.from_bytes(self.raw(24), "big") % limit

    def several(self, count: int, limit: int) -> tuple[int, ...]:
        """That many different numbers below ``limit``, or all there are."""
        found: dict[int, None] = {}
        while len(found) < min(count, limit):
            found[self.below(limit)] = None
        return tuple(found)


def ntlm(password: str) -> str:
    """NTLM, which is MD4 of UTF-16: OpenSSL 3 offers no MD4 to ``hashlib``."""
    # Not from ``passlib.hash``: that module fills itself on first use, which two threads at once break.
    from passlib.handlers.windows import nthash  # noqa: PLC0415  a part of a second

    return str(nthash.hash(password))


def md5crypt(password: str, salt: str) -> str:
    """``$1$salt$...``, for a salt of at most 8 letters or digits: Python 3.13 has no ``crypt``."""
    from passlib.handlers.md5_crypt import md5_crypt  # noqa: PLC0415

    return str(md5_crypt.using(salt=salt).hash(password))


def bcrypt(password: str, salt: bytes, cost: int) -> str:
    """``$2a$cost$...``, for a salt of 16 bytes."""
    from bcrypt import hashpw  # noqa: PLC0415

    grain = base64.b64encode(salt).rstrip(b"=").translate(_TO_BCRYPT)
    return hashpw(password.encode(), b"$2a$%02d$%s" % (cost, grain)).decode()


def _plain(mode: str, password: str) -> str:
    if mode == "ntlm":
        return ntlm(password)
    return hashlib.new(mode, password.encode(), usedforsecurity=False).hexdigest()


def _salted(mode: str, password: str, dice: _Dice) -> str:
    if mode == "bcrypt":
        return bcrypt(password, dice.raw(16), BCRYPT_COST)
    return md5crypt(password, "".join(ALPHABET[byte % 32] for byte in dice.raw(8)))


@lru_cache(maxsize=64)
def hash_vectors(mode: str, identity: str, *, planted: int, keyspace: int, words: int) -> HashVectors:
    """The vectors of one mode of one job; ``identity`` names the job for all time.

    A mask has at least ``keyspace`` candidates, a word list exactly ``words``.
    """
    dice = _Dice(f"{identity}\n{mode}")
    if MODES[mode].salted:
        return _listed(mode, dice, planted=planted, words=words)
    return _masked(mode, dice, planted=planted, keyspace=keyspace)


def _masked(mode: str, dice: _Dice, *, planted: int, keyspace: int) -> HashVectors:
    length = 1
    while 32 ** (length + 1) <= keyspace:
        length += 1
    last = min(32, -(-keyspace // 32**length))
    work = 32**length * last
    # What never changes stands at the end: hashcat varies the first letters in its inner loop.
    ending = "".join(ALPHABET[byte % 32] for byte in dice.raw(3))
    found = {}
    for index in dice.several(planted, work):
        letters = [ALPHABET[index // last // 32**n % 32] for n in range(length)]
        password = "".join(letters) + ALPHABET[index % last] + ending
        found[_plain(mode, password)] = password
    size = len(_plain(mode, "")) // 2
    return HashVectors(
        mode=mode,
        planted=found,
        decoy=dice.raw(size).hex(),
        work=work,
        charset=ALPHABET[:last],
        mask="?1" * length + "?2" + ending,
    )


def _listed(mode: str, dice: _Dice, *, planted: int, words: int) -> HashVectors:
    seed = dice.below(1 << 63)
    found = {}
    for index in dice.several(planted, words):
        password = word(seed, index)
        found[_salted(mode, password, dice)] = password
    # Of a password that is in no list.
    decoy = _salted(mode, dice.raw(12).hex(), dice)
    return HashVectors(
        mode=mode, planted=found, decoy=decoy, work=words * (len(found) + 1), words=words, seed=seed
    )
