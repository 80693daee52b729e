"""Numbers of the tensor workload: its data, how far a product may be from the exact one, where it is sampled.

Every matrix element is an odd integer over 2^p with p the significand bits of its precision: uniform in
(-1, 1), never zero, exact in that precision, and made from splitmix64 by position, so that the controller
(or this interpreter, beside a GPU) can compute any element of any matrix by itself.

The bound on an element rests on two statements. (1) Adding numbers in any order makes an error of at most u'
times the sum of the magnitudes of the partial sums (Higham, Accuracy and Stability of Numerical Algorithms,
2nd ed., section 4.2). (2) Products of our inputs are independent, of mean zero, sub-Gaussian with proxy 1/3
(each factor is uniform in (-1, 1)), so a partial sum of k of them exceeds LAMBDA sqrt(k/3) with probability
below 2 exp(-LAMBDA^2/2) (Hoeffding). Adding one by one is the worst order: the sum of sqrt(k) for k = 1..n is
at most 2/3 n^1.5.
"""

from __future__ import annotations

import numpy as np

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
MIX_1, MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Constants of splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""

LAMBDA = 11.0
TILE = 16
"""Edge of a tile that is compared element by element with a reference."""

PRECISIONS = {
    # name: significand bits of the inputs, unit roundoff of the output, u' of the accumulator, its length
    "fp64": (53, 2.0**-53, 2.0**-52, 0),
    "fp32": (24, 2.0**-24, 2.0**-23, 0),
    # Tensor cores truncate when they add in binary32 (Fasi, Higham, Mikaitis and Pranesh, PeerJ CS 7:e330,
    # 2021): 2^-23, and twice that for the alignment of several addends.
    "tf32": (11, 2.0**-24, 2.0**-22, 0),
    "fp16": (11, 2.0**-11, 2.0**-22, 0),
    "bf16": (8, 2.0**-8, 2.0**-22, 0),
    # e4m3 in, bfloat16 out. Hopper keeps about 14 bits while it adds, and cuBLAS without fast accumulation
    # carries over to binary32 every 128 terms (DeepSeek-V3 technical report, arXiv 2412.19437, 3.3.2).
    "fp8": (4, 2.0**-8, 2.0**-12, 128),
}

TRUNCATES = (("cpu:tensorflow", "bf16"),)
"""Engines that cut the output instead of rounding it: TensorFlow's processor kernel computes in binary32 and
drops the low half (FloatToBFloat16 of ``tensorflow/core/framework/bfloat16.h``): it may err twice as far."""


def mixed(value: int) -> int:
    """The first value of splitmix64 from that seed."""
    z = (value + GAMMA) & MASK
    z = ((z ^ (z >> 30)) * MIX_1) & MASK
    z = ((z ^ (z >> 27)) * MIX_2) & MASK
    return z ^ (z >> 31)


def seed_of(seed: int, precision: str, block: int, which: int) -> int:
    """The 64-bit seed of one matrix: ``which`` is 0 for the left one, 1 for the right one."""
    return mixed(mixed(mixed(seed) + list(PRECISIONS).index(precision)) + 2 * block + which)


def scatter(seed: int, places: Any) -> Any:
    """splitmix64's values number ``places`` (uint64 array, from 0) from ``seed``, as uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (places + np.uint64(1)) * np.uint64(GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
    return z ^ (z >> np.uint64(31))


def elements(seed: int, bits: int, places: Any) -> Any:
    """Elements number ``places`` of a matrix, float64: odd integers over 2^bits."""
    top = (scatter(seed, places) >> np.uint64(64 - bits)).astype(np.int64)
    return (2 * top + (1 - (1 << bits))).astype(np.float64) / 2.0**bits


def matrix(seed: int, bits: int, size: int) -> Any:
    """A whole square matrix, float64."""
    return elements(seed, bits, np.arange(size * size, dtype=np.uint64)).reshape(size, size)


def accumulated(precision: str, size: int) -> float:
    """u' times n sqrt(n): the common factor of the bounds.

    Of a sum in pieces, the pieces' errors are independent, and as often negative as positive (our inputs are
    symmetric), so they add up like a random walk: by the root of the number of pieces.
    """
    _, _, unit, piece = PRECISIONS[precision]
    length = min(size, piece) if piece else size
    return float(unit * length**1.5 * (size / length) ** 0.5)


def rounding(engine: str, precision: str) -> float:
    """Unit roundoff of the output."""
    return PRECISIONS[precision][1] * (2.0 if (engine, precision) in TRUNCATES else 1.0)


def element_bound(engine: str, precision: str, size: int) -> tuple[float, float]:
    """An element may lie ``first |exact| + second`` from the exact one (statements 1 and 2)."""
    return rounding(engine, precision), LAMBDA * 2 / (3 * 3**0.5) * accumulated(precision, size)


def span(size: int) -> int:
    """Rows that one checksum covers, and columns that one random vector of Freivalds' check weighs together:
    fewer make it sharper. Sizes are multiples of 64."""
    return 128 if size % 128 == 0 else 64


def corners(seed: int, precision: str, block: int, size: int, count: int) -> list[tuple[int, int]]:
    """First row and column of the sampled tiles of one product."""
    state, found = seed_of(seed, precision, block, 2), []
    for _ in range(count):
        state = mixed(state)
        room = size - TILE + 1
        found.append(((state >> 32) % room, (state & 0xFFFFFFFF) % room))
    return found


def tile(seeds: list[int], bits: int, size: int, corner: tuple[int, int]) -> Any:
    """One tile of the exact product of two matrices as float64, computed beside the device from their seeds.

    Rounding of the reference is far below the bound: products of elements of at most 24 bits are exact in
    float64, and for fp64 itself it is computed with the 64 significand bits of x87.
    """
    along = np.arange(size, dtype=np.uint64)
    rows = (np.arange(TILE, dtype=np.uint64) + np.uint64(corner[0])) * np.uint64(size)
    columns = np.arange(TILE, dtype=np.uint64) + np.uint64(corner[1])
    a = elements(seeds[0], bits, rows[:, None] + along[None, :])
    b = elements(seeds[1], bits, along[:, None] * np.uint64(size) + columns[None, :])
    if bits == 53:
        return (a.astype(np.longdouble) @ b.astype(np.longdouble)).astype(np.float64)
    return a @ b


def signs(seed: int, count: int) -> Any:
    """``count`` signs, -1.0 or 1.0."""
    top = scatter(seed, np.arange(count, dtype=np.uint64)) >> np.uint64(63)
    return top.astype(np.float64) * 2.0 - 1.0


def fingerprint(sums: Any) -> int:
    """64 bits that depend on every value of an int64 array and on its place."""
    flat = np.ascontiguousarray(sums).reshape(-1).view(np.uint64)
    with np.errstate(over="ignore"):
        spread = scatter(1, np.arange(flat.size, dtype=np.uint64))
        z = (flat ^ spread) * np.uint64(MIX_1)
        z = (z ^ (z >> np.uint64(29))) * np.uint64(MIX_2)
        return int((z ^ (z >> np.uint64(32))).sum(dtype=np.uint64))


def finite(value: float) -> float | None:
    """The value, or None for NaN and infinities, which strict JSON cannot say."""
    return value if value - value == 0.0 else None
