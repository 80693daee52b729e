"""The hashes that the controller makes are those of the documents that define them."""

from __future__ import annotations

import base64

import pytest

from harness.workloads.hashing.vectors import _TO_BCRYPT, bcrypt, md5crypt, ntlm


def test_ntlm_is_the_one_hashcat_gives_as_its_example() -> None:
    assert ntlm("hashcat") == "b4b9b02e6f09a9bd760f388b67351e2b"
    assert ntlm("") == "31d6cfe0d16ae931b73c59d7e0c089c0"  # MD4 of nothing, RFC 1320, appendix A.5


@pytest.mark.parametrize(
    ("password", "salt", "hashed"),
    [
        # openssl passwd -1
        ("x", "abcdefgh", "$1$abcdefgh$znAnv9M.XU2pRYfmSs46h/"),
        # hashcat's example of mode 500
        ("hashcat", "28772684", "$1$28772684$iEwNOgGugqO9.bIz5sk8k/"),
    ],
)
def test_md5crypt_is_that_of_published_hashes(password: str, salt: str, hashed: str) -> None:
    assert md5crypt(password, salt) == hashed


def _salt(hashed: str) -> bytes:
    back = bytes.maketrans(bytes(_TO_BCRYPT[n] for n in range(256)), bytes(range(256)))
    return base64.b64decode(hashed[7:29].encode().translate(back) + b"==")


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
    assert bcrypt(password, _salt(hashed), int(hashed[4:6])) == hashed
