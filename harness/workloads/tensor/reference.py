"""What a tensor burn must have computed, worked out here: elements in exact integers, bounds, losses.

The arithmetic of ``payload/numbers.py`` and ``training.py``, written down a second time on
purpose: the guest's interpreter, memory and processor worked out those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MASK = (1 << 64) - 1
_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
PRECISIONS = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8")
_BITS = {"fp64": 53, "fp32": 24, "tf32": 11, "fp16": 11, "bf16": 8, "fp8": 4}
"""Significand bits of the inputs: IEEE 754, and OCP's e4m3."""
_OUTPUT = {"fp64": -53, "fp32": -24, "tf32": -24, "fp16": -11, "bf16": -8, "fp8": -8}
"""Exponent of the output's unit roundoff; an fp8 product comes out as bfloat16."""
_INNER = {"fp64": -52, "fp32": -23, "tf32": -22, "fp16": -22, "bf16": -22, "fp8": -12}
"""Exponent of twice the accumulator's unit roundoff, twice that again where tensor cores truncate (Fasi,
Higham, Mikaitis and Pranesh, PeerJ CS 7:e330, 2021). fp8: about 14 bits on Hopper, carried over to binary32
every 128 terms (DeepSeek-V3 technical report, arXiv 2412.19437, 3.3.2). These pieces' errors are independent
and of either sign, so they add up like a random walk: were each counted at its worst, the bound for an
element at n = 16384 would be 190, four times the elements themselves, and would find nothing."""
_PIECE = {"fp8": 128}
_TILE = 16
_SIGMAS, _LAMBDA = 10.0, 11.0


def _next(state: int) -> int:
    z = (state + _GAMMA) & _MASK
    z = ((z ^ z >> 30) * _FIRST) & _MASK
    z = ((z ^ z >> 27) * _SECOND) & _MASK
    return z ^ z >> 31


def _matrix_seed(seed: int, precision: str, block: int, which: int) -> int:
    return _next(_next(_next(seed) + PRECISIONS.index(precision)) + 2 * block + which)


def _odd(np: Any, seed: int, bits: int, places: Any) -> list[int]:
    """Numerators of the elements at ``places``, over 2^bits."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (places + np.uint64(1)) * np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
        z ^= z >> np.uint64(31)
    found: list[int] = (2 * (z >> np.uint64(64 - bits)).astype(np.int64) + 1 - (1 << bits)).tolist()
    return found


def sampled(seed: int, precision: str, block: int, size: int, count: int) -> list[float]:
    """Exact values, correctly rounded, of the first element of each sampled tile of one product."""
    import numpy as np  # noqa: PLC0415  numpy costs a tenth of a second; listing workloads must not pay it

    bits, state, found = _BITS[precision], _matrix_seed(seed, precision, block, 2), []
    along = np.arange(size, dtype=np.uint64)
    for _ in range(count):
        state = _next(state)
        row, column = (state >> 32) % (size - _TILE + 1), (state & 0xFFFFFFFF) % (size - _TILE + 1)
        left, right = (_matrix_seed(seed, precision, block, which) for which in (0, 1))
        a = _odd(np, left, bits, along + np.uint64(row * size))
        b = _odd(np, right, bits, along * np.uint64(size) + np.uint64(column))
        found.append(sum(x * y for x, y in zip(a, b, strict=True)) / (1 << 2 * bits))
    return found


def _unit(engine: str, precision: str) -> float:
    # TensorFlow's processor kernel drops the low half of binary32 instead of rounding it (FloatToBFloat16 of
    # tensorflow/core/framework/bfloat16.h).
    cut = (engine, precision) == ("cpu:tensorflow", "bf16")
    return math.ldexp(1.0, _OUTPUT[precision] + cut)


def _accumulated(precision: str, size: int) -> float:
    piece = min(size, _PIECE.get(precision, size))
    return math.ldexp(piece * math.sqrt(size), _INNER[precision])


def sample_ratio(engine: str, precision: str, size: int, got: float | None, exact: float) -> float | None:
    """Error of one element over the bound for it; None when there is no element.

    Rounding while adding errs by at most u' times the magnitudes of all partial sums (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., 4.2). A partial sum of k of our products, independent, of mean
    zero and sub-Gaussian with proxy 1/3, exceeds 11 sqrt(k/3) with probability below 2 exp(-60) (Hoeffding);
    adding one by one is the worst order, where the square roots add up to 2/3 n^1.5.
    """
    if got is None:
        return None
    inner = _LAMBDA * 2 / (3 * math.sqrt(3)) * _accumulated(precision, size)
    return abs(got - exact) / (_unit(engine, precision) * abs(exact) + inner)


def residual_bound(engine: str, precision: str, size: int) -> float:
    """How large |C x - A (B x)| may be when x has random signs on 128 columns (64, where those divide the
    matrix only).

    Fresh signs are independent of the errors that they weigh, so the residual exceeds ten times the errors'
    2-norm with probability below 2 exp(-50) = 4e-22 (Hoeffding). That norm is taken as twice what is expected
    of rounding while adding (partial sums of typical size sqrt(k)/3 each) and of rounding the output, and
    four times what the check's own sums in float64 can be off.
    """
    inner = 2 * 2 / 9 * _accumulated(precision, size)
    output = 2 * _unit(engine, precision) * math.sqrt(size) / 3
    own = 4 * 2 / 9 * math.ldexp(size**1.5, -52)
    return _SIGMAS * math.sqrt(128 if size % 128 == 0 else 64) * (inner + output + own)


def loss_tolerance(steps: int, batch: int, width: int, hidden: int) -> float:
    """How far a float32 loss may lie from the float64 one, relative.

    First order of the bound on one inner product, n u / (1 - n u) with u = 2^-24 (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.1), with n the longest sum of a step, carried
    through all steps. Healthy machines stay a hundred times below it (1e-8 to 2e-7 for the defaults).
    """
    return (steps + 1) * max(batch, width, hidden) * 2.0**-24


def _fractions(np: Any, seed: int, rows: int, columns: int) -> Any:
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, rows * columns + 1, dtype=np.uint64) * np.uint64(_GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    values = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64)
    return values.reshape(rows, columns) / 2.0**23 - 1.0


def reference_losses(given: Mapping[str, Any]) -> tuple[float, float]:
    """First and last loss of the training run in float64."""
    import numpy as np  # noqa: PLC0415

    batch, width, hidden, seed = (given[k] for k in ("batch", "width", "hidden", "seed"))
    x = _fractions(np, seed + 10, batch, width)
    hidden_layer = np.tanh(x @ _fractions(np, seed + 11, width, hidden))
    y = (hidden_layer @ _fractions(np, seed + 12, hidden, 1)).astype(np.float32).astype(np.float64)
    w1, w2 = (_fractions(np, seed + 13, width, hidden) / 4, _fractions(np, seed + 14, hidden, 1) / 4)
    rate = float(np.float32(float(given["learning_rate"]) / batch))
    losses = []
    for _ in range(given["steps"]):
        h = np.tanh(x @ w1)
        miss = h @ w2 - y
        losses.append(float((miss**2).sum()) / 2 / batch)
        g1, g2 = x.T @ ((miss @ w2.T) * (1 - h**2)), h.T @ miss
        w1, w2 = w1 - rate * g1, w2 - rate * g2
    return losses[0], losses[-1]
