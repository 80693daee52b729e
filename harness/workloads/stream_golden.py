"""What ``harness/payload/stream_picture.py`` draws, a second time on purpose: the luma of picture ``n``.

Luma is that of ITU-R BT.601, 16 to 235, which is what ffmpeg encodes. Pictures are arrays of height x width.
"""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np

from harness.workloads import render_golden

Array = np.ndarray[Any, Any]

_ACROSS, _DOWN = 8, 5
_DARK, _LIGHT = 16, 235
_PERIOD = 1024


def drawn(width: int, height: int, seed: int, number: int) -> Array:
    """The pattern with ``number`` painted in, as bytes."""
    state, noise = seed % (1 << 31), []
    for _ in range(width):
        state = (state * 1103515245 + 12345) % (1 << 31)
        noise.append((state >> 16) % 17)
    x, y = np.arange(width), np.arange(height)[:, None]
    row = 32 + np.abs(x * 5 % 320 - 160) + np.array(noise)
    shift = y * 3 + number * (2 + y // 32 % 3) + seed
    return _painted(row[(x + shift) % width].astype(np.uint8), number)


def rendered(width: int, height: int, seed: int, cubes: int, number: int) -> Array:
    """The render workload's scene with ``number`` painted in, as bytes."""
    picture = render_golden.shaded(width, height, seed, cubes, number % _PERIOD).astype(np.float64)
    luma = 16 + picture @ np.array([65.481, 128.553, 24.966]) / 255
    return _painted(np.rint(luma).astype(np.uint8), number)


def _painted(luma: Array, number: int) -> Array:
    """With the counter in the first rows: 24 bits and their CRC, in 8 x 5 cells."""
    size = 16 if luma.shape[1] >= 640 else 8
    value = number << 16 | binascii.crc_hqx(number.to_bytes(3, "big"), 0xFFFF)
    for place in range(_ACROSS * _DOWN):
        row, column = place // _ACROSS * size, place % _ACROSS * size
        light = value >> (_ACROSS * _DOWN - 1 - place) & 1
        luma[row : row + size, column : column + size] = _LIGHT if light else _DARK
    return luma
