"""Tensor work through PyTorch, on the processor or on one CUDA device: the same calls on either."""

from __future__ import annotations

import torch

from harness.workloads.tensor.payload import numbers

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

ERRORS: tuple[type[Exception], ...] = ()
"""What the framework raises at work, beside RuntimeError and MemoryError."""
_CHUNK = 1 << 24
"""Elements that are made or converted at a time: 128 MiB of float64."""


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


class Engine:
    """PyTorch on ``device``: ``cpu``, or ``cuda`` for the one GPU that is visible."""

    framework = "torch"

    def __init__(self, job: dict[str, Any]) -> None:

        self.version = str(torch.__version__)
        torch.set_num_threads(max(1, int(job["threads"])))
        self.gpu = job["device"] != "cpu"
        self.device = torch.device("cuda:0" if self.gpu else "cpu")
        if self.gpu:
            # Sums of partial results in 16 bits would be faster and break the bounds.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
            torch.zeros(1, device=self.device)  # raises where CUDA does not work

    def offered(self, capability: tuple[int, int] | None) -> dict[str, str]:
        """Precision to why it is not offered; empty text where it is."""
        found = {"fp64": "", "fp32": "", "tf32": "", "fp16": "", "bf16": "", "fp8": ""}
        if not self.gpu:
            found["tf32"] = "the processor has no TF32"
        elif capability is not None:
            if capability < (8, 0):
                found["tf32"] = found["bf16"] = "compute capability below 8.0"
            if capability < (8, 9):
                found["fp8"] = "compute capability below 8.9"
        if not found["fp8"]:
            try:
                self.products("fp8", 64, 1, 0).multiply()
                self.sync()
            except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError) as error:
                found["fp8"] = f"PyTorch has none here: {str(error).strip().splitlines()[0][:160]}"
        return found

    def sync(self) -> None:
        """Wait for all that was started."""
        if self.gpu:
            torch.cuda.synchronize()

    def products(self, precision: str, size: int, blocks: int, seed: int) -> Products:
        """Inputs made on the device, ready to be multiplied."""
        return Products(self, precision, size, blocks, seed)

    def train(self, data: dict[str, Any], steps: int) -> tuple[list[float], list[Any]]:
        """Loss before each step, and both weights after the last, by PyTorch's automatic differentiation."""
        torch.backends.cuda.matmul.allow_tf32 = False
        x, y, w1, w2 = (torch.from_numpy(data[k]).to(self.device) for k in ("x", "y", "w1", "w2"))
        rate, losses = float(data["rate"]), []
        for _ in range(steps):
            v1, v2 = w1.detach().requires_grad_(), w2.detach().requires_grad_()
            loss = ((torch.tanh(x @ v1) @ v2 - y) ** 2).sum() / 2
            loss.backward()
            losses.append(loss.detach())
            w1, w2 = v1.detach() - v1.grad * rate, v2.detach() - v2.grad * rate
        return [float(v) for v in torch.stack(losses).cpu()], [w1.cpu().numpy(), w2.cpu().numpy()]


