"""Tensor work by ``import tensorflow``, as customers use it: on the processor or on one GPU.

Operations run eagerly, each on the one device that is named; none is moved to another one in silence.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from harness.workloads.tensor.payload import numbers

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ERRORS = (tf.errors.OpError,)
"""What the framework raises at work, beside RuntimeError and MemoryError."""
_CHUNK = 1 << 16
"""Elements that are made at a time: what a processor keeps in its cache. 2^22 take four times as long, which
is a minute for each precision at n = 16384."""
_WIDE = 1 << 25
"""Elements that are float64 at a time: 256 MiB. All of four pairs at n = 16384 would be 24 GiB, and a small
card's memory."""


class Engine:
    """TensorFlow on ``device``: ``cpu``, or ``cuda`` for the one GPU that is visible."""

    framework = "tensorflow"

    def __init__(self, job: dict[str, Any]) -> None:
        self.gpu = job["device"] != "cpu"
        self.version = str(tf.__version__)
        tf.config.threading.set_intra_op_parallelism_threads(max(1, int(job["threads"])))
        tf.config.threading.set_inter_op_parallelism_threads(1)
        # Else the processor would do, without a word, what has no kernel on a GPU.
        tf.config.set_soft_device_placement(False)
        if self.gpu and not tf.config.list_physical_devices("GPU"):
            raise RuntimeError("TensorFlow shows no GPU, though it has kernels for it and CUDA's libraries")
        self.device = "/device:GPU:0" if self.gpu else "/device:CPU:0"

    def offered(self, capability: tuple[int, int] | None) -> dict[str, str]:
        """Precision to why it is not offered; empty text where it is."""
        found = {"fp64": "", "fp32": "", "tf32": "", "fp16": "", "bf16": ""}
        if not self.gpu:
            found["tf32"] = "the processor has no TF32"
        elif capability is not None and capability < (8, 0):
            found["tf32"] = found["bf16"] = "compute capability below 8.0"
        return {**found, "fp8": "TensorFlow's MatMul takes no 8-bit numbers"}

    def tf32(self, allowed: bool) -> None:
        """Let float32 products on a GPU be done in TF32, or not."""
        if self.gpu:
            tf.config.experimental.enable_tensor_float_32_execution(allowed)

    def sync(self) -> None:
        """Wait for all that was started."""
        if self.gpu:
            tf.test.experimental.sync_devices()

    def products(self, precision: str, size: int, blocks: int, seed: int) -> Products:
        """Inputs on the device, ready to be multiplied."""
        return Products(self, precision, size, blocks, seed)

    def train(self, data: dict[str, Any], steps: int) -> tuple[list[float], list[Any]]:
        """Loss before each step, and both weights after the last, by TensorFlow's own gradients."""
        self.tf32(False)
        with tf.device(self.device):
            x, y, w1, w2 = (tf.constant(data[name]) for name in ("x", "y", "w1", "w2"))
            rate, losses = tf.constant(data["rate"], w1.dtype), []
            for _ in range(steps):
                with tf.GradientTape() as tape:
                    tape.watch((w1, w2))
                    loss = tf.nn.l2_loss(tf.matmul(tf.tanh(tf.matmul(x, w1)), w2) - y)
                g1, g2 = tape.gradient(loss, (w1, w2))
                losses.append(loss)
                w1, w2 = w1 - g1 * rate, w2 - g2 * rate
            return [float(loss) for loss in losses], [w1.numpy(), w2.numpy()]


