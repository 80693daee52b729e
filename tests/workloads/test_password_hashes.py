"""The hashes that the controller makes itself are those of the documents that define them."""

from __future__ import annotations

import pytest

from harness.workloads.hashing.bcrypt import bcrypt, pi_words, written
from harness.workloads.hashing.md4 import md4, ntlm

_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@pytest.mark.parametrize(
    ("text", "digest"),
    [  # RFC 1320, appendix A.5
        ("", "31d6cfe0d16ae931b73c59d7e0c089c0"),
        ("a", "bde52cb31de33e46245e05fbdbd6fb24"),
        ("abc", "a448017aaf21d8525fc10ae87aa6729d"),
        ("message digest", "d9130a8164549fe818874806e1c7014b"),
        ("abcdefghijklmnopqrstuvwxyz", "d79e1c308aa5bbcdeea8ed63df412da9"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            "043f8582f241db351ce627e153e7f0e4",
        ),
        ("1234567890" * 8, "e33b4ddc9c38f2199c3e7b164fcc0536"),
    ],
)
def test_md4_is_that_of_the_rfc(text: str, digest: str) -> None:
    assert md4(text.encode()).hex() == digest


def test_ntlm_is_the_one_hashcat_gives_as_its_example() -> None:
    assert ntlm("hashcat") == "b4b9b02e6f09a9bd760f388b67351e2b"


def test_blowfish_tables_begin_and_end_with_the_published_digits_of_pi() -> None:
    words = pi_words()
    assert len(words) == 1042
    assert (words[0], words[17], words[18], words[-1]) == (0x243F6A88, 0x8979FB1B, 0xD1310BA6, 0x3AC372E6)


def _salt(hashed: str) -> bytes:
    value = 0
    for letter in hashed[7:29]:
        value = value << 6 | _DIGITS.index(letter)
    return (value >> 4).to_bytes(16, "big")


@pytest.mark.parametrize(
    ("password", "hashed"),
    [
        # jBCrypt's test vectors, which are OpenBSD's
        ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
        ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
        ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
        (
            "abcdefghijklmnopqrstuvwxyz",
            "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC",
        ),
        # crypt_blowfish, wrapper.c
        ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        ("U*U*U", "$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a"),
        # hashcat's example of mode 3200
        ("hashcat", "$2a$05$MBCzKhG1KhezLh.0LRa0Kuw12nLJtpHy6DIaU.JAnqJUDYspHC.Ou"),
    ],
)
def test_bcrypt_is_that_of_the_published_vectors(password: str, hashed: str) -> None:
    salt = _salt(hashed)
    assert bcrypt(password.encode(), salt, int(hashed[4:6])) == hashed
    assert written(salt, bytes(23), 5)[:29] == f"$2a$05${hashed[7:29]}"
