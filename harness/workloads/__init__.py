"""Load runs in a guest, each with a known answer.

A stage uses it like this, with one connection to the guest::

    run(install(place), stdin=payload_tar())            # unless the image holds the payload
    run(start(job, workload.prepare(job)))              # again after a lost connection: starts nothing twice
    run(wait(job, 60)) ...                              # each blocks in the guest, no polling
    raw = run(collect(job)).stdout
    result = judge(workload, job, raw)                  # pure, never raises for what a guest says
"""

from __future__ import annotations

from harness.errors import ConfigError
from harness.workloads import device, hashing, mix, p2p, pcie, render, stream, tensor, transcode, vram
from harness.workloads.base import GuestDevice, Job, Parsed, Place, Scalar, Workload, settings
from harness.workloads.files import install, payload_files, payload_tar
from harness.workloads.judge import judge
from harness.workloads.runs import (
    Collected,
    RunStatus,
    collect,
    parse_collected,
    parse_status,
    start,
    stop,
    wait,
)

WORKLOADS: tuple[Workload, ...] = (
    device.WORKLOAD,
    hashing.WORKLOAD,
    mix.WORKLOAD,
    p2p.WORKLOAD,
    pcie.WORKLOAD,
    render.WORKLOAD,
    stream.WORKLOAD,
    tensor.WORKLOAD,
    transcode.WORKLOAD,
    vram.WORKLOAD,
)
"""Every workload; a test compares it with the modules of this folder."""

__all__ = [
    "WORKLOADS",
    "Collected",
    "GuestDevice",
    "Job",
    "Parsed",
    "Place",
    "RunStatus",
    "Scalar",
    "Workload",
    "applies",
    "collect",
    "install",
    "judge",
    "parse_collected",
    "parse_status",
    "payload_files",
    "payload_tar",
    "settings",
    "start",
    "stop",
    "wait",
    "workload",
]


def workload(name: str) -> Workload:
    """The workload of that name. Raises ConfigError naming those there are."""
    for known in WORKLOADS:
        if known.name == name:
            return known
    raise ConfigError(f"unknown workload {name!r} (known: {', '.join(w.name for w in WORKLOADS)})")


def applies(name: str, job: Job) -> bool:
    """Whether the guest has what the workload is about: ``device`` needs a device handed over."""
    return name != device.WORKLOAD.name or bool(device.due(job))
