"""The memory test on the processor: main memory of this machine, block by block.

It tests RAM through the processor's caches, not a card's memory, and its measurements say ``ram``.
"""

from __future__ import annotations

import mmap
import time

from harness.payload import memory_patterns as patterns

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


BLOCK_WORDS = 8192
BLOCK = 8 * BLOCK_WORDS
MODULUS = (1 << 64) - 1
"""Sums are taken modulo this: 2 ** 64 is 1 then, so that a block can be folded as one integer."""
RECORDS = 64


def residue(block: bytes) -> int:
    """The sum of a block's words (a power of two of them), modulo MODULUS."""
    whole, bits = int.from_bytes(block, "little"), 8 * len(block)
    while bits > 64:
        bits //= 2
        whole = (whole >> bits) + (whole & (1 << bits) - 1)
    return whole % MODULUS


class Memory:
    """Memory taken from the system and the passes over it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.map = mmap.mmap(-1, size)
        self.blocks = patterns.Blocks(BLOCK_WORDS)

    def fill(self, kind: int, argument: int, end: int) -> None:
        """Write a pattern from the beginning to byte ``end``."""
        for at in range(0, end, BLOCK):
            self.map[at : at + BLOCK] = self.blocks.block(kind, at // 8, argument)

    def verify(self, kind: int, argument: int, then: int | None, end: int) -> dict[str, Any]:
        """Compare, and write again with the argument ``then`` unless that is None."""
        wrong, total, bits, faults = 0, 0, 0, []
        for at in range(0, end, BLOCK):
            expected, got = self.blocks.block(kind, at // 8, argument), self.map[at : at + BLOCK]
            if then is not None:
                self.map[at : at + BLOCK] = self.blocks.block(kind, at // 8, then)
            total += residue(got)
            if got != expected:
                for n in range(0, BLOCK, 8):
                    a, b = (int.from_bytes(x[n : n + 8], "little") for x in (expected, got))
                    if a != b:
                        wrong, bits = wrong + 1, bits | a ^ b
                        faults.append([(at + n) // 8, a, b])
        return {
            "words": end // 8, "mismatches": wrong, "sum": total % MODULUS, "bits": bits,
            "faults": faults[:RECORDS],
        }  # fmt: skip


def work(job: dict[str, Any], _address: str, note: Any) -> dict[str, Any]:
    """All passes. Raises OSError when the memory cannot be had."""
    note(f"taking {job['mib']} MiB")
    memory = Memory(job["mib"] << 20)
    note("taken", ready=True)
    proof = _prove(job, memory)
    passes, left = [], RECORDS
    for pattern, kind, argument, fill, then in job["passes"]:
        note(f"{pattern} {argument:x}")
        started = time.monotonic()
        if fill:
            memory.fill(kind, argument, memory.size)
        filled = time.monotonic()
        if kind == patterns.RANDOM:
            time.sleep(job["hold_seconds"])
        begun = time.monotonic()
        seen = memory.verify(kind, argument, then, memory.size)
        seen["faults"] = seen["faults"][:left]
        left -= len(seen["faults"])
        times = {
            "fill_seconds": filled - started if fill else None,
            "verify_seconds": time.monotonic() - begun,
        }
        passes.append({"pattern": pattern, **seen, **times})
    words = memory.size // 8
    samples = [[r % words, int.from_bytes(memory.map[r % words * 8 :][:8], "little")] for r in job["samples"]]
    return {
        "name": "RAM", "total": memory.size, "free": memory.size, "words": words, "proof": proof,
        "passes": passes, "samples": samples, "copy_rate": _copy_rate(memory, job["bandwidth_seconds"]),
        "read_rate": None,
    }  # fmt: skip


def _prove(job: dict[str, Any], memory: Memory) -> dict[str, Any]:
    """Plant faults and look for them: whether this test can find any at all."""
    end = 8 * job["proof_words"]
    memory.fill(patterns.RANDOM, job["proof_seed"], end)
    for index, bit in job["planted"]:
        memory.map[8 * index + bit // 8] ^= 1 << bit % 8
    return memory.verify(patterns.RANDOM, job["proof_seed"], None, end)


def _copy_rate(memory: Memory, seconds: float) -> float:
    """Bytes read and written per second when one half is copied onto the other; the best of all."""
    half, best, begun = memory.size // 2, 0.0, time.monotonic()
    view = memoryview(memory.map)
    while not best or time.monotonic() - begun < seconds:
        started = time.perf_counter()
        view[:half] = view[half : 2 * half]
        best = max(best, 2 * half / max(1e-9, time.perf_counter() - started))
    view.release()
    return best
