"""How the drivers of one maker of GPUs write into a kernel log, as a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.model.kernel_codes import KernelCode, KernelCodes
from harness.model.telemetry import KernelEvent
from harness.telemetry.kernel.form import Form


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """A line that carries a code of the vendor's."""

    kind: str
    """Name of the trouble, for messages."""
    event: KernelEvent
    """Without source and time, its line as given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentences:
    """A driver that spreads one sentence over several lines."""

    mark: str
    """What every line of it begins with."""
    begins: re.Pattern[str]
    """Matches its first line."""
    lines: int
    """It has no more than these."""
    names: re.Pattern[str]
    """Matches a line that names the GPU that is spoken of, in a group ``address``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one maker's drivers say, and how."""

    forms: tuple[Form, ...] = ()
    """Their words where they carry no code."""
    coded: Callable[[str, KernelCodes], Coded | None] | None = None
    """The event of a line with a code; None for a line without one. What cannot be read is of ruling
    ``unknown``, never lost. None: its drivers write no codes."""
    lost: Callable[[KernelCodes], KernelCode | None] | None = None
    """The ruling of a GPU that its driver calls gone from the bus, where a code has that."""
    sentences: Sentences | None = None
    starts: re.Pattern[str] | None = None
    """Matches what its driver says when it begins: what was wrong with its predecessor is over."""
