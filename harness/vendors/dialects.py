"""How the drivers of all makers of GPUs write into kernel logs: what the reader of logs asks."""

from __future__ import annotations

from harness.telemetry.kernel.dialect import Dialect
from harness.vendors.registry import parts

DIALECTS: tuple[Dialect, ...] = parts("log", "DIALECT")
