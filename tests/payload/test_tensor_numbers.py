"""The payload's arithmetic against the controller's, which is written on its own."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from harness.workloads.tensor import answers as tensor
from harness.workloads.tensor import reference as tensor_reference
from harness.workloads.tensor.payload import numbers as tensor_numbers
from harness.workloads.tensor.payload import training as tensor_train

PRECISIONS = tuple(tensor_numbers.PRECISIONS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_elements_are_odd_and_exact_in_their_precision(precision: str) -> None:
    bits = tensor_numbers.PRECISIONS[precision][0]
    values = tensor_numbers.matrix(tensor_numbers.seed_of(1, precision, 0, 0), bits, 64)
    whole = values * 2.0**bits
    assert (whole == np.rint(whole)).all()
    assert (np.abs(whole) < 2.0**bits).all()
    assert (whole.astype(np.int64) % 2 == 1).all()
    narrow = {"fp32": np.float32, "fp16": np.float16, "tf32": np.float32}.get(precision, np.float64)
    assert (values.astype(narrow).astype(np.float64) == values).all()
    # Uniform in (-1, 1): mean 0, variance 1/3, each within five standard errors of 4096 values.
    assert abs(values.mean()) < 5 * (1 / 3 / values.size) ** 0.5
    assert abs((values**2).mean() - 1 / 3) < 5 * (4 / 45 / values.size) ** 0.5 + 2.0 ** (-2 * bits)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [64, 192])
def test_controller_and_payload_work_out_the_same_samples(precision: str, size: int) -> None:
    bits = tensor_numbers.PRECISIONS[precision][0]
    seeds = [tensor_numbers.seed_of(5, precision, 1, which) for which in (0, 1)]
    corners = tensor_numbers.corners(5, precision, 1, size, 3)
    wanted = tensor_reference.sampled(5, precision, 1, size, 3)
    for (row, column), value in zip(corners, wanted, strict=True):
        tile = tensor_numbers.tile(seeds, bits, size, (row, column))
        assert tile.shape == (16, 16)
        assert tile[0, 0] == pytest.approx(value, rel=1e-12, abs=1e-14)
        a, b = (tensor_numbers.matrix(seed, bits, size) for seed in seeds)
        exact = sum(
            Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a[row], b[:, column], strict=True)
        )
        assert value == float(exact)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("engine", ["cpu:tensorflow", "cpu:torch", "cuda:torch"])
def test_both_sides_hold_elements_against_the_same_bound(precision: str, engine: str) -> None:
    relative, absolute = tensor_numbers.element_bound(engine, precision, 1024)
    for exact, got in ((3.0, 3.25), (-40.0, -39.0), (0.0, 1e-3)):
        ratio = tensor_reference.sample_ratio(engine, precision, 1024, got, exact)
        assert ratio == pytest.approx(abs(got - exact) / (relative * abs(exact) + absolute))
    assert tensor_reference.sample_ratio(engine, precision, 1024, None, 1.0) is None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bounds_stay_below_what_they_must_find(precision: str) -> None:
    """At a GPU's sizes a wrong sign, or a lost exponent, of a typical element breaks the bound of an element;
    of Freivalds' check an error of a few typical elements does. Of fp8 somewhat larger ones."""
    size, (element, few) = tensor._SIZES[precision], (0.5, 6) if precision == "fp8" else (0.25, 4)
    typical = size**0.5 / 3
    relative, absolute = tensor_numbers.element_bound("cuda:torch", precision, size)
    assert relative * typical + absolute < typical * element
    assert tensor_reference.residual_bound("cuda:torch", precision, size) < few * typical


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_output_that_nobody_wrote_breaks_both_bounds(precision: str) -> None:
    size = tensor._SIZES[precision]
    exact = tensor_reference.sampled(1, precision, 0, size, 8)
    ratios = [tensor_reference.sample_ratio("cuda:torch", precision, size, 0.0, value) for value in exact]
    assert max(ratio or 0.0 for ratio in ratios) > 1
    # Freivalds' check weighs 128 elements of it together, and looks at a million such groups.
    assert tensor_reference.residual_bound("cuda:torch", precision, size) < (128 * size) ** 0.5 / 3


@pytest.mark.parametrize("carried", [True, False])
def test_a_sound_tensor_core_of_fourteen_bits_stays_far_within_the_bound(carried: bool) -> None:
    """Products added 32 at a time, aligned to the largest, cut to 14 bits; carried over every 128, or not."""
    size, rows = 16384, 32
    places = np.arange(rows * size, dtype=np.uint64)
    a, b = (tensor_numbers.elements(seed, 4, places).reshape(rows, size) for seed in (5, 6))
    total = held = np.zeros((rows, 1))
    for first in range(0, size, 32):
        terms = np.concatenate((a[:, first : first + 32] * b[:, first : first + 32], held), axis=1)
        unit = 2.0 ** (np.floor(np.log2(np.abs(terms).max(axis=1, keepdims=True))) - 13)
        held = (np.trunc(terms / unit) * unit).sum(axis=1, keepdims=True)
        if carried and (first + 32) % 128 == 0:
            total, held = total + held, np.zeros((rows, 1))
    error = np.abs(total + held - (a * b).sum(axis=1, keepdims=True)).max()
    assert error < tensor_numbers.element_bound("cuda:torch", "fp8", size)[1] / 4


@pytest.mark.parametrize(("size", "rows"), [(64, 64), (128, 128), (192, 64), (8192, 128)])
def test_tiles_divide_the_matrix(size: int, rows: int) -> None:
    assert tensor_numbers.span(size) == rows


def test_a_fingerprint_depends_on_every_value_and_its_place() -> None:
    sums = np.arange(64, dtype=np.int64).reshape(2, 4, 8)
    seen = {tensor_numbers.fingerprint(sums), tensor_numbers.fingerprint(sums[::-1])}
    for place in range(64):
        other = sums.copy()
        other.reshape(-1)[place] ^= 1 << (place % 63)
        seen.add(tensor_numbers.fingerprint(other))
    assert len(seen) == 66


def test_training_references_are_those_of_the_controller() -> None:
    job = {
        "batch": 64, "width": 16, "hidden": 32, "steps": 20, "seed": 1, "learning_rate": 0.5,
    }  # fmt: skip

    class Idle:
        def train(self, data: object, steps: int) -> tuple[list[float], list[object]]:
            return [1.0] * steps, []

    training = tensor_train.Training(Idle(), job)
    training.once()
    training.once()
    seen = training.observed()
    assert seen["reference_losses"] == pytest.approx(tensor_reference.reference_losses(job), rel=1e-12)
    assert (seen["times"], seen["differing"], seen["steps"]) == (2, 0, 20)


def test_a_training_that_ends_in_other_bits_is_counted() -> None:
    job = {
        "batch": 8, "width": 4, "hidden": 4, "steps": 2, "seed": 1, "learning_rate": 0.5,
    }  # fmt: skip
    weights = iter([1.0, 1.0, np.nextafter(np.float32(1.0), np.float32(2.0))])

    class Drifting:
        def train(self, data: object, steps: int) -> tuple[list[float], list[object]]:
            return [1.0, 0.5], [np.float32(next(weights))]

    training = tensor_train.Training(Drifting(), job)
    for _ in range(3):
        training.once()
    assert training.observed()["differing"] == 1
