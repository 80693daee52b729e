"""The TensorFlow job's arithmetic, with engines that compute in numpy: right, and wrong in known ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.payload import tensorflow_job as payload

JOB = {"batch": 64, "width": 16, "hidden": 32, "steps": 20, "seed": 1, "rate": 0.5}


class Numpy32:
    """float32 throughout, as TensorFlow computes; ``spoil`` may change a product."""

    def __init__(self, spoil: Any = None, learns: bool = True) -> None:
        self.spoil, self.learns, self.calls = spoil or (lambda c, n: c), learns, 0

    def product(self, a: Any, b: Any) -> Any:
        self.calls += 1
        return self.spoil((a @ b).copy(), self.calls)

    def step(self, x: Any, y: Any, rate: Any, w1: Any, w2: Any) -> tuple[float, Any, Any]:
        h = np.tanh(x @ w1)
        miss = h @ w2 - y
        g1, g2 = x.T @ ((miss @ w2.T) * (1 - h * h)), h.T @ miss
        loss = float((miss * miss).sum() / 2)
        return (loss, w1 - rate * g1, w2 - rate * g2) if self.learns else (loss, w1, w2)


def one_bit(c: Any, call: int) -> Any:
    c[3, 5] += 1 if call == 1 else 0
    return c


def late(c: Any, call: int) -> Any:
    c[0, 0] += 1 if call == 4 else 0
    return c


def coarse(c: Any, call: int) -> Any:
    return c.astype(np.float16).astype(np.float32) if call == 2 else c


def not_a_number(c: Any, call: int) -> Any:
    c[1, 1] = np.nan
    return c


def test_an_honest_engine_is_seen_as_such() -> None:
    seen = payload.products(np, Numpy32(), 64, 3, 1)
    assert (seen["exact_wrong"], seen["repeats_wrong"], seen["repeats"]) == (0, 0, 3)
    assert 0 < seen["rounded_error_over_bound"] < 0.5
    seen = payload.training(np, Numpy32(), JOB)
    assert seen["losses"] == pytest.approx(seen["reference_losses"], rel=1e-5)
    assert seen["losses"][1] < seen["losses"][0] / 4


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (one_bit, "exact_wrong"),
        (late, "repeats_wrong"),
        (not_a_number, "exact_wrong"),
        (not_a_number, "repeats_wrong"),
    ],
)
def test_one_wrong_element_is_counted(spoil: Any, name: str) -> None:
    assert payload.products(np, Numpy32(spoil), 64, 3, 1)[name] >= 1


def test_a_product_in_half_precision_breaks_the_bound() -> None:
    assert payload.products(np, Numpy32(coarse), 64, 0, 1)["rounded_error_over_bound"] > 1


def test_what_is_not_finite_is_said_as_null() -> None:
    seen = payload.products(np, Numpy32(not_a_number), 8, 0, 1)
    assert seen["rounded_error_over_bound"] is None
    assert seen["exact_fingerprint"] is None
    assert seen["gflops"] is None


def test_an_engine_that_does_not_learn_keeps_its_loss() -> None:
    seen = payload.training(np, Numpy32(learns=False), JOB)
    assert seen["losses"][0] == seen["losses"][1] > seen["reference_losses"][1] * 4
