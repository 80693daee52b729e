"""Shipped scenarios that play by series show on the first GPU what they say; documented ones can play."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pynvml
import pytest

from harness.config.files import load_standin
from harness.vendors.nvidia.standin.model import StandinLoad
from tests.gates.source import ROOT
from tests.native.played import Play

Rows = npt.NDArray[np.float64]
LOAD_AT = 30.0
IDLE_FIRST = (StandinLoad(at=0.0, share=0.0), StandinLoad(at=LOAD_AT, share=0.9))
SHOWN: dict[str, tuple[str, Callable[[Rows], Any]]] = {
    "link-falls-to-gen1": ("pcie_gen", lambda seen: seen[-1] == 1 < seen[400]),
    "link-falls-to-x8": ("pcie_width", lambda seen: seen[-1] == 8 < seen[400]),
    "ecc-flood": ("ecc_corrected", lambda seen: seen[-1] - seen[-101] == pytest.approx(1500, abs=2)),
    "power-cap-lowered": ("power", lambda seen: seen[-100:].mean() < 130 < seen[450:490].mean() - 70),
    "clock-drifts": ("clock_sm", lambda seen: seen[-1] <= 680 < seen[310] - 920),
    "idle-under-load": ("util_gpu", lambda seen: (seen[-1], seen[390] > 80) == (0, True)),
    "temperature-frozen": ("temperature", lambda seen: set(seen) == {41.0}),
    "temperature-zero": ("temperature", lambda seen: (seen[-1], seen[390] > 30) == (0, True)),
    "power-5w": ("power", lambda seen: seen[-100:].mean() == pytest.approx(5, abs=0.2)),
    "ecc-resets": ("ecc_uncorrected", lambda seen: (seen[590], seen[-1]) == (3, 0)),
    "energy-falls": ("energy", lambda seen: np.diff(seen).min() < -40000),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_shipped_series_shows_on_its_card_and_on_no_other(name: str, play: Play) -> None:
    shipped = load_standin(name)
    played = play(*shipped.series, gpus=2, load=IDLE_FIRST, card=shipped.card, faults=shipped.faults)
    reading, as_said = SHOWN[name]
    rows = played.record((reading,), 120.0)[:, :, 0]
    assert as_said(rows[:, 0])
    assert not as_said(rows[:, 1])


def test_a_card_is_swapped_under_load(play: Play) -> None:
    played = play(*load_standin("uuid-changes").series, load=IDLE_FIRST)
    told = set()
    for second in (LOAD_AT + 19, LOAD_AT + 21):
        played.turn(second - 1)
        played.record(("power",), 1.0)
        told.add(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)))
    assert len(told) == 2
    assert "GPU-5ba5ba5b-0000-4000-8000-000000000001" in told


def test_calls_stall_under_load(play: Play) -> None:
    played = play(faults=load_standin("sampler-stalls").faults, load=IDLE_FIRST)
    played.record(("power",), LOAD_AT + 20.2)
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    pynvml.nvmlDeviceGetPowerUsage(gpu)
    after = played.record(("ecc_corrected", "energy"), 0.1)
    assert after[0, 0, 1] > 100000 + 250 * 20, "nine seconds went by"


BLOCKS = re.findall(r"```yaml\n(name: .*?)```", (ROOT / "docs/standin.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_of_the_documentation_can_be_played(block: str, tmp_path: Path, play: Play) -> None:
    (tmp_path / "example.yaml").write_text(block)
    example = load_standin(tmp_path / "example.yaml")
    play(*example.series, gpus=2, faults=example.faults).record(("power",), 100.0)


def test_all_that_a_series_can_say_and_three_examples_are_shown() -> None:
    assert len(BLOCKS) == 4
