"""Hours of eight cards in seconds: what the stand-in plays, sampled, summed up and judged as a run would be.

    hour = Hour(build(folder), folder, scenario, gpus=4, seconds=3600.0, loads=loads)
    hour.judged()                      # GPU to check to (outcome, words)

The samples go into the same place that the reader of a spool puts them; ``lines`` writes them as the sampler
does, and a test holds both ways together.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.checks.registry import CHECKS, run_checks
from harness.config.files import load_kernel_codes
from harness.model.evidence import GuestEvidence
from harness.model.gpu import Cards, GpuRef
from harness.model.inventory import TelemetrySpec
from harness.model.outcome import Outcome, Severity, SubjectKind
from harness.model.pci import PciAddress
from harness.model.telemetry import Change, GuestTelemetry, LoadWindow
from harness.telemetry.gpu.samples import Samples
from harness.telemetry.gpu.series import PROPERTIES, SENSORS
from harness.telemetry.gpu.spool_lines import GpuSpool, Spool
from harness.telemetry.gpu.summary import summarize
from harness.vendors.nvidia.standin.model import StandinScenario
from tests.faults import clean
from tests.native.played import Played

STARTED = 1000.0
"""Seconds since boot at which the sampler starts; the scenario's second 0."""
FAST_HZ, SLOW_HZ, SETTINGS_SECONDS = 10.0, 1.0, 5.0
GPUS = 4
"""Of the guest whose telemetry this is; a scenario may have fewer."""
JUDGED = (
    "telemetry.coverage",
    "telemetry.present",
    "telemetry.alive",
    "gpu.clock_reasons",
    "gpu.temperature",
    "gpu.power",
    "gpu.ecc_mode",
    "gpu.mig_mode",
    "gpu.ecc_errors",
    "gpu.retired_memory",
    "gpu.pcie_under_load",
    "gpu.nvlink",
    "gpu.settings",
    "gpu.work",
)
"""Checks that rest on a GPU's series alone."""
_FAST = tuple(sensor.name for sensor in SENSORS if sensor.fast)
_SLOW = tuple(sensor.name for sensor in SENSORS if not sensor.fast)
_BOOLS = tuple(name for name, unit in PROPERTIES.items() if unit == "bool")
CODES = load_kernel_codes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One load, in seconds of the scenario."""

    workload: str
    start: float
    end: float


class Hour:
    """One guest's cards through a scenario."""

    def __init__(
        self, library: Path, folder: Path, scenario: StandinScenario, *, seconds: float, loads:
        Sequence[Load], gpus: int = 4,
    ) -> None:  # fmt: skip
        self.scenario, self.seconds, self.gpus = scenario, seconds, gpus
        self.windows = tuple(
            LoadWindow(
                workload=load.workload,
                key=f"{number}-{load.workload}",
                start=STARTED + load.start,
                end=STARTED + load.end,
            )
            for number, load in enumerate(loads)
        )
        names = (*_FAST, *_SLOW, *PROPERTIES)
        played = Played(library, folder, scenario, gpus)
        try:
            self.values = played.record(names, seconds, 1.0 / FAST_HZ)
        finally:
            played.end()
        self.times = STARTED + np.arange(len(self.values)) / FAST_HZ
        self.places = {name: place for place, name in enumerate(names)}

    def offered(self, gpu: int, names: Sequence[str]) -> tuple[str, ...]:
        """Those that the card answered at least once."""
        return tuple(n for n in names if not np.isnan(self.values[:, gpu, self.places[n]]).all())

    def _rows(self, names: Sequence[str], step: int, gpu: int) -> np.ndarray:
        return self.values[::step, gpu, [self.places[name] for name in names]]

    def spool(self) -> Spool:
        """As the reader of a spool would have it."""
        slow, again = int(FAST_HZ / SLOW_HZ), int(FAST_HZ * SETTINGS_SECONDS)
        found = []
        for index in range(self.gpus):
            rounds = []
            for names, step in ((self.offered(index, _FAST), 1), (self.offered(index, _SLOW), slow)):
                samples = Samples(names)
                samples.extend(self.times[::step], self._rows(names, step, index))
                rounds.append(samples)
            rows = self._rows(tuple(PROPERTIES), again, index)
            said = [self._properties(row) for row in rows]
            gpu = GpuSpool(
                index=index,
                uuid=f"GPU-{index}",
                name=self.scenario.card.name,
                address=PciAddress(0, index + 1, 0, 0),
                memory_bytes=self.scenario.card.memory_bytes,
                properties=said[0],
                not_offered=tuple(n for n in (*_FAST, *_SLOW) if n not in self.offered(index, (n,))),
                settings=dict(said[-1]),
                settings_asked=len(said),
                fast=rounds[0],
                slow=rounds[1],
            )
            for place, (before, after) in enumerate(itertools.pairwise(said), 1):
                gpu.changes += [
                    Change(
                        name=name, at=float(self.times[place * again]), before=before[name], after=after[name]
                    )
                    for name in before
                    if None not in (before[name], after[name]) and before[name] != after[name]
                ]
            found.append(gpu)
        ended = float(self.times[-1]) + 0.1
        return Spool(
            boot_id="b",
            started=STARTED - 0.1,
            wall=1.7e9,
            fast_hz=FAST_HZ,
            slow_hz=SLOW_HZ,
            deadline=2.0,
            source="nvml",
            standin=self.scenario.name,
            driver=self.scenario.driver,
            gpus=tuple(found),
            kernel_from=STARTED - 0.1,
            last=ended,
            ended=ended,
            end_reason="SIGTERM",
        )

    @staticmethod
    def _properties(row: np.ndarray) -> dict[str, float | str | bool | None]:
        found: dict[str, float | str | bool | None] = {}
        for name, value in zip(PROPERTIES, row.tolist(), strict=True):
            found[name] = None if np.isnan(value) else bool(value) if name in _BOOLS else value
        return found

    def lines(self) -> Iterator[bytes]:
        """The spool as the sampler writes it."""
        yield _line(
            "start",
            format=1,
            boot_id="b",
            mono=STARTED - 0.1,
            wall=1.7e9,
            fast_hz=FAST_HZ,
            slow_hz=SLOW_HZ,
            deadline=2.0,
        )
        yield _line(
            "nvml", mono=STARTED - 0.1, source="nvml", standin=self.scenario.name, driver=self.scenario.driver
        )
        yield _line("kmsg_start", mono=STARTED - 0.1, seq=0)
        spool = self.spool()
        for gpu in spool.gpus:
            yield _line(
                "gpu",
                mono=STARTED - 0.1,
                gpu=gpu.index,
                uuid=gpu.uuid,
                name=gpu.name,
                address=str(gpu.address),
                memory_bytes=gpu.memory_bytes,
                properties=gpu.properties,
                fast=gpu.fast.names,
                slow=gpu.slow.names,
                settings=list(PROPERTIES),
                not_offered=gpu.not_offered,
            )
        slow, again = int(FAST_HZ / SLOW_HZ), int(FAST_HZ * SETTINGS_SECONDS)
        for place, at in enumerate(np.round(self.times, 3).tolist()):
            for gpu in spool.gpus:
                rounds = [("fast", gpu.fast.names)] + (
                    [("slow", gpu.slow.names)] if place % slow == 0 else []
                )
                for kind, names in rounds:
                    row = self.values[place, gpu.index, [self.places[name] for name in names]].tolist()
                    yield _line(
                        kind, mono=at, gpu=gpu.index, values=[None if math.isnan(v) else v for v in row]
                    )
                if place % again == 0:
                    said = self._properties(
                        self.values[place, gpu.index, [self.places[n] for n in PROPERTIES]]
                    )
                    yield _line("settings", mono=at, gpu=gpu.index, values=list(said.values()))
        yield _line("end", mono=float(self.times[-1]) + 0.1, wall=1.7e9, cpu_seconds=1.0, reason="SIGTERM")

    def summed(self, spool: Spool | None = None) -> GuestTelemetry:
        """What the guest's telemetry would be."""
        return summed_of(spool or self.spool(), self.windows)

    def judged(
        self, telemetry: GuestTelemetry | None = None
    ) -> dict[int, dict[str, tuple[Outcome | None, str]]]:
        """GPU to check to what it said of it: outcome (None: missing) and words."""
        return judged_of(telemetry or self.summed(), self.windows)

    def alarms(self) -> list[str]:
        """Everything that is not a pass, in words."""
        return [
            f"GPU {gpu} {check}: {outcome} {words}"
            for gpu, said in self.judged().items()
            for check, (outcome, words) in said.items()
            if outcome is not Outcome.PASS
        ]


