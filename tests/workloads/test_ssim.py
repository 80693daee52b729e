"""Likeness: the published formula, and blocks that a mean over the picture would hide."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.workloads.render.likeness import IDENTICAL_DB, psnr, ssim, ssim_map, worst_block


def noise(*shape: int, seed: int = 1) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def plainly(x: np.ndarray, y: np.ndarray) -> float:  # type: ignore[type-arg]
    """SSIM of one 11 x 11 window, written as the paper's equation 13 with weighted sums."""
    ramp = [math.exp(-(n**2) / (2 * 1.5**2)) for n in range(-5, 6)]
    w = np.outer(ramp, ramp) / sum(ramp) ** 2
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
    cov = (w * (x - mx) * (y - my)).sum()
    c1, c2 = 6.5025, 58.5225
    return float((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))


def test_each_window_has_the_published_value() -> None:
    x, y = noise(14, 13), noise(14, 13, seed=2)
    found = ssim_map(x, y)
    assert found.shape == (4, 3)
    for row in range(4):
        for column in range(3):
            window = np.s_[row : row + 11, column : column + 11]
            assert found[row, column] == pytest.approx(plainly(x[window], y[window]), abs=1e-9)


def test_equal_pictures_are_1_and_swapped_channels_are_not() -> None:
    x = noise(20, 20, 3)
    assert ssim(x, x) == pytest.approx(1.0)
    assert ssim(x, x[..., ::-1]) < 0.2


def test_a_picture_of_one_wrong_channel_is_judged_by_that_channel() -> None:
    x = noise(30, 30, 3)
    y = x.copy()
    y[..., 2] = 255 - y[..., 2]
    assert ssim(x, y) < 0


def test_the_worst_block_is_found_where_it_is() -> None:
    x = np.zeros((40, 60, 3), dtype=np.uint8)
    y = x.copy()
    y[11:19, 33:41, 1] = 100
    assert worst_block(x, y, 8) == (100.0, 33, 11)
    assert worst_block(x, x, 8)[0] == 0.0


def test_psnr_has_the_known_value() -> None:
    x = np.full((8, 8), 100, dtype=np.uint8)
    assert psnr(x, x + 1) == pytest.approx(48.1308, abs=1e-4)
    assert psnr(x, x) == IDENTICAL_DB
