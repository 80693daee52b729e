"""Reading ahead: ranges as recorded, asked of the right files, and harmless when nothing fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.lab.payload import pages
from harness.lab.payload.pages import ranges, read_ahead

FOLDER = Path(pages.__file__).parent
TEXT = "words\n# liba.so\n0 3\n9 1\n# libb.so\n4 2\n"


@pytest.fixture
def tf_dir(tmp_path: Path) -> Path:
    (tmp_path / "tf" / "tensorflow").mkdir(parents=True)
    (tmp_path / "tf" / "tensorflow" / "liba.so").write_bytes(bytes(50000))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "tensorflow-2.21.0.pages").write_text(TEXT)
    return tmp_path


def test_ranges_of_files_that_exist_are_asked_for(tf_dir: Path) -> None:
    (tf_dir / "tf" / "tensorflow_cpu-2.21.0.dist-info").mkdir()
    assert read_ahead(str(tf_dir / "tf"), str(tf_dir / "here")) == 2
    (tf_dir / "tf" / "tensorflow" / "libb.so").write_bytes(b"short")
    assert read_ahead(str(tf_dir / "tf"), str(tf_dir / "here")) == 3


def test_another_version_is_left_to_load_as_it_does(tf_dir: Path) -> None:
    (tf_dir / "tf" / "tensorflow_cpu-2.22.0.dist-info").mkdir()
    assert read_ahead(str(tf_dir / "tf"), str(tf_dir / "here")) == 0
    assert read_ahead(str(tf_dir), str(tf_dir)) == 0


def test_small_gaps_are_read_along_and_large_ones_left_out() -> None:
    assert ranges([]) == []
    assert ranges([5]) == [(5, 1)]
    assert ranges([1, 2, 10, 19, 20]) == [(1, 10), (19, 2)]


def test_the_recorded_list_is_well_formed_and_a_fraction_of_the_library() -> None:
    text = (FOLDER / "tensorflow-2.21.0.pages").read_text()
    rows = re.findall(r"^(\d+) (\d+)$", text, re.MULTILINE)
    assert text.count("\n# ") == 2
    assert len(rows) == text.count("\n") - 3
    assert 50 < sum(int(count) for _, count in rows) * 4096 / 1e6 < 150
