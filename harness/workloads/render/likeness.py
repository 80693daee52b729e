"""Likeness of two pictures: SSIM, PSNR, and the worst small block.

SSIM as in Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural
similarity", IEEE Transactions on Image Processing 13(4), 2004: Gaussian window of 11 x 11 with standard
deviation 1.5, K1 = 0.01, K2 = 0.03, dynamic range 255, only where the whole window lies inside.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
SMALLEST = 2 * _RADIUS + 1
"""Pixels that each edge of a picture must have."""
IDENTICAL_DB = 100.0
"""Stands for the infinite PSNR of equal pictures."""


def _blurred(picture: Array) -> Array:
    """The Gaussian window, where the whole of it lies inside; the result is 10 smaller each way."""
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415  a part of a second

    inside = slice(_RADIUS, -_RADIUS)
    return np.asarray(gaussian_filter(picture, _SIGMA, radius=_RADIUS)[inside, inside])


def ssim_map(one: Array, other: Array) -> Array:
    """SSIM of every window of two single-channel pictures with values of 0 to 255."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    mx, my = _blurred(x), _blurred(y)
    vx, vy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my
    covariance = _blurred(x * y) - mx * my
    luminance = (2 * mx * my + _C1) / (mx * mx + my * my + _C1)
    return np.asarray(luminance * (2 * covariance + _C2) / (vx + vy + _C2))


def ssim(one: Array, other: Array) -> float:
    """Mean SSIM of the worst channel: 1 for equal pictures; swapped channels do not average out."""
    channels = range(one.shape[2])
    return float(min(ssim_map(one[..., c], other[..., c]).mean() for c in channels))


def worst_block(one: Array, other: Array, side: int) -> tuple[float, int, int]:
    """The square of ``side`` pixels that differs most: mean difference in levels (0 to 255), column and row.

    The mean is that of the worst channel of each pixel; every position of the square is looked at.
    """
    apart = np.abs(one.astype(np.int64) - other.astype(np.int64)).max(axis=2)
    table = np.zeros((apart.shape[0] + 1, apart.shape[1] + 1), dtype=np.int64)
    table[1:, 1:] = apart.cumsum(axis=0).cumsum(axis=1)
    sums = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(sums.max()) / (side * side), int(column), int(row)


def psnr(one: Array, other: Array) -> float:
    """Peak signal-to-noise ratio in dB for values of 0 to 255."""
    error = float(((one.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return min(IDENTICAL_DB, 10 * math.log10(255**2 / error)) if error else IDENTICAL_DB
