"""Copies between host memory of each cell and one GPU, pinned, both ways and at once, every word compared.

What arrives on the card is compared by the card with words it computes itself; what comes back is compared
with what was sent. Before each batch the target is overwritten, so that a copy that does nothing is found;
and no batch writes to a place twice, so that every copy is compared. (Those that only keep the link busy when
it is looked at, and those of one word, are not.)
"""

from __future__ import annotations

import time

from harness.payload import cells
from harness.payload import memory_patterns as patterns
from harness.vendors.payload.gpu import gpu_compute, gpu_link
from harness.vendors.payload.names import COMPUTE

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


BLOCK_WORDS = 8192
LOAD_SECONDS = 0.3
"""How long copies keep the link busy while it is looked at: a card leaves its idle state within a tenth."""


class Copies:
    """One GPU's buffers for copies to and from one cell: ``copies`` slots of ``size`` bytes on every side."""

    def __init__(self, gpu: Any, job: dict[str, Any]) -> None:
        self.gpu, self.seed = gpu, job["seed"]
        self.size, self.count = job["mib"] << 20, job["copies"]
        self.whole, self.repeats = self.size * self.count, job["repeats"]
        self.words = self.whole // 8
        self.arrived, self.sent = gpu.allocate(self.whole), gpu.allocate(self.whole)
        self.streams = gpu.stream(), gpu.stream()
        self.blocks = patterns.Blocks(BLOCK_WORDS)

    def take(self, note: Any) -> None:
        """Host memory, taken on the cell that this process is bound to, filled and pinned."""
        self.source, self.target = cells.Block(self.whole), cells.Block(self.whole)
        self.source.write(self.blocks, patterns.RANDOM, self.seed, note)
        for block in (self.source, self.target):
            self.gpu.pin(block.address, self.whole)

    def give_back(self) -> None:
        """The opposite."""
        for block in (self.source, self.target):
            self.gpu.unpin(block.address)

    def down(self, stream: int | None) -> None:
        """Queue host to device, each slot once."""
        for at in range(0, self.whole, self.size):
            self.gpu.driver(
                "cuMemcpyHtoDAsync_v2", self.arrived + at, self.source.address + at, self.size, stream
            )

    def up(self, stream: int | None) -> None:
        """Queue device to host, each slot once."""
        for at in range(0, self.whole, self.size):
            self.gpu.driver(
                "cuMemcpyDtoHAsync_v2", self.target.address + at, self.sent + at, self.size, stream
            )

    def clean(self) -> None:
        """Overwrite both targets."""
        self.gpu.fill(self.arrived, self.words, 0, patterns.CONSTANT, 0)
        self.target.set(0xFF)
        self.gpu.wait()

    def compare(self, seen: dict[str, Any], *, arrived: bool, returned: bool) -> None:
        """Compare what came, on its side; counts are added to ``seen``."""
        if arrived:
            self.gpu.clear()
            self.gpu.verify(self.arrived, self.words, 0, patterns.RANDOM, self.seed)
            report = self.gpu.report()
            seen["down_words"] += report["words"]
            seen["down_wrong"] += report["mismatches"]
        if returned:
            seen["up_words"] += self.words
            seen["up_wrong"] += self.target.words_unlike(self.source)


def work(job: dict[str, Any], address: str, note: Any) -> dict[str, Any]:
    """All cells, one after the other. Unable when memory cannot be bound, DriverError from the card."""
    sysroot = job.get("sysroot", "/")
    binder = cells.Binder(sysroot)
    gpu = gpu_compute.open_gpu(address, sysroot, note)
    note("taking device memory")
    copies = Copies(gpu, job)
    gpu.fill(copies.sent, copies.words, 0, patterns.RANDOM, job["seed"])
    gpu.wait()
    found: list[dict[str, Any]] = []
    seen = None
    near = cells.cell_of(address, sysroot)
    for cell in binder.cells:
        note(f"copies with cell {cell}")
        binder.bind(cell)
        copies.take(note)

        def batch(number: int, cell: int = cell) -> None:
            note(f"copies with cell {cell}, batch {number}")

        found.append({"cell": cell, **_measure(job, binder, copies, batch)})
        if near == cell or (near is None and cell == next(iter(binder.cells))):
            note(f"looking at the link of {address}")
            seen = _link(copies, address, sysroot)
        copies.give_back()
        binder.release()
    return {
        "name": gpu.name, COMPUTE: gpu.driver.version(), "near": near, "cells": list(binder.cells),
        "measured": found, "link": seen,
    }  # fmt: skip


