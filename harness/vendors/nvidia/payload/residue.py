"""What an earlier tenant left in a GPU's memory, and what this one leaves in it, through the CUDA driver.

Memory is counted as the driver hands it out, unwritten. A driver may clear it before, on the card or as it
gives it away: what is not found was not there for a tenant who asks the driver, and no more is claimed.
"""

from __future__ import annotations

from harness.payload import memory_patterns as patterns
from harness.vendors.nvidia.payload import compute as gpu_compute

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


PROOF_WORDS = 4096
"""Words that are written after the look, to show that it would have counted them: another word, since a look
that breaks here would leave the tenants' own behind."""


def look(address: str, word: int, sysroot: str, note: Any) -> dict[str, Any]:
    """Count a word in all memory that is free. Raises DriverError and Unable."""
    gpu = gpu_compute.open_gpu(address, sysroot, note)
    pieces = gpu.pieces(gpu.total, note)
    note("searching for an earlier tenant's data")
    seen = _seen(gpu, pieces, word)
    if pieces:
        start, other = pieces[0][0], ~word & (1 << 64) - 1
        gpu.fill(start, PROOF_WORDS, 0, patterns.CONSTANT, other)
        seen["proof"] = _count(gpu, [(start, 8 * PROOF_WORDS)], other)
    return seen


def plant(address: str, word: int, sysroot: str, note: Any) -> dict[str, Any]:
    """Write a word into all memory that is free, and hold it. Raises DriverError and Unable."""
    gpu = gpu_compute.open_gpu(address, sysroot, note)
    pieces = gpu.pieces(gpu.total, note)
    note("writing the canary that a later tenant searches for")
    for start, size in pieces:
        gpu.fill(start, size // 8, 0, patterns.CONSTANT, word)
    return _seen(gpu, pieces, word)


def _seen(gpu: Any, pieces: list[tuple[int, int]], word: int) -> dict[str, Any]:
    held = sum(size for _, size in pieces)
    return {"total": gpu.total, "bytes": held, "matching": _count(gpu, pieces, word)}


def _count(gpu: Any, pieces: list[tuple[int, int]], word: int) -> int:
    gpu.clear()
    for start, size in pieces:
        gpu.count(start, size // 8, word)
    return int(gpu.report()["words"])
