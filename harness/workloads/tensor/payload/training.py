"""A small network trained on generated data by the framework, and in float64 beside it."""

from __future__ import annotations

import time

import numpy as np

from harness.workloads.tensor.payload import numbers

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


def fractions(seed: int, rows: int, columns: int) -> Any:
    """A matrix of multiples of 2^-23 in [-1, 1), exact in float32, as float64."""
    places = np.arange(rows * columns, dtype=np.uint64)
    values = numbers.scatter(seed, places) >> np.uint64(40)
    return values.astype(np.float64).reshape(rows, columns) / 2.0**23 - 1.0


def data(job: dict[str, Any]) -> dict[str, Any]:
    """Inputs, targets of a fixed teacher, first weights and rate: float64 that float32 holds exactly."""
    batch, width, hidden, seed = (job[k] for k in ("batch", "width", "hidden", "seed"))
    x = fractions(seed + 10, batch, width)
    layer = np.tanh(x @ fractions(seed + 11, width, hidden))
    y = (layer @ fractions(seed + 12, hidden, 1)).astype(np.float32)
    w1 = fractions(seed + 13, width, hidden) / 4.0
    w2 = fractions(seed + 14, hidden, 1) / 4.0
    rate = np.float32(float(job["learning_rate"]) / batch)
    return {"x": x, "y": y.astype(np.float64), "w1": w1, "w2": w2, "rate": rate.astype(np.float64)}


class Training:
    """The same training, as often as it is asked for: it must end in the same bits each time."""

    def __init__(self, engine: Any, job: dict[str, Any]) -> None:
        self.engine, self.job = engine, job
        self.data = data(job)
        self.single = {key: value.astype(np.float32) for key, value in self.data.items()}
        self.losses: list[float] = []
        self.first: list[Any] = []
        self.times = self.differing = 0
        self.seconds = 0.0

    def once(self) -> None:
        """Train from the same start, and compare every loss and weight with the first time, bit for bit."""
        started = time.perf_counter()
        losses, weights = self.engine.train(self.single, self.job["steps"])
        self.seconds += time.perf_counter() - started
        self.times += 1
        seen = [np.array(losses, np.float32).tobytes(), *(w.tobytes() for w in weights)]
        if not self.first:
            self.first, self.losses = seen, losses
        self.differing += seen != self.first

    def observed(self) -> dict[str, Any]:
        """First and last loss (a sample's mean), those of float64, and how often a repetition differed."""
        batch, finite = self.job["batch"], numbers.finite
        references = self._references()
        return {
            "losses": [finite(self.losses[0] / batch), finite(self.losses[-1] / batch)],
            "reference_losses": [finite(references[0]), finite(references[-1])],
            "steps": len(self.losses),
            "times": self.times,
            "differing": self.differing,
            "seconds": self.seconds,
        }

    def _references(self) -> list[float]:
        given, found = self.data, []
        x, y, w1, w2, rate = (given[k] for k in ("x", "y", "w1", "w2", "rate"))
        for _ in range(self.job["steps"]):
            h = np.tanh(x @ w1)
            miss = h @ w2 - y
            found.append(float((miss * miss).sum()) / 2.0 / self.job["batch"])
            back = (miss @ w2.T) * (1.0 - h * h)
            w1, w2 = w1 - rate * (x.T @ back), w2 - rate * (h.T @ miss)
        return found
