"""Products as the tensor payload's engines offer them, computed by numpy; a test may spoil any step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.workloads.tensor.payload import numbers

KINDS = {"fp64": np.float64, "fp32": np.float32, "fp16": np.float16}


class NumpyProducts:
    """``spoil(block, product, count)`` may change the ``count``-th product of a block before it is stored."""

    def __init__(
        self,
        precision: str = "fp32",
        size: int = 64,
        blocks: int = 2,
        spoil: Callable[[int, Any, int], Any] | None = None,
    ) -> None:
        self.precision, self.size, self.blocks = precision, size, blocks
        self.kind: Any = KINDS[precision]
        self.output_bits = self.input_bits = 8 * np.dtype(self.kind).itemsize
        self.spoil = spoil or (lambda block, product, count: product)
        self.misread = 0
        """How many of the next checks see a bit that is not there."""
        self.multiplied = 0
        self.inputs = [[self._made(block, which) for which in (0, 1)] for block in range(blocks)]
        self.kept_inputs = [[self._sums(part) for part in pair] for pair in self.inputs]
        self.outputs = [np.zeros((size, size), self.kind) for _ in range(blocks)]
        self.golden: list[Any] = []
        self.count = [0] * blocks

    def _made(self, block: int, which: int) -> Any:
        seed = numbers.seed_of(1, self.precision, block, which)
        bits = numbers.PRECISIONS[self.precision][0]
        return numbers.matrix(seed, bits, self.size).astype(self.kind)

    def _sums(self, part: Any) -> Any:
        rows = numbers.span(self.size)
        words = np.ascontiguousarray(part).view(np.int64)
        return words.reshape(self.size // rows, rows, -1).sum(1)

    def multiply(self) -> None:
        self.multiplied += 1
        wide = np.float64 if self.kind is np.float64 else np.float32
        for block, (a, b) in enumerate(self.inputs):
            product = (a.astype(wide) @ b.astype(wide)).astype(self.kind)
            self.outputs[block] = self.spoil(block, product, self.multiplied)

    def sync(self) -> None:
        pass

    def keep(self) -> Any:
        self.golden = [self._sums(part) for part in self.outputs]
        return np.stack(self.golden)

    def check(self) -> None:
        for block, part in enumerate(self.outputs):
            sums = self._sums(part)
            if self.misread:
                sums[0, 0] ^= 1
            self.count[block] += int((sums != self.golden[block]).sum())
        self.misread = max(0, self.misread - 1)

    def bad(self) -> list[int]:
        found, self.count = self.count, [0] * self.blocks
        return found

    def changed(self, blocks: list[int]) -> list[str]:
        return [self._changed(block) for block in blocks]

    def _changed(self, block: int) -> str:
        pairs = zip("AB", self.inputs[block], self.kept_inputs[block], strict=True)
        return "".join(name for name, part, kept in pairs if (self._sums(part) != kept).any())

    def restore(self, block: int) -> None:
        self.inputs[block] = [self._made(block, which) for which in (0, 1)]

    def output(self, block: int) -> Any:
        return self.outputs[block].reshape(-1).view(f"u{self.output_bits // 8}").copy()

    def elements(self, block: int, corner: tuple[int, int], edge: int) -> Any:
        row, column = corner
        return self.outputs[block][row : row + edge, column : column + edge].astype(np.float64)

    def freivalds(self, blocks: list[int], signs: Any) -> list[float]:
        return [self._residual(block, signs) for block in blocks]

    def _residual(self, block: int, signs: Any) -> float:
        a, b = (part.astype(np.float64) for part in self.inputs[block])
        width = numbers.span(self.size)

        def grouped(value: Any) -> Any:
            return (value.astype(np.float64) * signs).reshape(self.size, -1, width).sum(2)

        return float(np.abs(grouped(self.outputs[block]) - a @ grouped(b)).max())

    def flip(self, block: int, element: int, bit: int) -> None:
        self._turn(self.outputs[block], element, bit)

    def flip_input(self, block: int, which: int, element: int, bit: int) -> None:
        self._turn(self.inputs[block][which], element, bit)

    def _turn(self, part: Any, element: int, bit: int) -> None:
        part.reshape(-1).view(np.uint8)[element * self.output_bits // 8 + bit // 8] ^= np.uint8(1 << bit % 8)

    def close(self) -> None:
        pass
