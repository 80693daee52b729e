"""A disk that would fill up in the middle of a burn is told before it begins."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from harness.commands import qualify
from harness.errors import RecordError
from harness.record.disk_space import require_disk_space

Usage = namedtuple("Usage", "total used free")


def with_free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, mib << 20))


def test_a_burn_of_hours_needs_more_than_a_run_of_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 300)
    runs = tmp_path / "not" / "made" / "yet"
    require_disk_space(runs, seconds=0.0, gpus=8)
    with pytest.raises(RecordError, match=r"MiB below .* but only 300 MiB are free") as caught:
        require_disk_space(runs, seconds=14_400.0, gpus=8)
    assert "--runs" in caught.value.remedy
    with_free(monkeypatch, 1024)
    require_disk_space(runs, seconds=14_400.0, gpus=8)


def test_a_full_disk_is_told_before_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 10)
    with pytest.raises(RecordError, match="10 MiB are free"):
        require_disk_space(tmp_path, seconds=0.0, gpus=0)


def test_a_disk_that_does_not_say_refuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> Usage:
        raise PermissionError

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    require_disk_space(tmp_path, seconds=14_400.0, gpus=8)


def test_no_run_is_begun_that_could_not_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 100)
    runs = tmp_path / "runs"
    with pytest.raises(RecordError, match="100 MiB are free"):
        qualify.run(host="local", profile="bare-burnin", runs=runs)
    assert not runs.exists()