class Products:
    """``blocks`` pairs of matrices and their products in one precision."""

    def __init__(self, engine: Engine, precision: str, size: int, blocks: int, seed: int) -> None:
        self.engine = engine
        self.precision, self.size, self.blocks, self.seed = precision, size, blocks, seed
        single = {"fp64": torch.float64, "fp16": torch.float16, "bf16": torch.bfloat16}
        output = single.get(precision, torch.bfloat16 if precision == "fp8" else torch.float32)
        self.kind = torch.float8_e4m3fn if precision == "fp8" else output
        self.output_bits, self.input_bits = 8 * output.itemsize, 8 * self.kind.itemsize
        make = {"device": engine.device}
        self.a = torch.empty((blocks, size, size), dtype=self.kind, **make)
        self.b = torch.empty((blocks, size, size), dtype=self.kind, **make)
        self.c = torch.empty((blocks, size, size), dtype=output, **make)
        self.one = torch.ones((), dtype=torch.float32, **make)
        for block in range(blocks):
            self._fill(block)
        self.inputs = [self._sums(part) for part in (self.a, self.b)]
        self.golden: Any = None
        self.count = torch.zeros(blocks, dtype=torch.int64, **make)

    def _fill(self, block: int) -> None:
        n = self.size
        bits = numbers.PRECISIONS[self.precision][0]
        rows = max(1, _CHUNK // n)
        for which, whole in enumerate((self.a[block], self.b[block])):
            # PyTorch takes the right factor of an fp8 product by columns.
            into = whole.t() if which and self.precision == "fp8" else whole
            seed = _signed(numbers.seed_of(self.seed, self.precision, block, which))
            for first in range(0, n, rows):
                last = min(n, first + rows)
                z = torch.arange(first * n + 1, last * n + 1, dtype=torch.int64, device=self.engine.device)
                z = z * _signed(numbers.GAMMA) + seed
                z = (z ^ _shift(z, 30)) * _signed(numbers.MIX_1)
                z = (z ^ _shift(z, 27)) * _signed(numbers.MIX_2)
                z = _shift(z ^ _shift(z, 31), 64 - bits)
                made = (2 * z + (1 - (1 << bits))).to(torch.float64) / 2.0**bits
                into[first:last].copy_(self._narrow(made.view(last - first, n)))

    def _narrow(self, values: Any) -> Any:
        # By way of float32, which every device converts to and from 8 bits; our elements are exact in both.
        return values.to(torch.float32 if self.precision == "fp8" else self.kind).to(self.kind)

    def _wide(self, values: Any) -> Any:
        return (values.to(torch.float32) if self.precision == "fp8" else values).to(torch.float64)

    def multiply(self) -> None:
        """Start all products."""
        if self.precision == "fp8":
            for a, b, c in zip(self.a, self.b, self.c, strict=True):
                torch._scaled_mm(a, b.t(), self.one, self.one, out_dtype=c.dtype, out=c)
            return
        torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"
        for a, b, c in zip(self.a, self.b, self.c, strict=True):
            torch.mm(a, b, out=c)

    def sync(self) -> None:
        """Wait for all that was started."""
        self.engine.sync()

    def _sums(self, part: Any) -> Any:
        """Checksums of matrices: their bits as 64-bit words, summed down the rows of each tile."""
        rows = numbers.span(self.size)
        words = part.view(torch.int64)
        return words.view(part.shape[0], self.size // rows, rows, words.shape[-1]).sum(2)

    def keep(self) -> Any:
        """Make the outputs as they are the golden ones; returns their checksums (numpy)."""
        self.golden = self._sums(self.c)
        return self.golden.cpu().numpy()

    def check(self) -> None:
        """Count the checksums that differ from the golden ones, on the device."""
        self.count += (self._sums(self.c) != self.golden).view(self.blocks, -1).sum(1)

    def bad(self) -> list[int]:
        """The count of each block, and start again from nothing. Waits for the device."""
        found: list[int] = self.count.tolist()
        if any(found):
            self.count.zero_()
        return found

    def changed(self, blocks: list[int]) -> list[str]:
        """Which inputs of each block no longer are what they were: ``""``, ``A``, ``B`` or ``AB``."""
        return [
            "".join(
                name
                for name, part, kept in zip("AB", (self.a, self.b), self.inputs, strict=True)
                if bool((self._sums(part[block : block + 1])[0] != kept[block]).any())
            )
            for block in blocks
        ]

    def restore(self, block: int) -> None:
        """Make the inputs of a block again."""
        self._fill(block)

    def output(self, block: int) -> Any:
        """A product's bits as unsigned integers, flat (numpy)."""
        raw = self.c[block].view(torch.uint8).cpu().numpy().copy()  # the processor's own is only lent
        return raw.reshape(-1).view(f"u{self.output_bits // 8}")

    def elements(self, block: int, corner: tuple[int, int], edge: int) -> Any:
        """A tile of a product as float64 (numpy)."""
        row, column = corner
        part = self.c[block, row : row + edge, column : column + edge]
        return part.to(torch.float64).cpu().numpy()

    def freivalds(self, blocks: list[int], signs: Any) -> list[float]:
        """Largest |C x - A (B x)| of each block over rows and groups of columns, computed in float64."""
        x = torch.from_numpy(signs).to(self.engine.device)
        return [self._residual(block, x) for block in blocks]

    def _residual(self, block: int, x: Any) -> float:
        n = self.size
        width = numbers.span(n)
        right = self.b[block].t() if self.precision == "fp8" else self.b[block]
        rows = max(1, _CHUNK // n)
        spans = [slice(first, min(n, first + rows)) for first in range(0, n, rows)]
        grouped = torch.cat([(self._wide(right[s]) * x).view(-1, n // width, width).sum(2) for s in spans])
        worst = []
        for s in spans:
            said = (self._wide(self.c[block][s]) * x).view(-1, n // width, width).sum(2)
            worst.append((said - self._wide(self.a[block][s]) @ grouped).abs().max())
        return float(torch.stack(worst).max())

    def flip(self, block: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of a product."""
        self._turn(self.c[block], element, bit)

    def flip_input(self, block: int, which: int, element: int, bit: int) -> None:
        """Test hook: flip one bit of one element of an input."""
        self._turn((self.a, self.b)[which][block], element, bit)

    def _turn(self, part: Any, element: int, bit: int) -> None:
        place = element * part.dtype.itemsize + bit // 8
        part.view(torch.uint8).view(-1)[place] ^= 1 << bit % 8

    def close(self) -> None:
        """Give the memory back."""
        self.a = self.b = self.c = self.golden = self.inputs = None  # type: ignore[assignment]
        if self.engine.gpu:
            torch.cuda.empty_cache()


def _shift(z: Any, by: int) -> Any:
    """Logical shift to the right of int64."""
    return (z >> by) & ((1 << (64 - by)) - 1)
