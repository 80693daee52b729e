"""What NVML says of a GPU's links (the PCIe link as it is now, NVLink between two GPUs) and of MIG.

NVML knows the physical link, where a guest's config space may show an emulated one. Every question may go
unanswered (no library, an older one, not offered by the card): that is None, never a guess.
"""

from __future__ import annotations

import ctypes

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

LIBRARY = "libnvidia-ml.so.1"
_CAPS_NVLINK = 2
"""NVML_P2P_CAPS_INDEX_NVLINK of ``nvml.h``; status 0 is NVML_P2P_STATUS_OK."""


def load() -> Any:
    """The started library, or None."""
    try:
        nvml = ctypes.CDLL(LIBRARY)
        return nvml if nvml.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def _handle(nvml: Any, address: str) -> Any:
    handle = ctypes.c_void_p()
    status = nvml.nvmlDeviceGetHandleByPciBusId_v2(address.encode("ascii"), ctypes.byref(handle))
    return handle if status == 0 else None


def _number(call: Any, *arguments: Any) -> int | None:
    out = ctypes.c_uint()
    return int(out.value) if call(*arguments, ctypes.byref(out)) == 0 else None


def link(nvml: Any, address: str) -> tuple[int, int] | None:
    """Generation and width of the PCIe link right now."""
    handle = None if nvml is None else _handle(nvml, address)
    if handle is None:
        return None
    generation = _number(nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle)
    width = _number(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle)
    return (generation, width) if generation and width else None


def mig(nvml: Any, address: str) -> bool | None:
    """Whether the card is split into instances right now; most models cannot be."""
    handle = None if nvml is None else _handle(nvml, address)
    if handle is None or not hasattr(nvml, "nvmlDeviceGetMigMode"):
        return None
    pending = ctypes.c_uint()
    now = ctypes.c_uint()
    status = nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(now), ctypes.byref(pending))
    return bool(now.value) if status == 0 else None


def nvlink(nvml: Any, first: str, second: str) -> bool | None:
    """Whether two GPUs reach each other by NVLink."""
    handles = [] if nvml is None else [_handle(nvml, address) for address in (first, second)]
    if len(handles) != 2 or None in handles or not hasattr(nvml, "nvmlDeviceGetP2PStatus"):
        return None
    status = _number(nvml.nvmlDeviceGetP2PStatus, *handles, _CAPS_NVLINK)
    return None if status is None else status == 0
