"""Copies between the cells of this machine by its processors: no device takes part.

The lab and a machine without a GPU show with it that binding works and that data arrives; what it measures is
called ``ram``, and no link is in it.
"""

from __future__ import annotations

import ctypes
import time

from harness.payload import cells
from harness.payload import memory_patterns as patterns

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


BLOCK_WORDS = 8192


def work(job: dict[str, Any], _address: str, note: Any) -> dict[str, Any]:
    """Every cell's processors copy from their own memory to each cell's. Raises Unable."""
    binder = cells.Binder(job.get("sysroot", "/"))
    size = job["mib"] << 20
    note("taking memory", ready=True)
    blocks, found = patterns.Blocks(BLOCK_WORDS), []
    for first in binder.cells:
        for second in binder.cells:
            note(f"copying from cell {first} to cell {second}")
            binder.bind(second)
            target = cells.Block(size)
            binder.bind(first)
            source = cells.Block(size)
            source.write(blocks, patterns.RANDOM, job["seed"])
            found.append({"from": first, "to": second, **_copy(job, binder, source, target)})
            binder.release()
    return {"cells": list(binder.cells), "copied": found}


def _copy(job: dict[str, Any], binder: Any, source: Any, target: Any) -> dict[str, Any]:
    best, wrong = 0.0, 0
    for _ in range(job["repeats"]):
        target.set(0xFF)
        started = time.perf_counter()
        ctypes.memmove(target.address, source.address, source.size)
        best = max(best, source.size / max(1e-9, time.perf_counter() - started))
        wrong += target.words_unlike(source)
    words = source.size // 8
    return {
        "rate": best, "words": words * job["repeats"], "wrong": wrong,
        "source_nodes": binder.where(source.address, source.size),
        "target_nodes": binder.where(target.address, target.size),
        "samples": [[r % words, target.word(r % words)] for r in job["samples"]],
    }  # fmt: skip
