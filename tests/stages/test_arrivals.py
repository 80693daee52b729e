"""A host that was silent for a while is told of; one that speaks on time is not."""

from __future__ import annotations

import time
from pathlib import Path

from harness.backends.clock import SystemClock
from harness.model.host_change import Weight
from harness.stages.host.arrivals import Arrivals


def fed(path: Path, pauses: list[float]) -> Arrivals:
    path.write_bytes(b"begin\n")
    made = Arrivals(path, SystemClock(), longest=1.0, look_seconds=0.05)
    made.begin()
    for pause in pauses:
        time.sleep(pause)
        with path.open("ab") as file:
            file.write(b"more\n")
    time.sleep(0.3)
    made.close()
    made.close()
    return made


def test_a_silence_is_told_with_its_length_and_nothing_is_lost_by_it(tmp_path: Path) -> None:
    (change,) = fed(tmp_path / "spool", [0.2, 2.2, 0.2]).silences
    assert "nothing for 2 s from 20" in change.after
    assert change.weight is Weight.TOLD


def test_who_speaks_on_time_is_not_told_of(tmp_path: Path) -> None:
    assert fed(tmp_path / "spool", [0.2, 0.1, 0.3]).silences == ()


def test_a_file_that_never_came_is_no_silence(tmp_path: Path) -> None:
    made = Arrivals(tmp_path / "none", SystemClock(), longest=0.1, look_seconds=0.05)
    made.begin()
    time.sleep(0.4)
    made.close()
    assert made.silences == ()
