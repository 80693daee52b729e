"""Reads many samples of a spool at once: 24 hours of eight GPUs are eight million lines.

The lines of one shape are read as a table of numbers by Arrow's reader of CSV, once it is certain that each
is what the sampler writes and strict JSON. A block in which anything at all is strange is not read here: the
caller reads it line by line, so that what is told of a strange line, and what is taken of it, does not
depend on its neighbours. A test compares both ways.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from harness.telemetry.gpu.samples import Numbers, Samples
from harness.telemetry.gpu.series import SENSOR
from harness.telemetry.gpu.spool_fields import LATEST, RANGES
from harness.telemetry.gpu.view import Mask

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

KINDS = ("fast", "slow")
"""Lines that are read together, by their type."""
_TYPE = 9
"""Where the type stands in a line as the sampler writes it; its first two letters tell these from all
others."""
_WHOLE = r"(?:0|[1-9][0-9]*+)"
_LINES = {
    kind: re.compile(
        rf'(?:\{{"type":"{kind}","mono":{_WHOLE}(?:\.[0-9]++)?+,"gpu":{_WHOLE},"values":\[[-0-9.,~]*+\]\}}\n)*+'
        .encode()
    )
    for kind in KINDS
}  # fmt: skip
"""Lines of one type in the sampler's form, ``null`` written as ``~``. Their numbers are looked at later."""
_AROUND = b'{}[]":' + bytes(range(ord("a"), ord("z") + 1))
"""All that stands around the numbers: without it a line is ``,mono,gpu,value,value...``."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of a spool one after the other, as bytes, and where each begins and ends."""

    data: bytes
    array: Bytes = field(init=False)
    starts: Places = field(init=False)
    ends: Places = field(init=False)
    kinds: NDArray[np.int8] = field(init=False)
    """Of each line its place in KINDS; -1: another type."""

    def __post_init__(self) -> None:
        array = np.frombuffer(self.data, dtype=np.uint8)
        ends = np.flatnonzero(array == ord("\n")) + 1
        if not self.data.endswith(b"\n"):
            ends = np.append(ends, len(array))
        starts = np.concatenate(([0], ends[:-1]))
        first, second = (array[np.minimum(starts + _TYPE + place, len(array) - 1)] for place in (0, 1))
        kinds = np.full(len(ends), -1, dtype=np.int8)
        for place, kind in enumerate(KINDS):
            kinds[(first == ord(kind[0])) & (second == ord(kind[1]))] = place
        for name, value in (("array", array), ("starts", starts), ("ends", ends), ("kinds", kinds)):
            object.__setattr__(self, name, value)

    def line(self, place: int) -> bytes:
        """One of them, with its newline."""
        return self.data[self.starts[place] : self.ends[place]]

    def others(self) -> list[int]:
        """Places of the lines that are no samples."""
        return [int(place) for place in np.flatnonzero(self.kinds < 0)]

    def sampled(self, begin: int, until: int) -> bool:
        """Whether there are any that are, from ``begin`` up to ``until``."""
        return bool((self.kinds[begin:until] >= 0).any())

    def samples(self, begin: int, until: int) -> list[int]:
        """Places of these."""
        return [int(place) + begin for place in np.flatnonzero(self.kinds[begin:until] >= 0)]

    def texts(self, begin: int, until: int, mixed: frozenset[str]) -> Iterator[tuple[str, bytes]]:
        """The samples from line ``begin`` up to ``until`` by kind, joined.

        Of the kinds that are ``mixed`` (GPUs have different numbers of values) by their number of commas.
        """
        lengths = self.ends - self.starts
        for place, kind in enumerate(KINDS):
            chosen: Mask = self.kinds == place
            chosen[:begin] = chosen[until:] = False
            commas = self._commas() if kind in mixed else np.zeros(len(lengths), dtype=np.int64)
            for count in np.unique(commas[chosen]):
                yield kind, self.array[np.repeat(chosen & (commas == count), lengths)].tobytes()

    def _commas(self) -> Places:
        places = np.flatnonzero(self.array == ord(","))
        return np.diff(np.searchsorted(places, np.append(self.starts, len(self.array))))


