"""Samples at rest: one Parquet file a spool, for reports and for any other tool that reads Parquet.

The schema, the same in every file. One row is one round of one GPU; rows are in order of GPU and time, and
each GPU has row groups of its own:

- ``mono_ms`` (int64, never null): milliseconds since the boot of the machine the sampler ran on
- ``gpu`` (int32, never null): the index in the driver's library
- ``fast`` (bool, never null): whether it was a fast round
- each name of ``harness.telemetry.gpu.series.SENSORS``, null where that round does not read it, the read
  failed or the card does not have it. W and J are stored as whole mW and mJ, which is what the library counts
  in; degC and % as float64; all else as int64. The unit as stored is the column's metadata ``unit``.

The file's metadata ``shakedown`` is JSON: ``format`` (1), guest, boot_id, started (seconds since boot) and
wall (Unix seconds) of the sampler's start, source, standin, driver, and for each GPU index, uuid, name,
address, pci_id, not_offered. zstd 3; integers as DELTA_BINARY_PACKED, floats as BYTE_STREAM_SPLIT.

A Parquet file without its footer cannot be read, so a file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.model.gpu import Cards
from harness.model.vendor import Sensor
from harness.regular import mode_beside
from harness.serial import strict_json, to_data
from harness.telemetry.gpu.samples import Read
from harness.telemetry.gpu.series import SENSORS
from harness.telemetry.gpu.spool_lines import GpuSpool, Spool

# pyarrow and numpy are imported where they are used: a command that writes no samples need not wait for them.

FORMAT = 1
_STORED = {"W": ("mW", 1000.0), "J": ("mJ", 1000.0)}
"""Unit of a series to the one in the file, and how many of these are one of those."""
_FLOATS = ("degC", "%")
_GROUP_ROWS = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One series as it was read back: times in seconds since boot, values in the units of the series."""

    times: tuple[float, ...]
    values: tuple[float, ...]


def write(spool: Spool, path: Path, *, guest: str, cards: Cards) -> int:
    """Write a spool's samples; returns the number of rows. ``cards`` says which card each GPU of it is.

    Raises OSError when the file cannot be written.
    """
    from pyarrow import parquet  # noqa: PLC0415

    schema = _schema(spool, guest, cards)
    floats = [s.name for s in SENSORS if s.unit in _FLOATS]
    encodings = dict.fromkeys(floats, "BYTE_STREAM_SPLIT") | {
        name: "DELTA_BINARY_PACKED" for name in schema.names if name not in (*floats, "fast")
    }
    rows = 0
    with _whole(path) as part:
        writer = parquet.ParquetWriter(
            part,
            schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=False,
            column_encoding=encodings,
            write_statistics=True,
        )
        with writer:
            for gpu in spool.gpus:
                table = _table(gpu, schema)
                rows += table.num_rows
                if table.num_rows:
                    writer.write_table(table, row_group_size=_GROUP_ROWS)
    return rows


def read(path: Path, gpu: int, name: str) -> Stored:
    """One series of one GPU; empty where nothing was read. Raises RecordError for a file of others."""
    sensor = next((s for s in SENSORS if s.name == name), None)
    if sensor is None:
        raise RecordError(f"{name[:80]!r} is no series", remedy="names are in harness.telemetry.gpu.series")
    from pyarrow import ArrowException, parquet  # noqa: PLC0415

    try:
        table = parquet.read_table(path, columns=["mono_ms", name], filters=[("gpu", "=", gpu)])
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    _, factor = _stored(sensor)
    pairs = [
        (at / 1000.0, value / factor)
        for at, value in zip(table.column(0).to_pylist(), table.column(1).to_pylist(), strict=True)
        if value is not None
    ]
    return Stored(times=tuple(at for at, _ in pairs), values=tuple(value for _, value in pairs))


def describe(path: Path) -> dict[str, Any]:
    """What a file says of itself: its ``shakedown`` metadata. Raises RecordError."""
    from pyarrow import ArrowException, parquet  # noqa: PLC0415

    try:
        said = strict_json((parquet.read_schema(path).metadata or {})[b"shakedown"])
    except (ArrowException, OSError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise RecordError(
            f"{path}: samples of an unknown format", remedy="read it with the version that wrote it"
        )
    return said


def _unreadable(path: Path, error: Exception) -> RecordError:
    return RecordError(
        f"{path}: not a file of samples: {str(error)[:200]}",
        remedy="the raw samples file beside it holds the same samples",
    )


def _stored(sensor: Sensor) -> tuple[str, float]:
    return _STORED.get(sensor.unit, (sensor.unit, 1.0))


def _schema(spool: Spool, guest: str, cards: Cards) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    fields = [
        pa.field("mono_ms", pa.int64(), nullable=False, metadata={"unit": "ms"}),
        pa.field("gpu", pa.int32(), nullable=False),
        pa.field("fast", pa.bool_(), nullable=False),
    ]
    for sensor in SENSORS:
        kind = pa.float64() if sensor.unit in _FLOATS else pa.int64()
        fields.append(pa.field(sensor.name, kind, metadata={"unit": _stored(sensor)[0]}))
    said = {
        "format": FORMAT,
        "guest": guest,
        "boot_id": spool.boot_id,
        "started": spool.started,
        "wall": spool.wall,
        "source": spool.source,
        "standin": spool.standin,
        "driver": spool.driver,
        "gpus": [
            {
                "index": gpu.index,
                "uuid": gpu.uuid,
                "name": gpu.name,
                "address": None if gpu.address is None else str(gpu.address),
                "card": None if (found := cards.seen_at(gpu.address)) is None else to_data(found),
                "pci_id": gpu.pci_id,
                "not_offered": list(gpu.not_offered),
            }
            for gpu in spool.gpus
        ],
    }
    return pa.schema(fields, metadata={"shakedown": json.dumps(said)})


def _table(gpu: GpuSpool, schema: Any) -> Any:
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    rounds = (gpu.fast.read(), gpu.slow.read())
    times = np.concatenate([read.times for read in rounds])
    fast = np.arange(times.size) < len(rounds[0].times)
    order = np.argsort(times, kind="stable")
    columns = [
        pa.array(np.rint(times[order] * 1000.0).astype(np.int64)),
        pa.array(np.full(times.size, gpu.index, dtype=np.int32)),
        pa.array(fast[order]),
    ]
    for sensor in SENSORS:
        values = np.concatenate([_values(read, sensor.name) for read in rounds])[order]
        lost = np.isnan(values)
        if sensor.unit in _FLOATS:
            columns.append(pa.array(values, mask=lost))
            continue
        whole = np.rint(np.where(lost, 0.0, values) * _stored(sensor)[1])
        columns.append(pa.array(whole.astype(np.int64), mask=lost))
    return pa.Table.from_arrays(columns, schema=schema)


def _values(read: Read, name: str) -> Any:
    import numpy as np  # noqa: PLC0415

    column = read.columns.get(name)
    return np.full(len(read.times), np.nan) if column is None else column


@contextlib.contextmanager
def _whole(path: Path) -> Any:
    """A stream to a file beside ``path`` that takes its place, on disk, when all went well."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            yield part
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(mode_beside(path.parent))
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
