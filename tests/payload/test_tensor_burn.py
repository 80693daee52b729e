"""The tensor burn's verification, with numpy as its framework: what is wrong is found and named."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.workloads.tensor.payload import burn as tensor_burn
from harness.workloads.tensor.reference import residual_bound
from tests.fakes.numpy_products import NumpyProducts

JOB = {
    "engine": "cpu:torch", "precision": "fp32", "size": 64, "seed": 1, "tiles": 2, "seconds": 0, "rounds": 4,
    "duty": 1.0, "period": 1.0, "check_every": 64,
}  # fmt: skip


def burn(products: NumpyProducts, **changes: Any) -> dict[str, Any]:
    job = {**JOB, "precision": products.precision, "size": products.size, **changes}
    return tensor_burn.Burn(products, job).run()


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
@pytest.mark.parametrize("size", [64, 128, 192])
def test_an_honest_device_is_seen_as_such(precision: str, size: int) -> None:
    seen = burn(NumpyProducts(precision, size))
    assert (seen["mismatches"], seen["inputs_changed"], seen["told"]) == (0, 0, [])
    assert (seen["rounds"], seen["products"], seen["freivalds"]) == (4, 8, 4)
    assert seen["unchecked_products"] >= 2
    bound = residual_bound("cpu:torch", precision, size)
    assert 0 < seen["residual_worst"] < bound / 4
    assert 0 < seen["golden"]["tiles_worst"] < 1


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=128, max_size=128), st.integers(0, 63))
@settings(max_examples=40)
def test_a_flipped_bit_changes_its_checksum_whatever_the_other_words_hold(words: list[int], bit: int) -> None:
    """Sums modulo 2^64: the difference is 2^bit or -2^bit, and neither is 0."""
    column = np.array(words, np.int64)
    before = column.sum()
    for row in range(0, 128, 9):
        column[row] ^= np.int64(-(2**63) if bit == 63 else 1 << bit)
        after = column.sum()
        assert (int(after) - int(before)) % 2**64 in (2**bit, 2**64 - 2**bit)
        assert after != before
        column[row] ^= np.int64(-(2**63) if bit == 63 else 1 << bit)


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
def test_each_bit_of_an_element_is_found_with_its_place(precision: str) -> None:
    """Every bit there is, and elements at the edges and inside, in any block."""
    products = NumpyProducts(precision, 64, blocks=3)
    products.multiply()
    products.keep()
    bits = range(products.output_bits)
    for bit, (row, column) in itertools.product(bits, [(0, 0), (63, 63), (0, 63), (17, 40)]):
        block = (bit + row) % 3
        products.flip(block, row * 64 + column, bit)
        products.check()
        bad = products.bad()
        assert [n for n, count in enumerate(bad) if count] == [block]
        products.multiply()


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
def test_flips_during_a_burn_are_found_located_and_owned_up_to(precision: str) -> None:
    seen = burn(NumpyProducts(precision, 64, 3), rounds=100, inject=True, inject_seed=3)
    assert seen["mismatches"] == len(seen["injected"]) == 100
    assert all(flip["found"] and flip["located"] for flip in seen["injected"])
    assert len(seen["told"]) == 16
    assert {one["kind"] for one in seen["told"]} == {"stored"}
    first, flip = seen["told"][0], seen["injected"][0]
    assert {key: first[key] for key in ("block", "iteration", "row", "column")} == {
        key: flip[key] for key in ("block", "iteration", "row", "column")
    }


@pytest.mark.parametrize("precision", ["fp64", "fp32", "fp16"])
def test_flips_in_inputs_are_found_and_mended(precision: str) -> None:
    seen = burn(NumpyProducts(precision, 64, 3), rounds=60, inject_inputs=True, inject_seed=5)
    assert len(seen["injected"]) == seen["inputs_changed"] == 60
    assert all(flip["found"] for flip in seen["injected"])
    assert {one["kind"] for one in seen["told"]} == {"input changed"}


def test_an_input_that_changed_without_a_trace_in_the_output_is_found_at_the_end() -> None:
    products = NumpyProducts("fp16", 64)
    hidden = [part.copy() for part in products.inputs[1]]

    def late(block: int, product: Any, count: int) -> Any:
        if block == 1 and count == 4:
            products.inputs[1][0][5, 5] = np.float16(-0.0) if hidden[0][5, 5] == 0 else -hidden[0][5, 5]
        return products_before[block] if count > 1 else products_before.setdefault(block, product)

    products_before: dict[int, Any] = {}
    products.spoil = late
    seen = burn(products)
    assert seen["mismatches"] == 0
    assert seen["inputs_changed"] == 1
    assert seen["told"][0] | {"iteration": 0} == {
        "kind": "input changed", "block": 1, "in": "A", "iteration": 0,
    }  # fmt: skip


def test_a_transient_read_is_told_from_an_output_stored_wrong() -> None:
    products = NumpyProducts()
    spoiled = itertools.count()

    def spoil(block: int, product: Any, count: int) -> Any:
        if count == 4 and block == 0 and next(spoiled) == 0:
            products.misread = 1
        return product

    products.spoil = spoil
    seen = burn(products, rounds=6)
    assert {one["kind"] for one in seen["told"]} == {"read"}
    assert seen["mismatches"] == 2  # both blocks were misread in that round


def test_a_device_that_multiplies_otherwise_from_some_time_on_is_named_so() -> None:
    def drift(block: int, product: Any, count: int) -> Any:
        if block == 1 and count > 5:
            product[3, 7] = np.nextafter(product[3, 7], np.float32(np.inf))
        return product

    seen = burn(NumpyProducts(spoil=drift), rounds=8)
    assert seen["mismatches"] >= 2
    first = seen["told"][0]
    assert (first["kind"], first["block"]) == ("product", 1)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [(0.0, True), (1.0, False), (-1.0, True), (4.0, True), (math.nan, True), (math.inf, True)],
)
def test_a_first_product_that_is_wrong_in_one_element_does_not_become_the_golden_one(
    wrong: float, found: bool
) -> None:
    """Freivalds sees every element: a factor on the largest one of the matrix breaks the bound."""

    def stuck(block: int, product: Any, count: int) -> Any:
        place = np.unravel_index(np.abs(product).argmax(), product.shape)
        product[place] *= wrong
        return product

    with np.errstate(invalid="ignore"):
        seen = burn(NumpyProducts(spoil=stuck))
    residual = seen["golden"]["residual_worst"]
    bound = residual_bound("cpu:torch", "fp32", 64)
    assert (residual is None or residual > bound) is found


def test_a_device_that_is_wrong_in_every_element_alike_is_found_by_the_tiles_too() -> None:
    seen = burn(NumpyProducts(spoil=lambda _block, product, _count: product * np.float32(1.01)))
    assert seen["golden"]["tiles_worst"] > 10
    assert seen["golden"]["residual_worst"] > residual_bound("cpu:torch", "fp32", 64)


def test_half_precision_in_the_place_of_single_is_found() -> None:
    seen = burn(NumpyProducts(spoil=lambda _b, product, _c: product.astype(np.float16).astype(np.float32)))
    assert seen["golden"]["tiles_worst"] > 1
    assert seen["golden"]["residual_worst"] > residual_bound("cpu:torch", "fp32", 64)


def test_checks_come_as_often_as_they_are_asked_for() -> None:
    assert burn(NumpyProducts(), rounds=40, check_every=4)["freivalds"] == 2 + 10 + 2
    assert burn(NumpyProducts(), rounds=40, check_every=1)["input_checks"] == 2 + 40 + 2


def test_a_burn_lasts_its_time_and_idles_its_share() -> None:
    before = time.process_time()  # not the clock: a busy machine makes short work long
    seen = burn(NumpyProducts(), seconds=0.6, duty=0.25, period=0.1)
    assert seen["seconds"] >= 0.6
    assert time.process_time() - before < 0.6 * seen["seconds"]


def test_a_long_burn_looks_at_nearly_every_product() -> None:
    seen = burn(NumpyProducts(), seconds=1e-9, rounds=1200)
    share = seen["unchecked_products"] / (seen["products"] + seen["unchecked_products"])
    assert 0 < share < 1 / 12


def test_the_last_products_of_an_unchecked_slice_are_looked_at() -> None:
    products = NumpyProducts()
    whole = dict(JOB)
    one = tensor_burn.Burn(products, whole)
    one._prove()
    multiply, turns = products.multiply, iter(range(100))

    def spoiling() -> None:
        multiply()
        if next(turns) == 2:  # the third of three, and those that follow are right
            products.flip(0, 5, 3)

    products.multiply = spoiling  # type: ignore[method-assign]
    one._unchecked(3)
    assert one.mismatches == 1
    assert one.told[0]["kind"] == "stored"


def test_the_idle_part_of_a_pulse_ends_with_the_period() -> None:
    began = time.monotonic()
    tensor_burn._await_load(0.5, 0.05)
    phase = time.monotonic() % 0.05
    assert time.monotonic() - began < 0.06 or phase < 0.025


def test_the_cost_curve_has_a_point_for_each_size() -> None:
    def make(precision: str, size: int) -> NumpyProducts:
        return NumpyProducts(precision, size)

    job = {**JOB, "curve_seconds": 0.02}
    found = tensor_burn.cost_curve(make, job, [64, 128])
    assert [point["size"] for point in found] == [64, 128]
    assert all(point["rate"] > 0 and point["unchecked_rate"] > 0 for point in found)
    assert all(point["mismatches"] == 0 for point in found)
