"""Lines of kernel logs with what is right to read in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A line, and the event that it is."""

    family: str
    """``none``: it is no event."""
    ruling: str
    device: str
    """``-``: it names none."""
    line: str


def _read(path: Path) -> tuple[Known, ...]:
    _, *rows = path.read_text(encoding="utf-8").splitlines()
    fields = (row.split("\t") for row in rows)
    return tuple(Known(family=f, ruling=r, device=d, line=line) for f, r, d, line in fields)


KNOWN = _read(Path(__file__).parent / "cases" / "lines.tsv")
"""A line or more of each way in which kernels tell of trouble, and lines that only look like it."""
EVENTS = tuple(each for each in KNOWN if each.family != "none")


def _public() -> tuple[Known, ...]:
    silent = {("f01", 5), ("f06", 3), ("f07", 2), ("f07", 3), ("f08", 1), ("f08", 2), ("f08", 4), ("h01", 3)}
    found = []
    for path in sorted((CASES / "public-1").glob("*.log")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if (path.name[:3], number) not in silent:
                found.append(Known(family="", ruling="", device="", line=line))
    return tuple(found)


PUBLIC = _public()
"""Lines of public logs, less those that say nothing."""
