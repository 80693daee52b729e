"""The memory test on a GPU: patterns over as much of its memory as was asked for, all of it held at once.

All memory is written before any of it is read, so that two addresses that lead to one cell are found.
"""

from __future__ import annotations

import time

from harness.payload import memory_patterns as patterns
from harness.vendors.payload.gpu import gpu_compute
from harness.vendors.payload.names import COMPUTE

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


BATCH = 5
"""Copies between two looks at the clock."""


class Sweep:
    """One GPU's memory: pieces, and where each begins in the whole, counted in words."""

    def __init__(self, gpu: Any, pieces: list[tuple[int, int]]) -> None:
        self.gpu = gpu
        self.pieces: list[tuple[int, int, int]] = []
        self.words = 0
        # The largest last: what was written last is looked at first every other time, and from a small piece
        # that would come out of the card's cache (126 MB on B200) and not out of its memory.
        for address, size in sorted(pieces, key=lambda piece: piece[1]):
            self.pieces.append((address, size // 8, self.words))
            self.words += size // 8

    def fill(self, kind: int, argument: int) -> float:
        """Write a pattern everywhere; seconds."""
        gpu = self.gpu
        return float(
            gpu.timed(lambda: [gpu.fill(a, words, first, kind, argument) for a, words, first in self.pieces])
        )

    def verify(self, kind: int, argument: int, then: int | None, *, backwards: bool) -> dict[str, Any]:
        """Compare everywhere, and write again with the argument ``then`` unless that is None."""
        gpu = self.gpu

        def queue() -> None:
            for address, words, first in reversed(self.pieces) if backwards else self.pieces:
                if then is None:
                    gpu.verify(address, words, first, kind, argument)
                else:
                    gpu.verify_fill((address, words), first, kind, argument, then)

        gpu.clear()
        seconds = gpu.timed(queue)
        return {**gpu.report(), "verify_seconds": seconds}

    def word(self, index: int) -> int:
        """The word at a place in the whole."""
        for address, words, first in self.pieces:
            if first <= index < first + words:
                return int(self.gpu.read_words(address + 8 * (index - first), 1)[0])
        raise IndexError(index)


def work(job: dict[str, Any], address: str, note: Any) -> dict[str, Any]:
    """All passes over one GPU. Raises DriverError for whatever the card refuses."""
    gpu = gpu_compute.open_gpu(address, job.get("sysroot", "/"), note)
    free = gpu.free()
    sweep = Sweep(gpu, gpu.pieces(int(-(-gpu.total * job["share"] // 1)), note))
    observed = {"name": gpu.name, "total": gpu.total, "free": free, "words": sweep.words}
    if not sweep.pieces:
        return {**observed, "proof": None, "passes": [], "samples": [], "copy_rate": None, "read_rate": None}
    note("planting faults")
    observed["proof"] = _prove(job, gpu, sweep)
    observed["passes"] = _passes(job, sweep, note)
    observed["samples"] = [[r % sweep.words, sweep.word(r % sweep.words)] for r in job["samples"]]
    note("measuring rates")
    observed["read_rate"], observed["copy_rate"] = _rates(gpu, sweep, job["bandwidth_seconds"])
    return {**observed, COMPUTE: gpu.driver.version()}


def _prove(job: dict[str, Any], gpu: Any, sweep: Sweep) -> dict[str, Any]:
    """Plant faults and look for them: whether this test can find any at all."""
    address, words = sweep.pieces[0][0], job["proof_words"]
    gpu.clear()
    gpu.fill(address, words, 0, patterns.RANDOM, job["proof_seed"])
    for index, bit in job["planted"]:
        gpu.launch("sd_flip", address, index, 1 << bit, blocks=1)
    gpu.verify(address, words, 0, patterns.RANDOM, job["proof_seed"])
    return gpu.report()  # type: ignore[no-any-return]


def _passes(job: dict[str, Any], sweep: Sweep, note: Any) -> list[dict[str, Any]]:
    passes: list[dict[str, Any]] = []
    left = gpu_compute.RECORDS
    for pattern, kind, argument, fill, then in job["passes"]:
        note(f"{pattern} {argument:x} over {8 * sweep.words} bytes")
        filled = round(sweep.fill(kind, argument), 6) if fill else None
        if kind == patterns.RANDOM:
            time.sleep(job["hold_seconds"])
        seen = sweep.verify(kind, argument, then, backwards=len(passes) % 2 == 1)
        # Events tell half a microsecond; further digits are noise, and a mix brings many results back.
        seen["verify_seconds"] = round(seen["verify_seconds"], 6)
        seen["faults"] = seen["faults"][:left]
        left -= len(seen["faults"])
        passes.append({"pattern": pattern, "fill_seconds": filled, **seen})
    return passes


def _rates(gpu: Any, sweep: Sweep, seconds: float) -> tuple[float, float]:
    """Bytes per second, the best batch: read; and read plus written, when one half is copied to the other."""
    address, words = max(((a, w) for a, w, _ in sweep.pieces), key=lambda piece: piece[1])
    half = words // 2
    reads = _best(gpu, lambda: gpu.launch("sd_read", address, words, gpu.scratch), 8 * words, seconds)
    source = address + 8 * half
    copies = _best(gpu, lambda: gpu.launch("sd_copy", address, source, half), 16 * half, seconds)
    return reads, copies


def _best(gpu: Any, queue: Any, size: int, seconds: float) -> float:
    best, begun = 0.0, time.monotonic()
    while not best or time.monotonic() - begun < seconds:
        spent = gpu.timed(lambda: [queue() for _ in range(BATCH)])
        best = max(best, BATCH * size / max(1e-9, spent))
    return best
