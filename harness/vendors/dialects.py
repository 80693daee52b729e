"""How the drivers of all makers of GPUs write into kernel logs: the registry of the reader of logs."""

from __future__ import annotations

from harness.telemetry.kernel.dialect import Dialect
from harness.vendors.amd.log import DIALECT as AMD
from harness.vendors.intel.log import DIALECT as INTEL
from harness.vendors.nvidia.log import DIALECT as NVIDIA

DIALECTS: tuple[Dialect, ...] = (NVIDIA, AMD, INTEL)
