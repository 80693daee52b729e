"""Faults played as series: each is found on the right card, by the right check, with its time.

Times, cards, sizes and GPU models are drawn anew from a seed; a healthy hour of every model raises no alarm.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.files import list_names, load_sku_file
from harness.model.outcome import Outcome
from harness.model.sku import Sku
from harness.telemetry.gpu.spool import read_spool
from harness.vendors.nvidia.standin.model import StandinLoad, StandinScenario, StandinSeries
from harness.vendors.nvidia.standin.models import healthy
from tests.native.conftest import build
from tests.telemetry.hours import STARTED, Hour, Load

MODELS = tuple(load_sku_file(name).sku for name in list_names("skus"))
GPUS = 4
SECONDS = 420.0
LOADS = (
    Load(workload="tensor", start=30.0, end=180.0),
    Load(workload="hashing", start=183.0, end=290.0),
    Load(workload="mix", start=295.0, end=410.0),
)
SHARES = tuple(
    StandinLoad(at=at, share=share)
    for at, share in ((0, 0), (30, 0.97), (180, 0), (183, 0.9), (290, 0), (295, 0.8), (410, 0))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What a fault is made of: the model, the card it strikes, and when."""

    sku: Sku
    gpu: int
    at: float
    limit: float
    """W."""


Make = Callable[[Drawn], list[StandinSeries]]


def _series(drawn: Drawn, reading: str, *points: tuple[float, Any], **values: Any) -> StandinSeries:
    return StandinSeries(reading=reading, points=points, gpu=drawn.gpu, **values)


FAULTS: tuple[tuple[str, str, Outcome | None, Make], ...] = (
    ("link-gen-1", "gpu.pcie_under_load", Outcome.FAIL, lambda d: [_series(d, "pcie_gen", (d.at, 1))]),
    ("link-half-width", "gpu.pcie_under_load", Outcome.FAIL, lambda d: [_series(d, "pcie_width", (d.at, 8))]),
    (
        "link-flaps",
        "gpu.pcie_under_load",
        Outcome.FAIL,
        lambda d: [_series(d, "pcie_gen", (0, 1), (2, 1), (2, 5), repeat=6.0)],
    ),
    (
        "replays",
        "gpu.pcie_under_load",
        Outcome.FAIL,
        lambda d: [_series(d, "pcie_replays", (d.at, 20), rate=True)],
    ),
    (
        "ecc-150-a-second",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_corrected", (d.at, 150), rate=True)],
    ),
    (
        "ecc-3-a-second",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_corrected", (d.at, 3), rate=True)],
    ),
    (
        "ecc-uncorrected",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_uncorrected", (d.at, 0), (d.at, 1))],
    ),
    (
        "uncorrected-then-reset",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_uncorrected", (d.at, 0), (d.at, 4), (d.at + 9, 4), (d.at + 9, 0))],
    ),
    (
        "cap-lowered",
        "gpu.settings",
        Outcome.FAIL,
        lambda d: [_series(d, "power_limit", (d.at, d.limit * 0.6))],
    ),
    (
        "cap-lowered-and-set-back",
        "gpu.power",
        Outcome.FAIL,
        lambda d: [
            _series(
                d,
                "power_limit",
                (d.at, d.limit * 0.8),
                (d.at + 40, d.limit * 0.8),
                (d.at + 40, d.limit),
                form="step",
            )
        ],
    ),
    (
        "uncorrected-after-the-last-load",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_uncorrected", (416.0, 0), (416.0, 1))],
    ),
    (
        "corrected-in-the-lifetime-counter-only",
        "gpu.ecc_errors",
        Outcome.FAIL,
        lambda d: [_series(d, "ecc_corrected_aggregate", (d.at, 40), rate=True)],
    ),
    (
        "memory-clock-halved",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [_series(d, "clock_memory", (d.at, 0.5), apply="scale")],
    ),
    (
        "memory-clock-stays-idle",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [_series(d, "clock_memory", (0.0, 405))],
    ),
    (
        "half-of-the-others-load",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [_series(d, "load", (0.0, 0.5), apply="scale")],
    ),
    ("mig-switched-on", "gpu.mig_mode", Outcome.FAIL, lambda d: [_series(d, "mig", (d.at, True))]),
    ("ecc-switched-off", "gpu.ecc_mode", Outcome.FAIL, lambda d: [_series(d, "ecc_current", (d.at, False))]),
    (
        "clock-drifts-to-40-percent",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [
            _series(d, "clock_sm", (d.at, 1.0), (d.at + 100, 0.4), apply="scale"),
            _series(d, "reasons", (0.0, 0)),
        ],
    ),
    ("clock-capped", "gpu.work", Outcome.FAIL, lambda d: [_series(d, "clock_cap", (0.0, 600))]),
    ("idle", "gpu.work", Outcome.FAIL, lambda d: [_series(d, "load", (0.0, 0.0))]),
    ("idle-from-then-on", "gpu.work", Outcome.FAIL, lambda d: [_series(d, "load", (d.at, 0.0))]),
    (
        "cap-binds-at-half",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [
            _series(d, "power", (d.at, 0.45 * d.limit), noise=2.0),
            _series(d, "energy", (d.at, 0.45 * d.limit), rate=True),
            _series(d, "reasons", (d.at, "sw_power_cap")),
        ],
    ),
    ("frozen-at-41", "telemetry.alive", Outcome.ERROR, lambda d: [_series(d, "temperature", (0.0, 41))]),
    ("reads-0-degrees", "telemetry.alive", Outcome.ERROR, lambda d: [_series(d, "temperature", (d.at, 0))]),
    (
        "memory-reads-0-degrees",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature_memory", (d.at, 0))],
    ),
    (
        "power-frozen",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "power", (d.at, 0.9 * d.limit))],
    ),
    (
        "five-watts",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "power", (d.at, 0.02 * d.limit), noise=0.1)],
    ),
    (
        "energy-falls",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "energy", (d.at, 90000.0), (d.at + 5, 100.0), until=d.at + 5.1)],
    ),
    (
        "energy-doubles",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "energy", (0.0, 0.0), (1000.0, 4000.0 * d.limit))],
    ),
    (
        "clock-above-maximum",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "clock_sm", (d.at, 9000), noise=5.0)],
    ),
    (
        "core-cools-under-load",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature", (60.0, 0), (400.0, -60), apply="add")],
    ),
    (
        "core-frozen-through-a-pause",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature", (120.0, 52))],
    ),
    (
        "memory-frozen-from-the-start",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature_memory", (0.0, 62))],
    ),
    (
        "temperature-noise",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature", (0.0, 0), apply="add", noise=12.0)],
    ),
    (
        "temperature-steps-up",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "temperature", (0.0, 0), (240.0, 0), (240.0, 18), apply="add")],
    ),
    (
        "power-sags-alone",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "power", (60.0, 1.0), (400.0, 0.6), apply="scale")],
    ),
    ("use-100-when-idle", "telemetry.alive", Outcome.ERROR, lambda d: [_series(d, "util_gpu", (0.0, 100))]),
    (
        "memory-used-beyond-the-card",
        "telemetry.alive",
        Outcome.ERROR,
        lambda d: [_series(d, "memory_used", (d.at, 1e12))],
    ),
    ("memory-empty", "telemetry.alive", Outcome.ERROR, lambda d: [_series(d, "memory_used", (0.0, 0))]),
    (
        "job-dies-before-the-end",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [_series(d, "load", (270.0, 1.0), (270.0, 0.0), (292.0, 0.0), (292.0, 1.0), apply="scale")],
    ),
    (
        "clock-drifts-by-14-percent",
        "gpu.work",
        Outcome.FAIL,
        lambda d: [_series(d, "clock_sm", (183.0, 1.0), (410.0, 0.86), apply="scale")],
    ),
    (
        "nvlink-crc-30-a-second",
        "gpu.nvlink",
        Outcome.FAIL,
        lambda d: [_series(d, "nvlink_crc", (d.at, 30), rate=True)],
    ),
    (
        "brake-in-bursts",
        "gpu.clock_reasons",
        Outcome.FAIL,
        lambda d: [_series(d, "reasons", (0, "power_brake"), (3, "power_brake"), (3, 0), repeat=20.0)],
    ),
    (
        "row-pending-for-a-while",
        "gpu.retired_memory",
        Outcome.FAIL,
        lambda d: [_series(d, "remap_pending", (d.at, 1), (d.at + 20, 1), (d.at + 20, 0))],
    ),
)


