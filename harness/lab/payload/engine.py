"""Tensor work through TensorFlow's C API (``c_api``), on the processor of an emulated guest.

The same library and kernels as ``import tensorflow``, whose 2800 modules take minutes there. The lab's guest
image says that its TensorFlow is used through this package, and holds it beside TensorFlow.
"""

from __future__ import annotations

import os

import numpy as np

from harness.workloads.tensor.payload import numbers

from . import c_api as lean
from . import pages

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

ERRORS: tuple[type[Exception], ...] = ()
"""What the library raises at work, beside RuntimeError and MemoryError."""
_SMALL = 1024
"""Matrices up to this size are handled all at once."""
_CHUNK = 1 << 16
"""Elements that are made at a time: what a processor keeps in its cache. 2^22 take four times as long, which
is a minute for each precision at n = 16384."""
_WIDE = 1 << 25
"""Elements that are float64 at a time: 256 MiB. All of four pairs at n = 16384 would be 24 GiB, and a small
card's memory."""


class Engine:
    """TensorFlow on the processor. Raises RuntimeError for a job on a GPU."""

    framework = "tensorflow"
    gpu = False

    def __init__(self, job: dict[str, Any]) -> None:
        if job["device"] != "cpu":
            raise RuntimeError("TensorFlow shows no GPU: this guest image is for processors")
        # After numpy, whose own few reads would wait behind these.
        pages.read_ahead(job["library_dir"], os.path.dirname(os.path.abspath(__file__)))
        library = lean.library(job["library_dir"])
        threads = int(job["threads"])
        # A graph of its own for each precision: what a session does before it first runs something grows
        # with the whole graph.
        self.new_graph: Any = lambda: lean.Graph(library, threads)
        self.graph = self.new_graph()
        self.version: str = self.graph.version
        self._steps: Any = None

    def offered(self, _capability: object) -> dict[str, str]:
        """Precision to why it is not offered; empty text where it is."""
        found = {"fp64": "", "fp32": "", "tf32": "", "fp16": "", "bf16": ""}
        found["tf32"] = "the processor has no TF32"
        return {**found, "fp8": "TensorFlow's MatMul takes no 8-bit numbers"}

    def sync(self) -> None:
        """Nothing to wait for: a run returns when all of it is done."""

    def products(self, precision: str, size: int, blocks: int, seed: int) -> Products:
        """Inputs in variables of the device, ready to be multiplied."""
        return Products(self, precision, size, blocks, seed)

    def train(self, data: dict[str, Any], steps: int) -> tuple[list[float], list[Any]]:
        """Loss before each step, and both weights after the last, by TensorFlow's own gradients."""
        if self._steps is None:
            self._steps = self._network()
        places, fetches = self._steps
        kind = lean.FLOAT
        w1, w2, losses = data["w1"], data["w2"], []
        for _ in range(steps):
            values = (data["x"], data["y"], np.array(data["rate"], np.float32), w1, w2)
            feeds = [(p, v, kind) for p, v in zip(places, values, strict=True)]
            loss, new1, new2 = (np.frombuffer(raw, np.float32) for raw in self.graph.run(feeds, fetches))
            losses.append(float(loss[0]))
            w1, w2 = new1.reshape(w1.shape), new2.reshape(w2.shape)
        return losses, [w1, w2]

    def _network(self) -> tuple[list[Any], list[Any]]:
        add = self.graph.add
        places = [self.graph.place() for _ in range(5)]
        x, y, rate, w1, w2 = places
        hidden = add("Tanh", add("MatMul", x, w1))
        loss = add("L2Loss", add("Sub", add("MatMul", hidden, w2), y))
        g1, g2 = self.graph.gradients(loss, w1, w2)
        return places, [loss, *(add("Sub", w, add("Mul", g, rate)) for w, g in ((w1, g1), (w2, g2)))]


