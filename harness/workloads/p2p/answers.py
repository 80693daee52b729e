"""Copies between all pairs of a guest's GPUs, compared by the GPU that owns the memory written to.

A pair without peer access is copied through the host by the driver, is reported as such and compared all the
same. A guest with fewer than two GPUs has nothing to copy between: see ``harness.workloads.applicable``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import ParseError, WorkloadError
from harness.model.evidence import Answer
from harness.model.outcome import Measurement
from harness.vendors import loads
from harness.workloads.base import (
    Job,
    Observation,
    Parsed,
    command,
    exact,
    gpus,
    measure,
    report_of,
    settings,
    within,
)
from harness.workloads.entries import entries, settled
from harness.workloads.p2p.payload.job import COPIES
from harness.workloads.p2p.spec import SPEC
from harness.workloads.spec import WorkloadSpec

_OVER_PCIE = (
    "; healthy GPUs do so too where an IOMMU is on or ACS redirects: look at the host's settings first"
)
"""Seen with peer access granted and no error: NVIDIA/open-gpu-kernel-modules#1257, CAPS-UMU/FIDESlib#28, and
under VFIO NVIDIA/nccl#2335. It stays wrong: whoever rents the pair would compute with such words."""
_RANGES = (("mib", 1, 4096), ("repeats", 1, 10_000), ("stall_seconds", 1, 3600))
"""Setting to the least and the most that it can be."""


@dataclass(frozen=True, slots=True)
class P2p:
    """Copy engine, stores and loads from each GPU to each other one."""

    spec: WorkloadSpec = SPEC

    def _given(self, job: Job) -> dict[str, Any]:
        return within(SPEC, settings(SPEC, job), _RANGES)

    def prepare(self, job: Job) -> tuple[str, ...]:
        """The payload's command line. Raises ConfigError, and WorkloadError with fewer than two GPUs."""
        given = self._given(job)
        arguments = {
            "gpus": [str(gpu.address) for gpu in _both(job)],
            **{name: given[name] for name in ("mib", "repeats", "stall_seconds")},
            "seed": _seed(job),
        }
        return command(job, SPEC.job, arguments)

    def parse(self, job: Job, stdout: bytes) -> Parsed:
        """Each ordered pair's answers. Raises ParseError."""
        given = self._given(job)
        names = [str(gpu.address) for gpu in _both(job)]
        pairs = [f"{first}->{second}" for first in names for second in names if first != second]
        seen, engine, versions = report_of(SPEC, stdout)
        answers = [exact("engine", loads.COMPUTE, engine)]
        measurements: list[Measurement] = []
        found = entries(SPEC.name, seen, pairs)
        for entry in found:
            answers += entry.finished
            if entry.observed is not None:
                more, measured = _pair(entry.name, entry.observed, given)
                answers += more
                measurements += measured
        return Parsed(
            engine=engine,
            answers=settled(SPEC.name, answers, found),
            measurements=tuple(measurements),
            versions=versions,
        )


def _both(job: Job) -> tuple[Any, ...]:
    found = gpus(job)
    if len(found) < 2:
        raise WorkloadError(
            f"{job.guest} has {len(found)} GPUs; peer copies need two", remedy="request a guest with two GPUs"
        )
    return found


def _seed(job: Job) -> int:
    return int.from_bytes(hashlib.sha256(f"{job.tenant}\n{job.key}\np2p".encode()).digest()[:8], "little")


def _pair(name: str, seen: Observation, given: Mapping[str, Any]) -> tuple[list[Answer], list[Measurement]]:
    access, nvlink = seen.flag("access"), None if seen.is_null("nvlink") else seen.flag("nvlink")
    path = "through the host" if not access else {True: "NVLink", False: "PCIe", None: "peer"}[nvlink]
    once = given["mib"] << 17
    batches = once * COPIES * given["repeats"]
    ways = [("copy", batches)]
    if access:
        ways += [("store", batches), ("load", once)]
    elif not seen.is_null("store") or not seen.is_null("load"):
        raise ParseError(f"p2p: {name} has no peer access but did peer stores or loads")
    answers, measurements = [], []
    for way, words in ways:
        if seen.is_null(way):
            answers.append(exact(f"{name} {way}", f"0 wrong of {words} words", None, path))
            continue
        one = seen.inner(way)
        compared, wrong, speed = one.integer("words"), one.integer("wrong"), one.number("rate")
        if speed <= 0:
            raise ParseError(f"p2p: a rate of {speed:g} cannot be")
        detail = f"{path}, compared by {'the reader' if way == 'load' else 'the owner'}"
        if wrong:
            detail += f"; bits {one.integer('bits'):#x}"
            detail += _OVER_PCIE if access and not nvlink else ""
        said = f"{wrong} wrong of {compared} words"
        answers.append(exact(f"{name} {way}", f"0 wrong of {words} words", said, detail))
        figure = "p2p.bandwidth" if way == "copy" else f"p2p.{way}_bandwidth"
        measurements.append(measure(figure, speed / 1e9, "GB/s", subject=name))
    if given["demand_peer"]:
        answers.append(exact(f"{name} peer access", True, access))
    if given["demand_nvlink"]:
        answers.append(exact(f"{name} NVLink", True, nvlink, "NVML does not say" if nvlink is None else ""))
    found = [("access", access), ("nvlink", nvlink)]
    flags = [
        measure(f"p2p.{what}", None if flag is None else float(flag), "1", subject=name)
        for what, flag in found
    ]
    return answers, measurements + flags


WORKLOAD = P2p()