BEGAN = {
    "uncorrected-after-the-last-load": 416.0,
    "temperature-steps-up": 240.0,
    "job-dies-before-the-end": 270.0,
    "clock-drifts-by-14-percent": 183.0,
}
"""Faults that do not begin when it was drawn."""


def _scenario(sku: Sku, seed: int, *series: StandinSeries) -> StandinScenario:
    base = healthy(sku, SHARES, seed=seed)
    return replace(base, series=(*base.series, *series))


def _played(folder: Path, scenario: StandinScenario) -> Hour:
    return Hour(build(folder), folder, scenario, seconds=SECONDS, loads=LOADS, gpus=GPUS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.mark.parametrize(("name", "check", "outcome", "make"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_found_on_its_card(
    name: str, check: str, outcome: Outcome | None, make: Make, folder: Path
) -> None:
    chance = random.Random(f"{name} {SECONDS}")  # noqa: S311 - a seed
    models = [sku for sku in MODELS if sku.family in ("hopper", "blackwell", "ampere-ga100")]
    if name.startswith("nvlink"):
        models = [sku for sku in models if "-sxm" in sku.name]
    sku = chance.choice(models)
    power = sku.figures["power"].value or 250.0
    drawn = Drawn(sku=sku, gpu=chance.randrange(GPUS), at=round(chance.uniform(50.0, 250.0), 1), limit=power)
    hour = _played(folder, _scenario(sku, chance.randrange(1 << 16), *make(drawn)))
    said = hour.judged()
    assert said[drawn.gpu][check][0] is outcome, (drawn, said[drawn.gpu])
    others = [
        (gpu, each, answer) for gpu, those in said.items() for each, answer in those.items()
        if gpu != drawn.gpu and answer[0] is not Outcome.PASS
    ]  # fmt: skip
    assert others == []
    # The words tell when: a moment of this run that is not long after the fault began.
    moments = [float(m) for m in re.findall(r"(\d+\.\d) s", said[drawn.gpu][check][1]) if float(m) >= STARTED]
    began = BEGAN.get(name, drawn.at)
    assert not moments or min(moments) <= STARTED + began + 60.0, said[drawn.gpu][check]


@pytest.mark.parametrize("sku", MODELS, ids=lambda sku: sku.name)
def test_a_healthy_card_of_any_model_raises_no_alarm(sku: Sku, folder: Path) -> None:
    assert _played(folder, _scenario(sku, 7)).alarms() == []


def test_the_reader_of_spools_makes_the_same_of_lines(folder: Path) -> None:
    hour = Hour(
        build(folder),
        folder,
        _scenario(MODELS[0], 3),
        seconds=60.0,
        loads=(Load(workload="tensor", start=5.0, end=55.0),),
        gpus=2,
    )
    spool = read_spool(b"".join(hour.lines()))
    assert spool.problems == ()
    assert hour.summed(spool).gpus == tuple(replace(gpu, name=gpu.name) for gpu in hour.summed().gpus)
