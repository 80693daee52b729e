"""TensorFlow in the guest: matrix products and a small training run, measured against float64.

Usage: ``tensorflow_job.py JSON`` with the parameters of ``harness.workloads.tensorflow``. Prints one line
of strict JSON: what was observed. It judges nothing; the controller does, from values it computes itself.

All inputs come from splitmix64, so that the controller can compute every reference without this machine.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

UNIT = 2.0**-24
"""Unit roundoff of IEEE 754 binary32 with round to nearest."""


def integers(np: Any, seed: int, count: int) -> Any:
    """``count`` values of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) from ``seed``, as uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def small_integers(np: Any, seed: int, rows: int, columns: int) -> Any:
    """A matrix of integers from -15 to 15 in float64: products stay exact in float32 up to n = 74,565."""
    values = integers(np, seed, rows * columns) % np.uint64(31)
    return values.astype(np.float64).reshape(rows, columns) - 15.0


def fractions(np: Any, seed: int, rows: int, columns: int) -> Any:
    """A matrix of multiples of 2^-23 in [-1, 1), exact in float32, as float64."""
    values = integers(np, seed, rows * columns) >> np.uint64(40)
    return values.astype(np.float64).reshape(rows, columns) / 2.0**23 - 1.0


def fingerprint(np: Any, product: Any) -> int:
    """The sum of (i+1)(j+1)C[i,j] modulo 2^64: any single wrong element changes it."""
    with np.errstate(over="ignore"):
        whole = product.astype(np.int64).astype(np.uint64)
        rows = np.arange(1, whole.shape[0] + 1, dtype=np.uint64)
        columns = np.arange(1, whole.shape[1] + 1, dtype=np.uint64)
        return int(((whole * columns).sum(axis=1, dtype=np.uint64) * rows).sum(dtype=np.uint64))


class Lean:
    """The C API engine (``tf_lean``)."""

    def __init__(self, np: Any, tf_dir: str, threads: int) -> None:
        self.np = np
        self.graph = __import__("tf_lean").Graph(tf_dir, threads)
        self.version: str = self.graph.version
        place = self.graph.add
        self._a, self._b = place("Placeholder"), place("Placeholder")
        self._product = place("MatMul", self._a, self._b)
        x, y, rate = place("Placeholder"), place("Placeholder"), place("Placeholder")
        w1, w2 = place("Placeholder"), place("Placeholder")
        hidden = place("Tanh", place("MatMul", x, w1))
        loss = place("L2Loss", place("Sub", place("MatMul", hidden, w2), y))
        g1, g2 = self.graph.gradients(loss, w1, w2)
        new1 = place("Sub", w1, place("Mul", g1, rate))
        new2 = place("Sub", w2, place("Mul", g2, rate))
        self._inputs, self._fetches = (x, y, rate, w1, w2), [loss, new1, new2]

    def product(self, a: Any, b: Any) -> Any:
        """``a`` times ``b`` by TensorFlow's MatMul kernel, float32."""
        (raw,) = self.graph.run([(self._a, a), (self._b, b)], [self._product])
        return self.np.frombuffer(raw, self.np.float32).reshape(a.shape[0], b.shape[1])

    def step(self, x: Any, y: Any, rate: Any, w1: Any, w2: Any) -> tuple[float, Any, Any]:
        """Half the squared error before the step, and both weights after it."""
        values = (x, y, rate, w1, w2)
        loss, new1, new2 = self.graph.run(list(zip(self._inputs, values, strict=True)), self._fetches)
        read = self.np.frombuffer
        kind = self.np.float32
        return (
            float(read(loss, kind)[0]),
            read(new1, kind).reshape(w1.shape),
            read(new2, kind).reshape(w2.shape),
        )


class Full:
    """The Python API engine: ``import tensorflow``, eager tensors, GradientTape."""

    def __init__(self, np: Any, _tf_dir: str, threads: int) -> None:
        self.np = np
        tf: Any = __import__("tensorflow")
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.tf, self.version = tf, str(tf.__version__)

    def product(self, a: Any, b: Any) -> Any:
        """``a`` times ``b`` by TensorFlow's MatMul kernel, float32."""
        return self.tf.linalg.matmul(self.tf.constant(a), self.tf.constant(b)).numpy()

    def step(self, x: Any, y: Any, rate: Any, w1: Any, w2: Any) -> tuple[float, Any, Any]:
        """Half the squared error before the step, and both weights after it."""
        tf = self.tf
        v1, v2 = tf.constant(w1), tf.constant(w2)
        with tf.GradientTape() as tape:
            tape.watch((v1, v2))
            loss = tf.nn.l2_loss(tf.linalg.matmul(tf.tanh(tf.linalg.matmul(tf.constant(x), v1)), v2) - y)
        g1, g2 = tape.gradient(loss, (v1, v2))
        return float(loss.numpy()), (v1 - g1 * rate).numpy(), (v2 - g2 * rate).numpy()


