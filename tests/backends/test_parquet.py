"""Samples at rest: what was sampled comes back, in its units; a file is whole or not there."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.backends import parquet
from harness.errors import RecordError
from harness.model.gpu import Cards
from harness.telemetry.gpu.series import SENSORS
from harness.telemetry.gpu.spool import read_spool
from harness.telemetry.gpu.spool_lines import Spool
from tests.telemetry import spools as s

pq = pytest.importorskip("pyarrow.parquet")


def spool(gpus: tuple[int, ...] = (0, 1)) -> Spool:
    lines = s.whole(100.0, 110.0, gpus)
    lines[-1:-1] = [s.fast(110.05, power=None), s.slow(110.05, ecc_corrected=7)]
    return read_spool(b"".join(lines))


def test_what_was_sampled_comes_back_in_its_units(tmp_path: Path) -> None:
    path = tmp_path / "g1.parquet"
    assert parquet.write(spool(), path, guest="g1", cards=Cards()) == 2 * (101 + 11) + 2
    power = parquet.read(path, 1, "power")
    assert power.times == tuple(s.grid(100.0, 110.0, 0.1))
    assert power.values == tuple(pytest.approx(500.0 + at, abs=5e-4) for at in s.grid(100.0, 110.0, 0.1))
    assert parquet.read(path, 0, "power").times[-1] == 110.0
    assert parquet.read(path, 0, "ecc_corrected").values == (*[0.0] * 11, 7.0)
    assert parquet.read(path, 0, "temperature").values[-1] == 61.0
    assert parquet.read(path, 0, "util_encoder") == parquet.Stored(times=(), values=())
    assert parquet.read(path, 5, "power").times == ()


def test_a_file_says_where_its_samples_are_from(tmp_path: Path) -> None:
    path = tmp_path / "g1.parquet"
    parquet.write(replace(spool(), standin="quiet"), path, guest="g1", cards=Cards())
    said = parquet.describe(path)
    assert (said["guest"], said["boot_id"], said["started"], said["standin"]) == ("g1", "b", 99.0, "quiet")
    assert [(gpu["index"], gpu["address"]) for gpu in said["gpus"]] == [
        (0, "0000:05:00.0"),
        (1, "0000:06:00.0"),
    ]


def test_the_schema_is_the_same_in_every_file_and_names_the_units(tmp_path: Path) -> None:
    schemas = []
    for name, each in (("a", spool()), ("b", spool((0,))), ("c", read_spool(s.start()))):
        parquet.write(each, tmp_path / name, guest=name, cards=Cards())
        schemas.append(pq.read_schema(tmp_path / name).remove_metadata())
    assert schemas[0].equals(schemas[1])
    assert schemas[0].equals(schemas[2])
    assert schemas[0].names == ["mono_ms", "gpu", "fast", *(sensor.name for sensor in SENSORS)]
    units = {
        field.name: field.metadata[b"unit"].decode()
        for field in pq.read_schema(tmp_path / "a")
        if field.metadata
    }
    assert (units["power"], units["energy"], units["memory_used"]) == ("mW", "mJ", "B")


def test_columns_have_the_encodings_that_keep_them_small(tmp_path: Path) -> None:
    parquet.write(spool(), tmp_path / "a", guest="g1", cards=Cards())
    group = pq.ParquetFile(tmp_path / "a").metadata.row_group(0)
    used = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in used["power"].encodings
    assert "BYTE_STREAM_SPLIT" in used["temperature"].encodings
    assert {column.compression for column in used.values()} == {"ZSTD"}


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    parquet.write(spool(), torn, guest="g1", cards=Cards())
    torn.write_bytes(torn.read_bytes()[:-100])
    (tmp_path / "text").write_text("no parquet")
    for path in (torn, tmp_path / "text", tmp_path / "absent"):
        with pytest.raises(RecordError, match="not a file of samples"):
            parquet.read(path, 0, "power")
        with pytest.raises(RecordError, match="not a file of samples"):
            parquet.describe(path)
    with pytest.raises(RecordError, match="is no series"):
        parquet.read(torn, 0, "powers")


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    parquet.write(spool(), path, guest="g1", cards=Cards())
    before = path.read_bytes()
    broken = replace(spool(), gpus=(*spool().gpus, None))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        parquet.write(broken, path, guest="g1", cards=Cards())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_importing_the_writer_does_not_load_arrow() -> None:
    code = (
        "import sys, harness.backends.parquet; sys.exit('pyarrow' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.one_of(st.none(), st.floats(0, 2e4), st.integers(0, 1000)), max_size=8))
def test_any_power_comes_back_to_the_milliwatt(tmp_path: Path, powers: list[float | None]) -> None:
    lines = [s.fast(100.0 + n, power=power) for n, power in enumerate(powers)]
    parquet.write(read_spool(s.start() + s.gpu() + b"".join(lines)), tmp_path / "a", guest="g", cards=Cards())
    found = parquet.read(tmp_path / "a", 0, "power")
    known = [(100.0 + n, power) for n, power in enumerate(powers) if power is not None]
    assert found.times == tuple(at for at, _ in known)
    assert all(
        math.isclose(got, power, abs_tol=6e-4) for got, (_, power) in zip(found.values, known, strict=True)
    )


def test_a_row_costs_few_bytes(tmp_path: Path) -> None:
    """At most the 19.4 bytes a row that libraries of this kind reach on plausible data of 26 columns."""
    chance = random.Random(1)  # noqa: S311  a plausible card, not a secret
    lines = [s.start(), s.gpu()]
    power, energy, temperature = 600.0, 1e6, 60.0
    for at in s.grid(100.0, 400.0, 0.1):
        power = min(700.0, max(500.0, power + chance.gauss(0, 8)))
        energy += power * 0.1
        temperature += chance.choice((0, 0, 0, 0, 1, -1))
        clock = 1980 - 15 * chance.randrange(4)
        values = {"power": round(power, 3), "energy": round(energy, 3), "temperature": temperature}
        lines.append(s.fast(at, clock_sm=clock, reasons=chance.choice((0, 4)), **values))
    rows = parquet.write(read_spool(b"".join(lines)), tmp_path / "a", guest="g", cards=Cards())
    assert (tmp_path / "a").stat().st_size / rows < 19.4
