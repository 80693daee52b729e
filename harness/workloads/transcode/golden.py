"""What frames of ``transcode`` must be: the MD5 of each that is drawn, and of those of the reference streams.

The guest draws the same frames, by its own interpreter, memory and CPU. The reference streams lie beside the
payload; any right decoder makes the same frames of them, since H.264, HEVC and AV1 leave it no choice.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from harness.workloads.transcode.payload.source import frames

REFERENCES: dict[str, tuple[str, ...]] = {
    "h264": (
        "83ff507f38c24061cae52ef2f2779250",
        "8e7623b38cf59424ddc3f5e2dca65db3",
        "02102fe6a6f86aedff4c4360280afdbc",
        "2a1cef271382a83d98b3bf6e196b71ed",
        "e452b1ca4ae4b06fbbbf1065f8187a33",
        "0713a10fb4af821f7a02abf99276c578",
        "394535f81415d6d3597b7ea4d1bbebd3",
        "d62d9424fa5f913f57275a6a5b68d07c",
        "cdcb2f40465ffc816e4934ec4639a3ea",
        "91d1571d3d8babe1ae56cb3ad918c504",
        "6145e3d8e3b10561286b3d8dc3a3b21a",
        "957047184e1096a44692ac0629546d5b",
    ),
    "hevc": (
        "a64dfe998eef1bf636cad39bf0c2f27e",
        "aa3dd865307cc45a83536c01a53aa4e9",
        "3574ca0d7e4c1631aa167e8214cb9cb7",
        "03ea9f3ab0070f08fa1bae7501dcfc3c",
        "c61e7f02d8cb12aaa05008379c627d0a",
        "84b9276de5c8aa3acb1f7e5d97ff74d5",
        "5c24563971f29c485611c1933cb34303",
        "9d9fe795036b4ec63aa04d7b0c6b71ee",
        "6904b4169086967ffd0413e661627f2b",
        "5da235df028786ddb5b0a58c44247570",
        "41aca26207f2fd42c974f8b08aceeb9c",
        "ac3fafd71860ecc6ca79a30406c30383",
    ),
    "hevc10": (
        "a7f43ea84990d2015001242f81ba4589",
        "293770c0d2380868d3bb065512312aa9",
        "0b7d701973968f3738bdf3cc1d9a25d6",
        "6db4d6de59db0c4394ea4320222e8391",
        "aa69c23631e28d925a977a4eedbff10a",
        "06d7138ed10f58818a4f302c694c5909",
        "97ade36d5ca5ca7632ea3852c4f5857e",
        "03545873227a8be17d50b0667e39cecc",
        "63a22ea3ce910bb831a9edaa86cae1cf",
        "eb50d566917028c8fa39a9a2e4d29cbf",
        "8bc945cd999ceace7eb3f1d1e7962bc0",
        "e900006dd050106cf0116c30fa6ff43f",
    ),
    "av1": (
        "652333178553173ac0144b1e6f7854fd",
        "4cd2660648f3bb33760ad799e3fba01d",
        "8d8408465ef5a1961ae24ef14fc9c17e",
        "1f573e26b2c37cb300fbaf746f89ac38",
        "af10c022ec44296d29d8aefc06528279",
        "369ddec03914e7c8ecb24231e42465f1",
        "15d776fd7369b4c17bc54713402d5bb1",
        "d2b7af44f150a8ea439dc1460943d16e",
        "37a94777b76353c11e7f4daa81d97438",
        "71501c67650322baf822172c15ad7e99",
        "04d1b6a712f6e7486b936879e876a688",
        "dca410de6c8bff70558259c2d3cbf8f3",
    ),
    "av110": (
        "a0b4e1bde1d772d7414e968bc08f3d6f",
        "807baff4619801a8f91280a7f97cf64d",
        "e8b6944883488f96be88dadc9a7795a8",
        "40808ff978426b604201cce1f610d86f",
        "30cacac589f00d8a48a47c677c133857",
        "1b534d46d992c9a4c28a6a70b80204ea",
        "7a4c15988ebbb5c1ab9e6b9d053a0709",
        "2bff08d5fd9585d978bf55df6525f32d",
        "fd8cb86bd520c4225d6ff156e0afb0b9",
        "631b4718e80763fa6177cbcdbbae63f4",
        "328ee9fec7728e451c46002ea0c922a1",
        "507ee63b6eb3572d0f37924c2008d39b",
    ),
}
"""MD5 of each frame of ``transcode-<codec>.mkv``, as nv12 or p010le.

Streams of 256 x 144 made with libx264 164, libx265 3.5 and libaom 3.6. The frames are the same by ffmpeg 5.1
(libavcodec 59, with and without SIMD; libdav1d 1.0 and libaom 3.6 for AV1), by libavcodec 62 (FFmpeg 8) and,
for HEVC, by libde265.
"""


@lru_cache(maxsize=32)
def source_hashes(width: int, height: int, bits: int, count: int, seed: int) -> tuple[str, ...]:
    """MD5 of each frame of a clip, as ffmpeg's framemd5 muxer gives for raw video."""
    return tuple(
        hashlib.md5(frame, usedforsecurity=False).hexdigest()
        for frame in frames(width, height, bits, count, seed)
    )