class Products:
    """``blocks`` pairs of matrices and their products in one precision, in resource variables."""

    def __init__(self, engine: Engine, precision: str, size: int, blocks: int, seed: int) -> None:
        self.engine, self.graph = engine, engine.new_graph()
        self.precision, self.size, self.blocks, self.seed = precision, size, blocks, seed
        kinds = {"fp64": lean.DOUBLE, "fp16": lean.HALF, "bf16": lean.BFLOAT16}
        self.kind = kinds.get(precision, lean.FLOAT)
        self.bytes = {"fp64": 8, "fp16": 2, "bf16": 2}.get(precision, 4)
        self.output_bits = self.input_bits = 8 * self.bytes
        # Of each block: A, B and the product, and the checksums that each must have.
        self.parts = [[self._variable(self.kind, [size, size]) for _ in "ABC"] for _ in range(blocks)]
        tall = [size // numbers.span(size), size * self.bytes // 8]
        self.kept = [[self._variable(lean.INT64, tall) for _ in "ABC"] for _ in range(blocks)]
        self.places = [[self.graph.place(self.kind) for _ in "ABC"] for _ in range(blocks)]
        self.fills = self._pairwise(self._assign, self.parts, self.places)
        self.values = [[self._read(p, self.kind) for p in block] for block in self.parts]
        self.products = [
            self._assign(block[2], self.graph.add("MatMul", left, right))
            for block, (left, right, _) in zip(self.parts, self.values, strict=True)
        ]
        self.sums = [[self._sum(value) for value in block] for block in self.values]
        self.keeps = self._pairwise(self._assign, self.kept, self.sums)
        self.differ = self._pairwise(self._differ, self.sums, self.kept)
        self.corner, self.shape = (self.graph.place(lean.INT32) for _ in range(2))
        sliced = self.values if size > _SMALL else [block[2:] for block in self.values]
        self.slices = [
            [self.graph.add("Slice", value, self.corner, self.shape) for value in block] for block in sliced
        ]
        self.signs = self.graph.place(lean.DOUBLE)
        self.weighed = self._variable(lean.DOUBLE, [size, size // numbers.span(size)])
        self.fresh = self.graph.place(lean.DOUBLE)
        self.weigh = self._assign(self.weighed, self.fresh)
        self.doubtful = self._residual()
        # Each set of things to run costs a session some time once: so a few large sets.
        every = list(range(blocks))
        for some in [every] if size <= _SMALL else [[block] for block in every]:
            self._fill([(block, which, self._made(block, which)) for block in some for which in (0, 1)])
        self.graph.run([], [], [k for block in self.keeps for k in block[:2]])
        self.count = [0] * blocks

    def _pairwise(self, make: Any, one: list[list[Any]], other: list[list[Any]]) -> list[list[Any]]:
        return [[make(x, y) for x, y in zip(xs, ys, strict=True)] for xs, ys in zip(one, other, strict=True)]

    def _variable(self, kind: int, shape: list[int]) -> Any:
        return self.graph.add("VarHandleOp", dtype=kind, shape=shape)

    def _assign(self, variable: Any, value: Any) -> Any:
        return self.graph.add("AssignVariableOp", variable, value)

    def _read(self, variable: Any, kind: int) -> Any:
        return self.graph.add("ReadVariableOp", variable, dtype=kind)

    def _ints(self, *values: int) -> Any:
        return self.graph.constant(np.array(values, np.int32), lean.INT32)

    def _sum(self, value: Any) -> Any:
        """Checksums of a matrix: its bits as 64-bit words, summed down the rows of each tile."""
        size, rows = self.size, numbers.span(self.size)
        many = 8 // self.bytes
        shape = [size // rows, rows, size // many] + ([many] if many > 1 else [])
        words = self.graph.add("Reshape", value, self._ints(*shape))
        words = self.graph.add("Bitcast", words, type=lean.INT64)
        return self.graph.add("Sum", words, self._ints(1))

    def _differ(self, sums: Any, kept: Any) -> Any:
        """How many checksums are not what was kept, INT64."""
        apart = self.graph.add("NotEqual", sums, self._read(kept, lean.INT64))
        return self.graph.add("Sum", self.graph.add("Cast", apart, DstT=lean.INT64), self._ints(0, 1))

    def _residual(self) -> list[tuple[Any, Any]]:
        """Of each block B x, and the largest |C x - A (B x)| over rows and groups of columns, in float64.

        Large matrices are taken some rows at a time, with the whole B x in a variable.
        """
        add, size, double = self.graph.add, self.size, lean.DOUBLE
        width, small = numbers.span(size), size <= _SMALL
        found = []

        def grouped(value: Any) -> Any:
            weighed = add("Mul", add("Cast", value, DstT=double), self.signs)
            return add("Sum", add("Reshape", weighed, self._ints(-1, size // width, width)), self._ints(2))

        for left, right, product in self.values if small else self.slices:
            mine = grouped(right)
            whole = mine if small else self._read(self.weighed, double)
            again = add("MatMul", add("Cast", left, DstT=double), whole)
            apart = add("Abs", add("Sub", grouped(product), again))
            found.append((mine, add("Max", apart, self._ints(0, 1))))
        return found

    def _made(self, block: int, which: int) -> Any:
        """An input's elements, which are exact in the precision, as an array of its bytes."""
        size = self.size
        seed, bits = (
            numbers.seed_of(self.seed, self.precision, block, which),
            numbers.PRECISIONS[self.precision][0],
        )
        kind = {"fp64": np.float64, "fp16": np.float16, "bf16": np.uint16}.get(self.precision, np.float32)
        whole, rows = np.empty((size, size), kind), max(1, _CHUNK // size)
        for first in range(0, size, rows):
            last = min(size, first + rows)
            places = np.arange(first * size, last * size, dtype=np.uint64)
            values = numbers.elements(seed, bits, places).reshape(-1, size)
            if self.precision == "bf16":
                values = values.astype(np.float32).view(np.uint32) >> 16
            whole[first:last] = values
        return whole

    def _decoded(self, raw: bytes) -> Any:
        if self.precision == "bf16":
            return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        kind = {"fp64": np.float64, "fp16": np.float16}.get(self.precision, np.float32)
        return np.frombuffer(raw, kind).astype(np.float64)

    def multiply(self) -> None:
        """Do all products."""
        self.graph.run([], [], self.products)

    def sync(self) -> None:
        """Nothing to wait for."""

    def keep(self) -> Any:
        """Make the outputs as they are the golden ones; returns their checksums (numpy)."""
        raw = self.graph.run([], [block[2] for block in self.sums], [block[2] for block in self.keeps])
        return np.frombuffer(b"".join(raw), np.int64)

    def check(self) -> None:
        """Count the checksums that differ from the golden ones."""
        for block, raw in enumerate(self.graph.run([], [row[2] for row in self.differ])):
            self.count[block] += int.from_bytes(raw, "little")

    def bad(self) -> list[int]:
        """The count of each block, and start again from nothing."""
        found, self.count = self.count, [0] * self.blocks
        return found

    def changed(self, blocks: list[int]) -> list[str]:
        """Which inputs of each block no longer are what they were: ``""``, ``A``, ``B`` or ``AB``."""
        counts = [any(raw) for raw in self.graph.run([], [d for n in blocks for d in self.differ[n][:2]])]
        return ["A" * a + "B" * b for a, b in zip(counts[::2], counts[1::2], strict=True)]

    def restore(self, block: int) -> None:
        """Make the inputs of a block again."""
        for which in (0, 1):
            self._fill([(block, which, self._made(block, which))])

    def _fill(self, parts: list[tuple[int, int, Any]]) -> None:
        feeds = [(self.places[block][which], array, self.kind) for block, which, array in parts]
        self.graph.run(feeds, [], [self.fills[block][which] for block, which, _ in parts])

    def _raw(self, block: int, which: int) -> bytes:
        raw: bytes = self.graph.run([], [self.values[block][which]])[0]
        return raw

    def output(self, block: int) -> Any:
        """A product's bits as unsigned integers, flat (numpy)."""
        return np.frombuffer(self._raw(block, 2), f"u{self.bytes}")

    def elements(self, block: int, corner: tuple[int, int], edge: int) -> Any:
        """A tile of a product as float64 (numpy)."""
        raw = self.graph.run(self._place(corner, (edge, edge)), [block[-1] for block in self.slices])
        return self._decoded(raw[block]).reshape(edge, edge)

    def _place(self, corner: tuple[int, int], shape: tuple[int, int]) -> list[tuple[Any, Any, int]]:
        pairs = ((self.corner, corner), (self.shape, shape))
        return [(place, np.array(pair, np.int32), lean.INT32) for place, pair in pairs]

    def freivalds(self, blocks: list[int], signs: Any) -> list[float]:
        """Largest |C x - A (B x)| of each block over rows and groups of columns, computed in float64."""
        feed = (self.signs, signs, lean.DOUBLE)
        if self.size > _SMALL:
            return [self._by_rows(feed, *self.doubtful[block]) for block in blocks]
        raw = self.graph.run([feed], [self.doubtful[block][1] for block in blocks])
        return [float(np.frombuffer(one, np.float64)[0]) for one in raw]

    def _by_rows(self, feed: tuple[Any, Any, int], weighed: Any, residual: Any) -> float:
        size, rows = self.size, max(1, _WIDE // self.size)

        def each(what: Any) -> Any:
            parts = [
                self.graph.run([feed, *self._place((first, 0), (min(rows, size - first), size))], [what])[0]
                for first in range(0, size, rows)
            ]
            return np.frombuffer(b"".join(parts), np.float64)

        whole = each(weighed).reshape(size, -1)
        self.graph.run([(self.fresh, whole, lean.DOUBLE)], [], [self.weigh])
        return float(each(residual).max())

    def flip(self, block: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of a product."""
        self._turn(block, 2, element, bit)

    def flip_input(self, block: int, which: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of an input."""
        self._turn(block, which, element, bit)

    def _turn(self, block: int, which: int, element: int, bit: int) -> None:
        raw = bytearray(self._raw(block, which))
        raw[element * self.bytes + bit // 8] ^= 1 << bit % 8
        whole = np.frombuffer(bytes(raw), f"u{self.bytes}").reshape(self.size, self.size)
        self._fill([(block, which, whole)])

    def close(self) -> None:
        """Give the variables' memory back."""
        self.graph.close()
