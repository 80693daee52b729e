"""The samples of one round of one GPU, kept small: a day of eight GPUs does not fit into memory as
objects."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # numpy is imported where it is used: what reads no samples need not wait for it
    import numpy as np
    from numpy.typing import NDArray

Numbers: TypeAlias = "NDArray[np.float64]"

_IN_MEMORY = 4 << 20
"""Bytes of one round's samples that stay in memory; beyond that they lie in a temporary file."""
_AT_ONCE = 1 << 16
"""Rows that are read back together."""
_BUFFERED = 4096
"""Rows that came singly and are written together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Samples as they were read back: ``columns[name][i]`` was read at ``times[i]``, in seconds since boot.

    NaN where a read failed, or gave what cannot be.
    """

    times: Numbers
    columns: dict[str, Numbers]


class Samples:
    """One round's samples in order of time. Only the reader of the spool adds to them."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.count = 0
        self.last: float | None = None
        """Time of the latest one."""
        self._rows: list[list[float]] = []
        self._file: Any = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as we do
        weakref.finalize(self, self._file.close)

    def add(self, at: float, values: Sequence[float]) -> None:
        """One sample, not earlier than the one before."""
        self._rows.append([at, *values])
        self.count, self.last = self.count + 1, at
        if len(self._rows) >= _BUFFERED:
            self._write()

    def extend(self, times: Numbers, values: Numbers) -> None:
        """Many of them: ``values`` has a row for each of ``times`` and a column for each name."""
        import numpy as np  # noqa: PLC0415

        self.append(np.column_stack((times, values)))

    def append(self, rows: Numbers) -> None:
        """Many of them, each a row of its time and its values."""
        import numpy as np  # noqa: PLC0415

        if not len(rows):
            return
        self._write()
        self._file.write(np.ascontiguousarray(rows, dtype=np.float64).data)
        self.count, self.last = self.count + len(rows), float(rows[-1, 0])

    def _write(self) -> None:
        import numpy as np  # noqa: PLC0415

        if self._rows:
            self._file.write(np.array(self._rows, dtype=np.float64).tobytes())
            self._rows.clear()

    def read(self) -> Read:
        """All of them. A caller that lets go of one GPU's before it reads the next needs room for one."""
        import numpy as np  # noqa: PLC0415

        self._write()
        width = 1 + len(self.names)
        whole = np.empty((width, self.count))
        self._file.seek(0)
        begin = 0
        while part := self._file.read(8 * width * _AT_ONCE):
            rows = np.frombuffer(part, dtype=np.float64).reshape(-1, width)
            whole[:, begin : begin + len(rows)] = rows.T
            begin += len(rows)
        return Read(
            times=whole[0],
            columns={name: whole[place] for place, name in enumerate(self.names, 1)},
        )

    @property
    def times(self) -> list[float]:
        """Times alone, as a list."""
        return [float(at) for at in self.read().times]

    @property
    def columns(self) -> dict[str, list[float]]:
        """Values alone, as lists."""
        return {name: [float(v) for v in column] for name, column in self.read().columns.items()}
