"""Of what the NVML stand-in is made, and how programs find it and its Python binding."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

NAME = "NVML"
SCENARIO_VARIABLE = "SHAKEDOWN_NVML_SCENARIO"
"""Names the file with what it plays."""
LIBRARY = "libnvidia-ml.so.1"
"""File name and soname: what pynvml asks the system for."""
GUEST_LIBRARY = f"/usr/lib/shakedown/nvml/{LIBRARY}"
"""Where a guest image that has one holds it; nothing loads it unless the host file names a scenario."""
BINDING, BINDING_PACKAGE = "pynvml", "nvidia-ml-py"
"""NVIDIA's Python binding of NVML: the module, one file, and the package that brings it."""


def sources() -> tuple[Path, ...]:
    """Everything it is compiled from, headers included, by name."""
    folder = Path(str(resources.files(__package__) / "native"))
    return tuple(sorted([*folder.glob("nvml_standin*.c"), *folder.glob("nvml_standin*.h")]))
