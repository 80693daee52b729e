"""TensorFlow: references computed here, and nothing passes that is off by more than float32 can explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.workloads import Job, workload
from harness.workloads.tensorflow import loss_tolerance, product_fingerprint, reference_losses

TENSORFLOW = workload("tensorflow")
# As TensorFlow 2.21.0 printed them for the default parameters (api lean, on two different CPUs).
FIRST, LAST, FINGERPRINT = 2.960057497024536, 0.17107346653938293, 18446744072806476510
Line = Callable[..., bytes]


def seen(**changes: Any) -> dict[str, Any]:
    return {
        "exact_wrong": 0, "exact_fingerprint": FINGERPRINT, "rounded_error_over_bound": 0.024, "repeats": 2,
        "repeats_wrong": 0, "first_seconds": 0.03, "gflops": 18.9, "losses": [FIRST, LAST],
        "reference_losses": [2.960057544620992, 0.17107347946447993], "steps": 20, "training_seconds": 0.004,
        "numpy_seconds": 0.06, "import_seconds": 0.16, **changes,
    }  # fmt: skip


def wrong(job: Job, raw: bytes) -> list[str]:
    return [a.name for a in TENSORFLOW.parse(job, raw).answers if not a.ok]


def test_what_tensorflow_really_printed_passes(job: Job, line: Line) -> None:
    parsed = TENSORFLOW.parse(job, line("tensorflow", seen()))
    assert len(parsed.answers) == 8
    assert all(a.ok for a in parsed.answers), parsed.answers
    assert {m.name: m.value for m in parsed.measurements}["tensorflow.import_time"] == 0.16


def test_the_references_are_those_of_tensorflow_within_the_tolerance() -> None:
    first, last = reference_losses(TENSORFLOW.defaults)
    tolerance = loss_tolerance(20, 64, 16, 32)
    assert 1e-6 < tolerance < 1e-4
    assert abs(first - FIRST) < tolerance * first
    assert abs(last - LAST) < tolerance * last / 10


@pytest.mark.parametrize("size", [1, 2, 17, 128])
def test_the_fingerprint_is_that_of_the_whole_product(size: int) -> None:
    from harness.workloads.tensorflow import _integers

    a, b = (
        (_integers(np, s, size * size) % np.uint64(31)).astype(np.int64).reshape(size, size) - 15
        for s in (5, 6)
    )
    product = (a @ b).tolist()
    whole = sum((i + 1) * (j + 1) * product[i][j] for i in range(size) for j in range(size)) % (1 << 64)
    assert product_fingerprint(size, 5) == whole


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"exact_wrong": 1}, "wrong elements of the exact product"),
        ({"exact_fingerprint": FINGERPRINT + 1}, "fingerprint of the exact product"),
        ({"exact_fingerprint": None}, "fingerprint of the exact product"),
        ({"repeats_wrong": 3}, "elements that changed when repeated"),
        ({"rounded_error_over_bound": 1.01}, "rounding error of the product"),
        ({"rounded_error_over_bound": -0.5}, "rounding error of the product"),
        ({"rounded_error_over_bound": None}, "rounding error of the product"),
        ({"losses": [FIRST, LAST * 1.001]}, "last loss, relative to float64"),
        ({"losses": [FIRST * 0.999, LAST]}, "first loss, relative to float64"),
        ({"losses": [FIRST, FIRST]}, "share of the loss left after training"),
        ({"losses": [FIRST, None]}, "last loss, relative to float64"),
        ({"losses": [None, LAST]}, "share of the loss left after training"),
        ({"losses": [0.0, 0.0]}, "share of the loss left after training"),
        ({"reference_losses": [2.96, 0.2]}, "the guest's own float64 reference"),
        ({"reference_losses": [None, None]}, "the guest's own float64 reference"),
    ],
)
def test_a_wrong_value_is_named(changes: dict[str, Any], name: str, job: Job, line: Line) -> None:
    assert name in wrong(job, line("tensorflow", seen(**changes)))


@pytest.mark.parametrize(
    "changes",
    [{"steps": 19}, {"repeats": 0}, {"losses": [FIRST]}, {"losses": "2.9"}, {"losses": [True, False]},
     {"exact_wrong": -1}, {"exact_wrong": 0.0}, {"import_seconds": -1}, {"gflops": "fast"},
     {"rounded_error_over_bound": 1e300}],
)  # fmt: skip
def test_values_that_cannot_be_are_not_read(changes: dict[str, Any], job: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        TENSORFLOW.parse(job, line("tensorflow", seen(**changes)))


def test_bare_nan_is_not_json(job: Job, line: Line) -> None:
    with pytest.raises(ParseError, match="NaN"):
        TENSORFLOW.parse(job, line("tensorflow", seen(losses=[FIRST, float("nan")])))


@given(drift=st.floats(1e-4, 0.5), up=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_any_drift_beyond_float32_is_noticed(drift: float, up: bool, job: Job, line: Line) -> None:
    last = LAST * (1 + drift if up else 1 - drift)
    assert "last loss, relative to float64" in wrong(job, line("tensorflow", seen(losses=[FIRST, last])))


@pytest.mark.parametrize("parameters", [{"api": "keras"}, {"engine": "tpu"}, {"size": 0}, {"steps": 10**6}])
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], job: Job) -> None:
    with pytest.raises(ConfigError):
        TENSORFLOW.prepare(replace(job, parameters=parameters))


def test_the_payload_is_told_where_tensorflow_lies(job: Job) -> None:
    told = json.loads(TENSORFLOW.prepare(replace(job, parameters={"api": "full"}))[-1])
    assert (told["tf_dir"], told["api"], told["threads"], told["rate"]) == ("/opt/tf", "full", 2, 0.5)