def products(np: Any, engine: Any, size: int, repeats: int, seed: int) -> dict[str, Any]:
    """An exact product, a rounded one against float64, and the rate of ``repeats`` more."""
    started = time.perf_counter()
    a, b = small_integers(np, seed, size, size), small_integers(np, seed + 1, size, size)
    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    got = engine.product(a32, b32).astype(np.float64)
    first = time.perf_counter() - started
    wrong = int((got != a @ b).sum())
    c, d = fractions(np, seed + 2, size, size), fractions(np, seed + 3, size, size)
    c32, d32 = c.astype(np.float32), d.astype(np.float32)
    error = np.abs(engine.product(c32, d32).astype(np.float64) - c @ d)
    bound = (size * UNIT / (1.0 - size * UNIT)) * (np.abs(c) @ np.abs(d))
    started = time.perf_counter()
    differing = 0
    for _ in range(repeats):
        differing += int((engine.product(a32, b32) != got).sum())
    spent = time.perf_counter() - started
    return {
        "exact_wrong": wrong,
        "exact_fingerprint": fingerprint(np, got) if bool(np.isfinite(got).all()) else None,
        "rounded_error_over_bound": finite(float((error / bound).max())),
        "repeats": repeats,
        "repeats_wrong": differing,
        "first_seconds": first,
        "gflops": 2.0 * size**3 * repeats / spent / 1e9 if repeats and spent > 0 else None,
    }


def training(np: Any, engine: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Gradient descent on tanh(x w1) w2 towards a fixed teacher; the same in numpy float64 beside it."""
    batch, width, hidden, steps, seed = (job[k] for k in ("batch", "width", "hidden", "steps", "seed"))
    x = fractions(np, seed + 10, batch, width)
    teacher = np.tanh(x @ fractions(np, seed + 11, width, hidden)) @ fractions(np, seed + 12, hidden, 1)
    y32 = teacher.astype(np.float32)
    y = y32.astype(np.float64)
    w1, w2 = fractions(np, seed + 13, width, hidden) / 4.0, fractions(np, seed + 14, hidden, 1) / 4.0
    rate = float(job["rate"]) / batch
    x32, rate32 = x.astype(np.float32), np.array(rate, np.float32)
    v1, v2 = w1.astype(np.float32), w2.astype(np.float32)
    losses, references = [], []
    started = time.perf_counter()
    for _ in range(steps):
        loss, v1, v2 = engine.step(x32, y32, rate32, v1, v2)
        losses.append(loss / batch)
    spent = time.perf_counter() - started
    for _ in range(steps):
        h = np.tanh(x @ w1)
        miss = h @ w2 - y
        references.append(float((miss * miss).sum()) / 2.0 / batch)
        back = (miss @ w2.T) * (1.0 - h * h)
        w1, w2 = w1 - float(rate32) * (x.T @ back), w2 - float(rate32) * (h.T @ miss)
    return {
        "losses": [finite(losses[0]), finite(losses[-1])],
        "reference_losses": [finite(references[0]), finite(references[-1])],
        "steps": len(losses),
        "training_seconds": spent,
    }


def finite(value: float) -> float | None:
    """The value, or None for NaN and infinities, which strict JSON cannot say."""
    return value if value - value == 0.0 else None


def observe(job: dict[str, Any]) -> dict[str, Any]:
    """Import, compute, time it. Raises ImportError or OSError when TensorFlow is not there."""
    began = time.perf_counter()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if job["engine"] == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the reference need not start a thread for each CPU
    sys.path.insert(0, job["tf_dir"])
    np = __import__("numpy")
    kinds = {"lean": Lean, "full": Full}
    numpy_seconds = time.perf_counter() - began
    if job["api"] == "lean":
        # After numpy, whose own few reads would wait behind these.
        here = os.path.dirname(os.path.abspath(__file__))
        __import__("tensorflow_pages").read_ahead(job["tf_dir"], here)
    engine: Any = kinds[job["api"]](np, job["tf_dir"], int(job["threads"]))
    import_seconds = time.perf_counter() - began - numpy_seconds
    observed = products(np, engine, job["size"], job["repeats"], job["seed"])
    observed.update(training(np, engine, job))
    observed["numpy_seconds"] = numpy_seconds
    observed["import_seconds"] = import_seconds
    versions = {"tensorflow": engine.version, "numpy": str(np.__version__), "python": sys.version.split()[0]}
    return {"payload": "tensorflow", "engine": job["engine"], "observed": observed, "versions": versions}


def require_avx(cpuinfo: str = "/proc/cpuinfo") -> None:
    """Raise OSError where the processor has no AVX."""
    if lacks_avx(cpuinfo):
        raise OSError("its wheels need AVX, and this guest's processor has none")


def lacks_avx(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether this x86 processor has no AVX, which TensorFlow's wheels are compiled for: they die of it."""
    with open(cpuinfo, encoding="ascii", errors="replace") as stream:
        flags = next((line.split() for line in stream if line.startswith("flags")), None)
    return flags is not None and "avx" not in flags


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # isolated mode leaves it out
    status = 0
    try:
        require_avx()
        result = observe(json.loads(argument))
    except (ImportError, OSError) as error:
        result, status = {"payload": "tensorflow", "error": f"TensorFlow is not usable here: {error}"}, 3
    print(json.dumps(result, allow_nan=False), flush=True)
    # The library's destructors take down its registries page by page; the answer is already out.
    os._exit(status)


if __name__ == "__main__":
    main(sys.argv[1])
