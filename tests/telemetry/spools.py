"""Spools as the sampler writes them, made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

FAST = ("power", "energy", "temperature", "clock_sm", "reasons", "pcie_gen")
SLOW = ("ecc_corrected", "remap_pending", "memory_used", "processes")


def line(kind: str, **values: Any) -> bytes:
    return json.dumps({"type": kind, **values}).encode() + b"\n"


def start(**values: Any) -> bytes:
    given: dict[str, Any] = {
        "format": 1,
        "boot_id": "b",
        "mono": 99.0,
        "wall": 1.7e9,
        "pid": 4,
        "fast_hz": 10.0,
        "slow_hz": 1.0,
        "deadline": 2.0,
        "kmsg": "/dev/kmsg",
    }
    return line("start", **given | values)


def nvml(**values: Any) -> bytes:
    given: dict[str, Any] = {"mono": 99.1, "source": "nvml", "standin": "", "driver": "535.261.03"}
    given |= {"nvml": "12.535", "library": "/usr/lib/libnvidia-ml.so.1", "gpus": 1, "detail": ""}
    return line("nvml", **given | values)


def gpu(index: int = 0, **values: Any) -> bytes:
    given: dict[str, Any] = {
        "mono": 99.2,
        "gpu": index,
        "uuid": f"GPU-{index:04d}",
        "name": "NVIDIA H200",
        "address": f"0000:{5 + index:02x}:00.0",
        "pci_id": "10de:2335",
        "subsystem": "10de:18be",
        "serial": "1654",
        "vbios": "96.00",
        "memory_bytes": 150754820096,
        "properties": {"power_limit": 700.0, "ecc_current": True, "temperature_gpu_max": None},
        "fast": FAST,
        "slow": SLOW,
        "not_offered": ["util_encoder", "nvlink_crc"],
    }
    return line("gpu", **given | values)


def fast(at: float, index: int = 0, **values: Any) -> bytes:
    given = {"power": 500.0 + at, "energy": 600.0 * at, "temperature": 61.0, "clock_sm": 1980.0}
    given |= {"reasons": 4, "pcie_gen": 5} | values
    return line("fast", mono=at, gpu=index, values=[given[name] for name in FAST])


def slow(at: float, index: int = 0, **values: Any) -> bytes:
    given = {"ecc_corrected": 0, "remap_pending": 0, "memory_used": 5e9, "processes": 1} | values
    return line("slow", mono=at, gpu=index, values=[given[name] for name in SLOW])


def end(at: float, reason: str = "SIGTERM") -> bytes:
    return line("end", mono=at, wall=1.7e9, cpu_seconds=1.25, reason=reason, left=[])


def grid(first: float, last: float, step: float) -> Iterator[float]:
    count = int((last - first) / step + 0.5)
    yield from (round(first + place * step, 3) for place in range(count + 1))


def whole(first: float = 100.0, last: float = 120.0, gpus: Iterable[int] = (0,)) -> list[bytes]:
    """A quiet spool of 10 Hz from ``first`` to ``last``."""
    lines = [start(), nvml(), line("kmsg_start", mono=99.0, seq=1), *(gpu(index) for index in gpus)]
    for at in grid(first, last, 0.1):
        for index in gpus:
            lines += [slow(at, index)] if round(at, 3) == round(at) else []
            lines.append(fast(at, index))
    return [*lines, end(last + 0.1)]