def _measure(job: dict[str, Any], binder: Any, copies: Copies, batch: Any) -> dict[str, Any]:
    gpu, first = copies.gpu, copies.streams[0]
    seen: dict[str, Any] = {"down_words": 0, "down_wrong": 0, "up_words": 0, "up_wrong": 0}
    best = {"h2d": 0.0, "d2h": 0.0, "both": 0.0}
    for number in range(copies.repeats):
        batch(number + 1)
        copies.clean()
        spent = gpu.timed(lambda: copies.down(first), first)
        best["h2d"] = max(best["h2d"], copies.whole / max(1e-9, spent))
        copies.compare(seen, arrived=True, returned=False)
        spent = gpu.timed(lambda: copies.up(first), first)
        best["d2h"] = max(best["d2h"], copies.whole / max(1e-9, spent))
        copies.compare(seen, arrived=False, returned=True)
        copies.clean()
        best["both"] = max(best["both"], _both(copies))
        copies.compare(seen, arrived=True, returned=True)
    nodes = [binder.where(block.address, block.size) for block in (copies.source, copies.target)]
    known = [node for found in nodes if found is not None for node in found]
    samples = [r % copies.words for r in job["samples"]]
    return {
        **seen, **best, "latency": _latency(copies),
        "nodes": sorted(set(known)) if None not in nodes else None,
        "samples": [[index, copies.target.word(index)] for index in samples],
    }  # fmt: skip


def _both(copies: Copies) -> float:
    """Bytes per second of both directions together, by this process's own clock."""
    started = time.perf_counter()
    copies.down(copies.streams[0])
    copies.up(copies.streams[1])
    for stream in copies.streams:
        copies.gpu.driver("cuStreamSynchronize", stream)
    return float(2 * copies.whole / max(1e-9, time.perf_counter() - started))


def _latency(copies: Copies) -> float:
    """Seconds from asking for a copy of one word until it is known to be done; the median of many. Asking
    through ctypes is in it, some microseconds."""
    call, stream, source = copies.gpu.driver, copies.streams[0], copies.source.address
    taken = []
    for _ in range(201):
        started = time.perf_counter()
        call("cuMemcpyHtoDAsync_v2", copies.arrived, source, 8, stream)
        call("cuStreamSynchronize", stream)
        taken.append(time.perf_counter() - started)
    return sorted(taken)[100]


def _link(copies: Copies, address: str, sysroot: str) -> dict[str, Any] | None:
    """The best generation and width that the link shows while copies run both ways, and who said so.

    The best and not the last: a link on its way up, or read between two batches of copies, still shows the
    generation of an idle card. One that falls back under load is seen by telemetry, which looks all the time.
    """
    nvml = gpu_link.load()
    started, seen, best = time.monotonic(), None, (0, 0)
    while time.monotonic() - started < LOAD_SECONDS or seen is None:
        copies.down(copies.streams[0])
        copies.up(copies.streams[1])
        for source, said in (
            ("nvml", gpu_link.link(nvml, address)),
            ("sysfs", cells.link(address, sysroot)),
        ):
            if said is not None:
                if said > best:
                    best, seen = said, {"source": source, "generation": said[0], "width": said[1]}
                break
        for stream in copies.streams:
            copies.gpu.driver("cuStreamSynchronize", stream)
        if seen is None and time.monotonic() - started > LOAD_SECONDS:
            break
    return seen
