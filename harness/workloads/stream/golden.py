"""What ``payload/picture.py`` draws, a second time on purpose: the planes of picture ``n``.

Colours are those of ITU-R BT.601, luma 16 to 235, which is what ffmpeg encodes. Planes are arrays of height x
width: luma, then both chroma planes with half as many rows and columns.
"""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np

from harness.workloads.render import golden as render_golden

Array = np.ndarray[Any, Any]

_ACROSS, _DOWN = 8, 5
_DARK, _LIGHT = 16, 235
_GREY = 128
_PERIOD = 1024
_BLUE, _RED = np.array([-37.797, -74.203, 112.0]), np.array([112.0, -93.786, -18.214])


def drawn(width: int, height: int, seed: int, number: int) -> tuple[Array, Array, Array]:
    """The pattern with ``number`` painted into its luma, as bytes."""
    state, noise = seed % (1 << 31), []
    for _ in range(width):
        state = (state * 1103515245 + 12345) % (1 << 31)
        noise.append((state >> 16) % 17)
    x, y = np.arange(width), np.arange(height)[:, None]
    row = 32 + np.abs(x * 5 % 320 - 160) + np.array(noise)
    shift = y * 3 + number * (2 + y // 32 % 3) + seed
    colour = (64 + np.abs(x * 2 % 256 - 128)).astype(np.uint8)
    places = np.arange(width // 2) + np.arange(height // 2)[:, None] + seed
    blue, red = (colour[(places + number * speed) % width] for speed in (1, 2))
    return _painted(row[(x + shift) % width].astype(np.uint8), number), blue, red


def rendered(width: int, height: int, seed: int, cubes: int, number: int) -> tuple[Array, Array, Array]:
    """The render workload's scene with ``number`` painted in, as bytes; chroma is the mean of four pixels."""
    picture = render_golden.shaded(width, height, seed, cubes, number % _PERIOD).astype(np.float64)
    luma = 16 + picture @ np.array([65.481, 128.553, 24.966]) / 255
    four = picture.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    size = _cell(width) // 2
    planes = []
    for weights in (_BLUE, _RED):
        plane = np.rint(_GREY + four @ weights / 255).astype(np.uint8)
        plane[: _DOWN * size, : _ACROSS * size] = _GREY
        planes.append(plane)
    return _painted(np.rint(luma).astype(np.uint8), number), planes[0], planes[1]


def _cell(width: int) -> int:
    return 16 if width >= 640 else 8


def _painted(luma: Array, number: int) -> Array:
    """With the counter in the first rows: 24 bits and their CRC, in 8 x 5 cells."""
    size = _cell(luma.shape[1])
    value = number << 16 | binascii.crc_hqx(number.to_bytes(3, "big"), 0xFFFF)
    for place in range(_ACROSS * _DOWN):
        row, column = place // _ACROSS * size, place % _ACROSS * size
        light = value >> (_ACROSS * _DOWN - 1 - place) & 1
        luma[row : row + size, column : column + size] = _LIGHT if light else _DARK
    return luma
