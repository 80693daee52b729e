"""Identity of an NVIDIA GPU (vendor 10de) by NVML, in the guest, and what is in its memory, by CUDA.

Needs the driver and ``pynvml`` (PyPI ``nvidia-ml-py``) in the guest image of kind ``nvidia``, in the folder
that the job names: an interpreter started with ``-I -S`` looks into no folder of installed packages.
"""

from __future__ import annotations

import sys

from harness.payload import bounded
from harness.vendors.nvidia.payload import residue

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


_STALL_SECONDS = 120.0
"""Without a word for so long, the look hangs: CUDA may take half a minute to start on eight cards."""


def exercise(device: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """UUID, serial, name, memory and PCI address by NVML. Raises Unable when NVML cannot be asked."""
    if job["binding"] not in sys.path:
        sys.path.append(job["binding"])
    try:
        import pynvml as nvml
    except ImportError as error:
        raise bounded.Unable(f"pynvml is not installed here: {error}") from None
    seen = observe(nvml, device["address"])
    if job["residue_scan"]:
        seen["memory"] = _remains(device["address"], job)
    return seen


def _remains(address: str, job: dict[str, Any]) -> dict[str, Any]:
    """What is left of an earlier tenant: an outcome as ``bounded`` tells it, also of a card that hangs."""
    word, sysroot = job["residue_word"], job.get("sysroot", "/")
    outcome: dict[str, Any] = bounded.alone(
        lambda note: residue.look(address, word, sysroot, note), _STALL_SECONDS
    )
    return outcome


def observe(nvml: Any, address: str) -> dict[str, Any]:
    """What ``nvml`` (the module, or something that behaves like it) says of the GPU at ``address``."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise bounded.Unable(f"NVML does not start: {error}") from None
    try:
        handle = nvml.nvmlDeviceGetHandleByPciBusId(address.encode("ascii"))
        pci, memory = nvml.nvmlDeviceGetPciInfo(handle), nvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "uuid": _text(nvml.nvmlDeviceGetUUID(handle)),
            "serial": _serial(nvml, handle),
            "name": _text(nvml.nvmlDeviceGetName(handle)),
            "memory_bytes": int(memory.total),
            "bus_id": _text(pci.busId).lower(),
            "driver": _text(nvml.nvmlSystemGetDriverVersion()),
        }
    except nvml.NVMLError as error:
        raise bounded.Unable(f"NVML does not answer for {address}: {error}") from None
    finally:
        nvml.nvmlShutdown()


def _serial(nvml: Any, handle: Any) -> str | None:
    try:
        return _text(nvml.nvmlDeviceGetSerial(handle))
    except nvml.NVMLError:  # consumer boards have none
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
