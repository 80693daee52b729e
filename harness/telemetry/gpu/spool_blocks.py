"""Reads many samples of a spool at once: 24 hours of eight GPUs are eight million lines.

A block in which anything at all is strange is not read here: the caller reads it line by line, so that what
is told of a strange line, and what is taken of it, does not depend on its neighbours. A test compares both
ways.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from harness.telemetry.gpu.samples import Numbers, Samples
from harness.telemetry.gpu.series import SENSOR
from harness.telemetry.gpu.spool_lines import LATEST, RANGES

_AT_ONCE = 1 << 20
"""Bytes that one thread reads."""
_SCHEMA = pa.schema(
    [("type", pa.string()), ("mono", pa.float64()), ("gpu", pa.int64()), ("values", pa.list_(pa.float64()))]
)
_OPTIONS = arrow_json.ParseOptions(explicit_schema=_SCHEMA, unexpected_field_behavior="error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one block holds of one round of one GPU, found to be all right."""

    samples: Samples
    times: Numbers
    values: Numbers


def parts(
    table: pa.Table | None, kinds: Sequence[str], rounds: Mapping[tuple[str, int], Samples]
) -> list[Part] | None:
    """The samples of a block (``table_of``) by round and GPU; None when it must be read line by line.

    ``kinds`` are those of the lines, by their prefixes; ``rounds`` leads from kind and GPU to where its
    samples go, of all GPUs that were introduced.
    """
    if table is None or table.num_rows != len(kinds):
        return None
    times = table["mono"].to_numpy()
    told = table["type"].combine_chunks()
    if not told.equals(pa.array(kinds, pa.string())) or not ((times >= 0) & (times <= LATEST)).all():
        return None
    lists = table["values"].combine_chunks()
    lengths = lists.value_lengths().to_numpy()
    block = _Block(
        times=times,
        lengths=lengths,
        starts=np.concatenate(([0], np.cumsum(lengths)[:-1])),
        flat=lists.flatten().to_numpy(zero_copy_only=False),
    )
    gpus = table["gpu"].to_numpy()
    found: list[Part] = []
    said = np.array(kinds, dtype="U4")
    for kind in ("fast", "slow"):
        mask = said == kind
        for gpu in np.unique(gpus[mask]):
            samples = rounds.get((kind, int(gpu)))
            part = None if samples is None else block.part(np.flatnonzero(mask & (gpus == gpu)), samples)
            if part is None:
                return None
            found.append(part)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Samples in the order of their lines: the values of line ``i`` begin at ``flat[starts[i]]``."""

    times: Numbers
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    flat: Numbers

    def part(self, rows: NDArray[np.int64], samples: Samples) -> Part | None:
        """These lines; None when one has not as many values as there are names, or holds what cannot be."""
        width = len(samples.names)
        if (self.lengths[rows] != width).any():
            return None
        values = self.flat[self.starts[rows, None] + np.arange(width)] if width else np.empty((len(rows), 0))
        found = Part(samples=samples, times=self.times[rows], values=values)
        return found if _sound(found) else None


def table_of(lines: Sequence[bytes]) -> pa.Table | None:
    """All lines as one table, ``parts`` of which can be had; None when any is no plain sample.

    It touches nothing else, so it may run while the next lines are being read.
    """
    block = b"".join(lines)
    if b"NaN" in block:  # Arrow takes it for a number, and JSON does not
        return None
    reading = arrow_json.ReadOptions(block_size=max(_AT_ONCE, *map(len, lines)))
    try:
        table = arrow_json.read_json(io.BytesIO(block), reading, _OPTIONS)
    except pa.ArrowException:
        return None
    return table if all(table[name].null_count == 0 for name in _SCHEMA.names) else None


def _sound(part: Part) -> bool:
    """Whether time goes on, and each value is one that its sensor can read (or NaN: none)."""
    times, before = part.times, part.samples.last
    if (np.diff(times) < 0).any() or (before is not None and times[0] < before):
        return False
    for place, name in enumerate(part.samples.names):
        low, high = RANGES.get(SENSOR[name].unit if name in SENSOR else "1", RANGES["1"])
        column = part.values[:, place]
        if ((column < low) | (column > high)).any():
            return False
    return True