def mixed_of(rounds: Mapping[tuple[str, int], Samples]) -> frozenset[str]:
    """Kinds of which GPUs have different numbers of values."""
    widths: dict[str, set[int]] = {kind: set() for kind in KINDS}
    for (kind, _), samples in rounds.items():
        widths[kind].add(len(samples.names))
    return frozenset(kind for kind, seen in widths.items() if len(seen) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Samples of one kind: a row for each, with its time first."""

    kind: str
    gpus: Places
    rows: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one block holds of one round of one GPU, found to be all right."""

    samples: Samples
    rows: Numbers
    """Time and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Samples of one block that are being taken apart."""

    block: Block
    number: int
    """Number of its first line."""
    begin: int
    until: int
    """Lines of it whose samples these are."""
    tables: Future[list[Table] | None]


class Ahead:
    """Takes the samples of blocks apart in threads, beside the reading of all other lines.

    Arrow and numpy let other threads run meanwhile: on two processors it takes 0.8 of the time.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=2)
        self._waiting: deque[Waiting] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(
        self, block: Block, number: int, lines: tuple[int, int], rounds: Mapping[tuple[str, int], Samples]
    ) -> None:
        """Have the samples among ``lines`` (from, up to) taken apart; ``number``: of its first line."""
        if block.sampled(*lines):
            tables = self._pool.submit(tables_of, block, *lines, mixed_of(rounds))
            self._waiting.append(
                Waiting(block=block, number=number, begin=lines[0], until=lines[1], tables=tables)
            )

    def finish(
        self, rounds: Mapping[tuple[str, int], Samples], leave: int
    ) -> Iterator[tuple[Waiting, list[Part] | None]]:
        """What began first, with its samples as ``parts`` gives them; all but the last ``leave``."""
        while len(self._waiting) > leave:
            waiting = self._waiting.popleft()
            yield waiting, parts(waiting.tables.result(), rounds)


def tables_of(block: Block, begin: int, until: int, mixed: frozenset[str]) -> list[Table] | None:
    """All samples from line ``begin`` up to ``until``, for ``parts``; None when any is no plain sample.

    It touches nothing else, so it may run while the next lines are being read.
    """
    found = []
    for kind, text in block.texts(begin, until, mixed):
        table = _table(kind, text)
        if table is None:
            return None
        found.append(table)
    return found


def _table(kind: str, text: bytes) -> Table | None:
    if b"~" in text:
        return None
    text = text.replace(b"null", b"~")
    if _LINES[kind].fullmatch(text) is None:
        return None
    plain = text.translate(None, _AROUND)
    if not _numbers_of_json(np.frombuffer(plain, dtype=np.uint8)):
        return None
    names = [str(place) for place in range(plain[: plain.index(b"\n")].count(b",") + 1)]
    types = dict.fromkeys(names, pa.float64()) | {names[2]: pa.int64()}
    try:
        table = csv.read_csv(
            pa.BufferReader(plain),
            csv.ReadOptions(use_threads=False, block_size=len(plain) + 1, column_names=names),
            csv.ParseOptions(quote_char=False),
            csv.ConvertOptions(
                include_columns=names[1:], column_types=types, null_values=["~"], check_utf8=False
            ),
        )
    except pa.ArrowException:
        return None
    rows = np.empty((table.num_rows, len(names) - 2))
    for place, name in enumerate((names[1], *names[3:])):
        rows[:, place] = _column(table[name], np.float64)
    if table[names[1]].null_count or table[names[2]].null_count:
        return None
    return Table(kind=kind, gpus=_column(table[names[2]], np.int64), rows=rows)


def _numbers_of_json(text: Bytes) -> bool:
    """Whether numbers are as JSON has them, as far as a reader of CSV would take others too: no zero before
    another digit, and digits on both sides of a point."""
    digit: Mask = (text - ord("0")) < 10
    before, here = text[:-2], text[1:-1]
    zero = (here == ord("0")) & digit[2:] & ~digit[:-2] & (before != ord("."))
    point = (here == ord(".")) & ~(digit[:-2] & digit[2:])
    return not bool((zero | point).any())


def _column(column: pa.ChunkedArray, kind: type[np.float64] | type[np.int64]) -> NDArray[Any]:
    """Its numbers, NaN for null. Not by ``to_numpy``, which imports pandas where that is installed."""
    array = column.combine_chunks()
    there, data = array.buffers()
    values = np.frombuffer(data, dtype=kind, count=len(array))
    if not array.null_count:
        return values
    known = np.unpackbits(np.frombuffer(there, dtype=np.uint8), count=len(array), bitorder="little")
    return np.where(known, values, np.nan)


def parts(tables: list[Table] | None, rounds: Mapping[tuple[str, int], Samples]) -> list[Part] | None:
    """The samples of a block by round and GPU; None when it must be read line by line.

    ``rounds`` leads from kind and GPU to where its samples go, of all GPUs that were introduced.
    """
    if tables is None:
        return None
    found: list[Part] = []
    for table in tables:
        for gpu in np.unique(table.gpus):
            samples = rounds.get((table.kind, int(gpu)))
            if samples is None or table.rows.shape[1] != 1 + len(samples.names):
                return None
            part = Part(samples=samples, rows=table.rows[table.gpus == gpu])
            if not _sound(part):
                return None
            found.append(part)
    return found


def _sound(part: Part) -> bool:
    """Whether time goes on, and each value is one that its sensor can read (or NaN: none)."""
    times, before = part.rows[:, 0], part.samples.last
    if (np.diff(times) < 0).any() or (before is not None and times[0] < before):
        return False
    for place, name in enumerate(part.samples.names, 1):
        low, high = RANGES.get(SENSOR[name].unit if name in SENSOR else "1", RANGES["1"])
        column = part.rows[:, place]
        if ((column < low) | (column > high)).any():
            return False
    return bool(times[-1] <= LATEST)
