"""Which GPU is which, asked of the kernel and of the CUDA driver itself, whatever framework computes."""

from __future__ import annotations

import ctypes
import os

from harness.payload import bounded
from harness.vendors.nvidia.payload import driver as gpu_driver

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of ``cuda.h``."""


SOFTWARE = (
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
    "CUDA_ERROR_INVALID_PTX",
    "CUDA_ERROR_SYSTEM_NOT_READY",
    "no kernel image is available for execution on the device",
    "device kernel image is invalid",
    "invalid device function",
    "a PTX JIT compilation failed",
    "PTX JIT compiler library not found",
    "PTX JIT compilation was disabled",
    "the provided PTX was compiled with an unsupported toolchain",
    "CUDA driver version is insufficient for CUDA runtime version",
    "system not yet initialized",
    "system has unsupported display driver / cuda driver combination",
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUBLAS_STATUS_NOT_SUPPORTED",
    "CUBLAS_STATUS_ARCH_MISMATCH",
    "NVIDIA driver on your system is too old",
    "TensorFlow shows no GPU",
    "Cannot assign a device for operation",
    "Could not satisfy device specification",
)
"""Words of errors that speak of framework and driver and not of the card: names of ``cuda.h`` and
``cublas_api.h``, texts of ``cudaGetErrorString``; one of PyTorch's and three of TensorFlow's. That a
device is busy is said where somebody set it to serve one process only."""
MEMORY = (
    "out of memory",
    "OUT_OF_MEMORY",
    "OOM when allocating",
    "Dst tensor is not initialized",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "BLAS support",
)
"""Words of errors for want of memory, which says nothing of the card either: other loads use it, too. The
last is TensorFlow's in several sentences, where cuBLAS found none for itself, or no code for the GPU
(tensorflow issues 7072 and 9489)."""


class Unable(Exception):
    """Something that the work needs is not installed here."""


class Broken(Exception):
    """All that the demanded engine needs is here, and it does not work."""


def visible(address: str, sysfs: str = "/sys/bus/pci/devices", proc: str = "/proc") -> dict[str, str]:
    """The environment of a process that has this GPU and none else.

    Raises Broken where no such device is on the bus or CUDA leaves it out, Unable where the driver is not
    loaded or does not hold it: another driver, an installation too old for the card, or a card that the
    driver refused, of which the kernel's log tells (``guest.gpu_errors``).
    """
    if not os.path.exists(os.path.join(proc, "driver/nvidia/version")):
        raise Unable("the nvidia kernel module is not loaded")
    folder = os.path.join(sysfs, address)
    if not os.path.exists(folder):
        raise Broken(f"{address} is not on the bus")
    driver = os.path.basename(os.path.realpath(os.path.join(folder, "driver")))
    if driver != "nvidia":
        raise Unable(f"{address} is not held by the nvidia driver")
    try:
        found = gpu_driver.visible(address)
    except bounded.Unable as error:
        raise Unable(f"{address}: {error}") from error
    except bounded.Failure as error:
        raise Broken(f"{address}: {error}") from error
    return found


def identity(address: str) -> dict[str, Any]:
    """The one visible GPU, which must be the one at that PCI address: name and compute capability; and the
    driver's CUDA version (12020 for 12.2).

    Raises Unable or Broken.
    """
    try:
        cuda = gpu_driver.Driver()
        number = cuda.number("c_int", "cuDeviceGetByPCIBusId", address.encode("ascii"))
        if number:
            raise Broken(f"{address} is not the first GPU that CUDA shows here")
        name = ctypes.create_string_buffer(128)
        cuda("cuDeviceGetName", name, 128, number)
        numbers = [cuda.number("c_int", "cuDeviceGetAttribute", what, number) for what in (_MAJOR, _MINOR)]
        driver = cuda.number("c_int", "cuDriverGetVersion")
    except bounded.Unable as error:
        raise Unable(str(error)) from error
    except bounded.Failure as error:
        raise Broken(f"{address}: {error}") from error
    told = name.value.decode("utf-8", "backslashreplace")
    return {"address": address, "name": told, "capability": numbers, "driver": driver}


def at_work(error: Exception, gpu: bool, what: str) -> Exception:
    """What an error of the framework at work is: Broken for a GPU, except where software or a want of memory
    is to blame."""
    words, said = f"{what}: {str(error)[:800] or type(error).__name__}", str(error).lower()
    ours = not gpu or isinstance(error, MemoryError)
    ours = ours or any(text.lower() in said for text in (*SOFTWARE, *MEMORY))
    return Unable(words) if ours else Broken(words)


def lacks_avx(cpuinfo: str = "/proc/cpuinfo") -> bool:
    """Whether this x86 processor has no AVX, which TensorFlow's wheels are compiled for: they die of it."""
    with open(cpuinfo, encoding="ascii", errors="replace") as stream:
        flags = next((line.split() for line in stream if line.startswith("flags")), None)
    return flags is not None and "avx" not in flags
