"""Copies from each GPU to each other GPU, compared by the one that owns the memory written to.

Usage: ``job.main(JSON)`` with the parameters of ``harness.workloads.p2p``. Prints one line of strict JSON:
what was observed of each ordered pair. It judges nothing.

That a GPU reads back what it wrote to its peer proves nothing: such writes have been seen to never reach the
peer. So the owner compares. Three ways are tried: the copy engine, always (without peer access the driver
goes through the host); stores and loads of a kernel, with peer access.
"""

from __future__ import annotations

import json

from harness.payload import bounded
from harness.payload import memory_patterns as patterns
from harness.vendors.payload.gpu import gpu_compute as device
from harness.vendors.payload.gpu import gpu_driver as driver
from harness.vendors.payload.gpu import gpu_link
from harness.vendors.payload.names import COMPUTE

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

COPIES = 4
"""Copies in one timed batch, each to a place of its own, so that each is compared."""


class Pair:
    """Two opened GPUs with a buffer on each: ``source`` holds random words, ``target`` is written to."""

    def __init__(self, job: dict[str, Any], source: Any, target: Any) -> None:
        self.source, self.target = source, target
        self.size, self.seed, self.repeats = job["mib"] << 20, job["seed"], job["repeats"]
        self.words = self.size // 8
        source.use()
        self.here = source.allocate(self.size)
        source.fill(self.here, self.words, 0, patterns.RANDOM, self.seed)
        source.wait()
        target.use()
        self.there = [target.allocate(self.size) for _ in range(COPIES)]

    def clean(self, kind: int, argument: int) -> None:
        """The owner overwrites the targets."""
        self.target.use()
        for place in self.there:
            self.target.fill(place, self.words, 0, kind, argument)
        self.target.wait()

    def owner_compares(self, seen: dict[str, Any]) -> None:
        """Counts are added to ``seen``."""
        self.target.use()
        self.target.clear()
        for place in self.there:
            self.target.verify(place, self.words, 0, patterns.RANDOM, self.seed)
        report = self.target.report()
        seen["words"] += report["words"]
        seen["wrong"] += report["mismatches"]
        seen["bits"] |= report["bits"]

    def push(self, queue: Any) -> dict[str, Any]:
        """What ``queue`` writes to the peer, over and over; bytes per second of the best batch."""
        seen = {"words": 0, "wrong": 0, "bits": 0, "rate": 0.0}
        for _ in range(self.repeats):
            self.clean(patterns.CONSTANT, 0)
            self.source.use()
            spent = self.source.timed(lambda: [queue(place) for place in self.there])
            self.source.wait()
            seen["rate"] = max(seen["rate"], COPIES * self.size / max(1e-9, spent))
            self.owner_compares(seen)
        return seen

    def copy(self, place: int) -> None:
        """By the copy engine."""
        self.source.driver(
            "cuMemcpyPeerAsync", place, self.target.context, self.here, self.source.context, self.size,
            None,
        )  # fmt: skip

    def store(self, place: int) -> None:
        """By a kernel of the source."""
        self.source.launch("sd_copy", place, self.here, self.words)

    def load(self) -> dict[str, Any]:
        """A kernel of the source reads what the owner wrote, and compares."""
        seed = self.seed ^ (1 << 64) - 1
        self.clean(patterns.RANDOM, seed)
        self.source.use()
        self.source.clear()
        spent = self.source.timed(
            lambda: self.source.verify(self.there[0], self.words, 0, patterns.RANDOM, seed)
        )
        report = self.source.report()
        return {
            "words": report["words"], "wrong": report["mismatches"], "bits": report["bits"],
            "rate": self.size / max(1e-9, spent),
        }  # fmt: skip


def work(job: dict[str, Any], addresses: list[str], note: Any) -> dict[str, Any]:
    """One ordered pair. Raises Unable and DriverError."""
    first, second = addresses
    source = device.open_gpu(first, job.get("sysroot", "/"), note)
    note(f"opening {second}")
    target = device.Gpu(source.driver, second)
    call = source.driver
    access = bool(call.number("c_int", "cuDeviceCanAccessPeer", source.number, target.number))
    pair = Pair(job, source, target)
    if access:
        source.use()
        try:
            call("cuCtxEnablePeerAccess", target.context, 0)
        except driver.DriverError as error:
            # What the driver promises of a pair it may still refuse: then copies go through the host.
            access = error.code not in (driver.PEER_UNSUPPORTED, driver.TOO_MANY_PEERS)
            if access and error.code != driver.PEER_ALREADY:
                raise
    note("copying")
    observed: dict[str, Any] = {"access": access, "nvlink": gpu_link.nvlink(gpu_link.load(), first, second)}
    observed["copy"] = pair.push(pair.copy)
    observed["store"] = observed["load"] = None
    if access:
        note("storing")
        observed["store"] = pair.push(pair.store)
        note("loading")
        observed["load"] = pair.load()
    return {**observed, COMPUTE: call.version()}


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    pairs = {f"{a}->{b}": [a, b] for a in job["gpus"] for b in job["gpus"] if a != b}

    def on(pair: list[str]) -> bounded.Work:
        return lambda note: work(job, pair, note)

    outcomes = {name: bounded.alone(on(pair), job["stall_seconds"]) for name, pair in pairs.items()}
    bounded.conclude("p2p", COMPUTE, outcomes)
