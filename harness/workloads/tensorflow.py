"""TensorFlow: matrix products and a training run, against references computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ConfigError, ParseError
from harness.model.evidence import Answer
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    Scalar,
    at_most,
    command,
    exact,
    measure,
    report_of,
    settings,
)

_DEFAULTS: dict[str, Scalar] = {
    "api": "lean",
    "engine": "cpu",
    "size": 128,
    "repeats": 2,
    "seed": 1,
    "batch": 64,
    "width": 16,
    "hidden": 32,
    "steps": 20,
    "learning_rate": 0.5,
    # Twenty steps leave 3 to 9 % of the first loss for seeds 1 to 10; a run that does not learn leaves all.
    "max_loss_share": 0.25,
}
_UNIT = 2.0**-24
_REFERENCE_TOLERANCE = 1e-9
"""Two float64 runs of the same 20 steps differ by reordered sums only: some 1e-13."""


def loss_tolerance(steps: int, batch: int, width: int, hidden: int) -> float:
    """How far a float32 loss may lie from the float64 one, relative.

    First order of the bound on one inner product, n u / (1 - n u) with u = 2^-24 (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.1), with n the longest sum of a step, carried
    through all steps. Healthy machines stay a hundred times below it (1e-8 to 2e-7 for the defaults).
    """
    return (steps + 1) * max(batch, width, hidden) * _UNIT


def _integers(np: Any, seed: int, count: int) -> Any:
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _fractions(np: Any, seed: int, rows: int, columns: int) -> Any:
    values = (_integers(np, seed, rows * columns) >> np.uint64(40)).astype(np.float64)
    return values.reshape(rows, columns) / 2.0**23 - 1.0


def product_fingerprint(size: int, seed: int) -> int:
    """The sum of (i+1)(j+1)C[i,j] modulo 2^64 for the exact product C = A B, without computing C.

    It equals the sum over k of (sum of (i+1)A[i,k]) (sum of (j+1)B[k,j]): n² work instead of n³.
    """
    import numpy as np  # noqa: PLC0415  numpy costs a tenth of a second; listing workloads must not pay it

    a, b = (
        (_integers(np, s, size * size) % np.uint64(31)).astype(np.int64).reshape(size, size) - 15
        for s in (seed, seed + 1)
    )
    weights = np.arange(1, size + 1, dtype=np.int64)
    left, right = (weights[:, None] * a).sum(axis=0), (weights * b).sum(axis=1)
    return sum(int(x) * int(y) for x, y in zip(left, right, strict=True)) % (1 << 64)


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


@dataclass(frozen=True, slots=True)
class TensorFlow:
    """TensorFlow 2 on the guest's CPU.

    ``api: lean`` talks to TensorFlow's shared library through its C API; ``full`` is ``import tensorflow``,
    which runs the same kernels and costs an emulated guest minutes more.
    """

    name: str = "tensorflow"
    title: str = "TensorFlow multiplies matrices and trains a small network"
    tools: tuple[str, ...] = ("libstdc++6",)

    @property
    def defaults(self) -> Mapping[str, Scalar]:
        """``size`` of the square matrices, ``repeats`` of the timed product, shape of the training run."""
        return _DEFAULTS

    def _given(self, job: Job) -> dict[str, Any]:
        given = settings(self, job)
        if given["api"] not in ("lean", "full") or given["engine"] != "cpu":
            raise ConfigError("workload tensorflow: api must be lean or full, and engine cpu")
        for name, most in (
            ("size", 16384),
            ("batch", 4096),
            ("width", 4096),
            ("hidden", 4096),
            ("steps", 10000),
        ):
            if not 1 <= given[name] <= most:
                raise ConfigError(f"workload tensorflow: {name} must be 1 to {most}")
        return given

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError."""
        given = self._given(job)
        names = ("api", "engine", "size", "repeats", "seed", "batch", "width", "hidden", "steps")
        arguments = {name: given[name] for name in names}
        arguments.update(rate=given["learning_rate"], tf_dir=job.place.tensorflow, threads=job.vcpus)
        return command(job, "tensorflow_job.py", arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Products and losses against our references. Raises ParseError."""
        given = self._given(job)
        seen, engine, versions = report_of(self, stdout)
        return Parsed(
            engine=engine,
            answers=(*_products(seen, given), *_training(seen, given)),
            measurements=(
                measure("tensorflow.gflops", seen.optional("gflops"), "GFLOP/s"),
                measure("tensorflow.import_time", seen.seconds("import_seconds"), "s"),
                measure("tensorflow.numpy_import_time", seen.seconds("numpy_seconds"), "s"),
                measure("tensorflow.first_product_time", seen.seconds("first_seconds"), "s"),
                measure("tensorflow.training_time", seen.seconds("training_seconds"), "s"),
            ),
            versions=versions,
        )


def _products(seen: Observation, given: dict[str, Any]) -> tuple[Answer, ...]:
    size, repeats = given["size"], given["repeats"]
    bound = "largest error over the bound n u/(1-n u) |A||B|, n = {}, u = 2^-24 (Higham 2002, eq. 3.13)"
    if seen.integer("repeats") != repeats:
        raise ParseError(f"tensorflow: {seen.integer('repeats')} repeats instead of {repeats}")
    return (
        exact("wrong elements of the exact product", 0, seen.integer("exact_wrong")),
        exact(
            "fingerprint of the exact product",
            product_fingerprint(size, given["seed"]),
            seen.whole_or_none("exact_fingerprint"),
        ),
        exact("elements that changed when repeated", 0, seen.integer("repeats_wrong")),
        at_most(
            "rounding error of the product",
            1.0,
            seen.optional("rounded_error_over_bound"),
            bound.format(size),
        ),
    )


def _pair(seen: Observation, name: str) -> tuple[float | None, float | None]:
    values = seen.items(name)
    if len(values) != 2:
        raise ParseError(f"tensorflow: {name} should be the first and the last loss")
    both = Observation({"first": values[0], "last": values[1]}, f"tensorflow.{name}")
    return both.optional("first"), both.optional("last")


def _apart(got: float | None, wanted: float) -> float | None:
    return None if got is None else abs(got - wanted) / abs(wanted) if wanted else abs(got)


def _training(seen: Observation, given: dict[str, Any]) -> tuple[Answer, ...]:
    if seen.integer("steps") != given["steps"]:
        raise ParseError(f"tensorflow: {seen.integer('steps')} steps instead of {given['steps']}")
    first, last = _pair(seen, "losses")
    there = _pair(seen, "reference_losses")
    wanted = reference_losses(given)
    tolerance = loss_tolerance(given["steps"], given["batch"], given["width"], given["hidden"])
    fallen = last / first if first and last is not None else None
    words = f"float64 says {wanted[0]:.9g} and {wanted[1]:.9g}; TensorFlow {first} and {last}"
    return (
        at_most("first loss, relative to float64", tolerance, _apart(first, wanted[0]), words),
        at_most("last loss, relative to float64", tolerance, _apart(last, wanted[1]), words),
        at_most("share of the loss left after training", given["max_loss_share"], fallen),
        at_most("the guest's own float64 reference", _REFERENCE_TOLERANCE, _apart(there[1], wanted[1])),
    )


WORKLOAD = TensorFlow()