class Products:
    """``blocks`` pairs of matrices and their products in one precision."""

    def __init__(self, engine: Engine, precision: str, size: int, blocks: int, seed: int) -> None:
        self.engine, self.precision, self.size, self.blocks, self.seed = (
            engine, precision, size, blocks, seed,
        )  # fmt: skip
        kinds = {"fp64": tf.float64, "fp16": tf.float16, "bf16": tf.bfloat16}
        self.kind = kinds.get(precision, tf.float32)
        self.output_bits = self.input_bits = 8 * self.kind.size
        with self._place():
            self.a = [self._made(block, 0) for block in range(blocks)]
            self.b = [self._made(block, 1) for block in range(blocks)]
            self.c = [tf.zeros((size, size), self.kind) for _ in range(blocks)]
            self.inputs = [[self._sums(part) for part in parts] for parts in (self.a, self.b)]
            self.golden: list[Any] = []
            self.count = [tf.zeros((), tf.int64) for _ in range(blocks)]

    def _place(self) -> Any:
        return tf.device(self.engine.device)

    def _made(self, block: int, which: int) -> Any:
        """An input, whose elements are exact in the precision."""
        size, kind = self.size, np.dtype(self.kind.as_numpy_dtype)
        seed = numbers.seed_of(self.seed, self.precision, block, which)
        bits = numbers.PRECISIONS[self.precision][0]
        whole, rows = np.empty((size, size), kind), max(1, _CHUNK // size)
        for first in range(0, size, rows):
            last = min(size, first + rows)
            places = np.arange(first * size, last * size, dtype=np.uint64)
            whole[first:last] = numbers.elements(seed, bits, places).reshape(-1, size).astype(kind)
        return tf.constant(whole)

    def multiply(self) -> None:
        """Do all products."""
        self.engine.tf32(self.precision == "tf32")
        with self._place():
            for block in range(self.blocks):
                self.c[block] = tf.matmul(self.a[block], self.b[block])

    def sync(self) -> None:
        """Wait for all that was started."""
        self.engine.sync()

    def _sums(self, part: Any) -> Any:
        """Checksums of a matrix: its bits as 64-bit words, summed down the rows of each tile."""
        size, rows, many = self.size, numbers.span(self.size), 8 // self.kind.size
        shape = [size // rows, rows, size // many] + ([many] if many > 1 else [])
        return tf.reduce_sum(tf.bitcast(tf.reshape(part, shape), tf.int64), 1)

    def keep(self) -> Any:
        """Make the outputs as they are the golden ones; returns their checksums (numpy)."""
        with self._place():
            self.golden = [self._sums(part) for part in self.c]
        return np.stack([sums.numpy() for sums in self.golden])

    def check(self) -> None:
        """Count the checksums that differ from the golden ones, on the device."""
        with self._place():
            for block, part in enumerate(self.c):
                self.count[block] += self._differing(part, self.golden[block])

    def _differing(self, part: Any, kept: Any) -> Any:
        return tf.reduce_sum(tf.cast(tf.not_equal(self._sums(part), kept), tf.int64))

    def bad(self) -> list[int]:
        """The count of each block, and start again from nothing. Waits for the device."""
        found = [int(count) for count in self.count]
        with self._place():
            self.count = [tf.zeros((), tf.int64) for _ in self.count]
        return found

    def changed(self, blocks: list[int]) -> list[str]:
        """Which inputs of each block no longer are what they were: ``""``, ``A``, ``B`` or ``AB``."""
        with self._place():
            return [
                "".join(
                    name
                    for name, parts, kept in zip("AB", (self.a, self.b), self.inputs, strict=True)
                    if int(self._differing(parts[block], kept[block]))
                )
                for block in blocks
            ]

    def restore(self, block: int) -> None:
        """Make the inputs of a block again."""
        with self._place():
            self.a[block], self.b[block] = self._made(block, 0), self._made(block, 1)

    def output(self, block: int) -> Any:
        """A product's bits as unsigned integers, flat (numpy)."""
        return self.c[block].numpy().reshape(-1).view(f"u{self.kind.size}")

    def elements(self, block: int, corner: tuple[int, int], edge: int) -> Any:
        """A tile of a product as float64 (numpy)."""
        row, column = corner
        with self._place():
            part = self.c[block][row : row + edge, column : column + edge]
        return part.numpy().astype(np.float64)

    def freivalds(self, blocks: list[int], signs: Any) -> list[float]:
        """Largest |C x - A (B x)| of each block over rows and groups of columns, computed in float64."""
        with self._place():
            x = tf.constant(signs, tf.float64)
            return [self._residual(block, x) for block in blocks]

    def _residual(self, block: int, x: Any) -> float:
        size, width = self.size, numbers.span(self.size)

        def grouped(rows: Any) -> Any:
            weighed = tf.cast(rows, tf.float64) * x
            return tf.reduce_sum(tf.reshape(weighed, [-1, size // width, width]), 2)

        whole = tf.concat([grouped(self.b[block][span]) for span in self._spans()], 0)
        worst = [
            tf.reduce_max(
                tf.abs(
                    grouped(self.c[block][span]) - tf.matmul(tf.cast(self.a[block][span], tf.float64), whole)
                )
            )
            for span in self._spans()
        ]
        return float(tf.reduce_max(tf.stack(worst)))

    def _spans(self) -> Iterator[slice]:
        rows = max(1, _WIDE // self.size)
        return (slice(first, min(self.size, first + rows)) for first in range(0, self.size, rows))

    def flip(self, block: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of a product."""
        self.c[block] = self._turned(self.c[block], element, bit)

    def flip_input(self, block: int, which: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of an input."""
        parts = (self.a, self.b)[which]
        parts[block] = self._turned(parts[block], element, bit)

    def _turned(self, part: Any, element: int, bit: int) -> Any:
        whole = np.array(part.numpy())
        whole.reshape(-1).view(np.uint8)[element * self.kind.size + bit // 8] ^= 1 << bit % 8
        with self._place():
            return tf.constant(whole)

    def close(self) -> None:
        """Give the memory back."""
        self.a, self.b, self.c, self.golden, self.inputs, self.count = [], [], [], [], [], []