def _guest() -> GuestEvidence:
    (guest,) = (g for g in clean.evidence().guests if g.request.gpus == GPUS)
    return guest


def summed_of(spool: Spool, loads: tuple[LoadWindow, ...]) -> GuestTelemetry:
    """A spool as the telemetry of ``clean``'s guest of four GPUs, on its devices."""
    guest = _guest()
    assert guest.plan is not None
    hosts = [gpu.host for gpu in guest.plan.gpus]
    refs = tuple(GpuRef(host=host, guest=PciAddress(0, n + 1, 0, 0)) for n, host in enumerate(hosts))
    return summarize(spool, loads, TelemetrySpec(), guest=guest.name, cards=Cards(refs=refs), codes=CODES)


def judged_of(
    seen: GuestTelemetry, loads: tuple[LoadWindow, ...]
) -> dict[int, dict[str, tuple[Outcome | None, str]]]:
    """GPU to check to what it said of it."""
    guest = _guest()
    results = tuple(
        replace(guest.results[0], workload=w.workload, key=w.key, started=w.start, ended=w.end) for w in loads
    )
    watched = replace(guest, telemetry=seen, results=results)
    evidence = replace(clean.evidence(), guests=(watched,), subject=SubjectKind.LAB)
    profile = replace(clean.profile(), checks=dict.fromkeys(JUDGED, Severity.BLOCKER))
    checks = tuple(check for check in CHECKS if check.id in JUDGED)
    _, cells = run_checks(evidence, profile, clean.HOST, checks=checks)
    places = {str(gpu.host_address): gpu.index for gpu in seen.gpus if gpu.host_address is not None}
    found: dict[int, dict[str, tuple[Outcome | None, str]]] = {index: {} for index in places.values()}
    for cell in cells:
        for address, index in places.items():
            if address in cell.subject:
                found[index][cell.check] = (cell.outcome, cell.reason)
    return found


def _line(kind: str, **values: object) -> bytes:
    return json.dumps({"type": kind, **values}, separators=(",", ":")).encode() + b"\n"
