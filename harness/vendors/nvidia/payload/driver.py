"""The CUDA driver API through ctypes: ``libcuda.so.1`` comes with the driver, and nothing else is needed.

Names and types are those of NVIDIA's ``cuda.h``; where a call has versions, the symbol's own suffix is
written out, since ctypes does not see the header's macros. GPUs are addressed by PCI address, never by order.
"""

from __future__ import annotations

import ctypes
import os

from harness.payload import bounded

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


LIBRARY = "libcuda.so.1"
MULTIPROCESSORS, COMPUTE_MODE = 16, 20
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT and _COMPUTE_MODE."""
PORTABLE = 1
"""CU_MEMHOSTREGISTER_PORTABLE: pinned for every context."""
OUT_OF_MEMORY, UNAVAILABLE, PEER_UNSUPPORTED, PEER_ALREADY, TOO_MANY_PEERS = 2, 46, 217, 704, 711

_MPS = "the Multi-Process Service of this machine refuses this process"
SOFTWARE = {
    34: "the library is a stub, not the driver's",
    36: "the driver is too old for this call",
    102: "a virtual GPU has no licence",
    209: "the kernels need compute capability 7.5 or later",
    218: "the driver's PTX compiler rejects the kernels",
    221: "the driver's PTX compiler (libnvidia-ptxjitcompiler.so.1) is missing",
    222: "the driver is too old for the kernels' PTX version",
    223: "compiling PTX is disabled (CUDA_DISABLE_PTX_JIT)",
    800: "the driver does not permit it here",
    801: "the driver does not support it here",
    802: "a daemon that the driver needs is not running or not ready: with NVSwitch the Fabric Manager "
    "(nvidia-fabricmanager), on the host if only the host has the switches",
    803: "library and kernel module have different driver versions",
    804: "a forward-compatibility library is installed that this GPU does not support",
    **dict.fromkeys(range(805, 811), _MPS),
}
"""Errors that speak of the software in this guest and not of the card (``cuda.h``, CUresult).

802 is what every start of CUDA answers on HGX boards until the Fabric Manager has set them up (seen on hosts:
pytorch/pytorch#35710; in guests: kata-containers/kata-containers#11730). A card whose NVLink is broken can
cause it too: this alone does not tell which, and the links' own counters do.
"""
_WITHOUT_UVM = (100, 304, 999)
"""What cuInit answers where the module nvidia-uvm is not loaded and cannot be (999, gorgonia/cu#2)."""

_PROTOTYPES = {
    "cuInit": "u", "cuDriverGetVersion": "p", "cuGetErrorName": "ip", "cuGetErrorString": "ip",
    "cuDeviceGetByPCIBusId": "ps", "cuDeviceGetName": "pii", "cuDeviceTotalMem_v2": "pi",
    "cuDeviceGetAttribute": "pii", "cuDevicePrimaryCtxRetain": "pi", "cuCtxSetCurrent": "p",
    "cuCtxSynchronize": "", "cuMemGetInfo_v2": "pp", "cuMemAlloc_v2": "pz", "cuMemFree_v2": "d",
    "cuMemHostRegister_v2": "pzu", "cuMemHostUnregister": "p",
    "cuMemcpyHtoD_v2": "dpz", "cuMemcpyDtoH_v2": "pdz", "cuMemcpyHtoDAsync_v2": "dpzp",
    "cuMemcpyDtoHAsync_v2": "pdzp", "cuMemcpyDtoDAsync_v2": "ddzp", "cuMemcpyPeerAsync": "dpdpzp",
    "cuMemsetD8_v2": "dbz", "cuStreamCreate": "pu", "cuStreamSynchronize": "p", "cuEventCreate": "pu",
    "cuEventRecord": "pp", "cuEventSynchronize": "p", "cuEventElapsedTime": "ppp",
    "cuDeviceCanAccessPeer": "pii", "cuCtxEnablePeerAccess": "pu",
    "cuModuleLoadData": "pp", "cuModuleGetFunction": "pps", "cuLaunchKernel": "puuuuuuuppp",
}  # fmt: skip
"""Argument types: u unsigned, i int, b unsigned char, p pointer, s text, z size_t, d CUdeviceptr."""


class DriverError(bounded.Failure):
    """A call that did not succeed."""

    def __init__(self, call: str, code: int, words: str) -> None:
        super().__init__(f"{call}: {words}")
        self.code = code


class Exhausted(bounded.Unable):
    """No memory was left, of the card or of this machine: somebody else holds it, which accuses no card."""


class Driver:
    """The loaded and started library. Unable when software stands in the way, DriverError otherwise."""

    def __init__(self, sysroot: str = "/") -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise bounded.Unable(f"{LIBRARY} cannot be loaded: {error}") from None
        self._prototypes()
        code = self.library.cuInit(0)
        if code:
            raise self.refused("cuInit", code, sysroot)

    def _prototypes(self) -> None:
        c = ctypes
        letters = {
            "u": c.c_uint, "i": c.c_int, "b": c.c_ubyte, "p": c.c_void_p, "s": c.c_char_p,
            "z": c.c_size_t, "d": c.c_uint64,
        }  # fmt: skip
        for name, arguments in _PROTOTYPES.items():
            try:
                function = getattr(self.library, name)
            except AttributeError:
                raise bounded.Unable(f"{LIBRARY} has no {name}: the driver is too old") from None
            function.argtypes, function.restype = [letters[letter] for letter in arguments], c.c_int

    def words(self, code: int) -> str:
        """The library's own name and sentence for an error code."""
        said = []
        for name in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            getattr(self.library, name)(code, ctypes.byref(text))
            said.append((text.value or b"").decode("utf-8", "backslashreplace"))
        return f"{said[0] or 'unknown error'} ({code}): {said[1]}"

    def refused(self, call: str, code: int, sysroot: str) -> Exception:
        """Why the driver does not start: Unable for the guest's software, DriverError for all else."""
        said = self.words(code)
        if code in SOFTWARE or code == OUT_OF_MEMORY:
            return self._unable(call, code)
        if not os.path.exists(os.path.join(sysroot, "proc/driver/nvidia/version")):
            return bounded.Unable(f"{call}: {said}; the nvidia kernel module is not loaded")
        node = os.path.join(sysroot, "dev/nvidiactl")
        if os.path.exists(node) and not os.access(node, os.R_OK | os.W_OK):
            return bounded.Unable(f"{call}: {said}; no permission on {node}")
        if code in _WITHOUT_UVM and not os.path.exists(os.path.join(sysroot, "sys/module/nvidia_uvm")):
            return bounded.Unable(f"{call}: {said}; the kernel module nvidia-uvm is not loaded")
        return DriverError(call, code, said)

    def __call__(self, call: str, *arguments: Any) -> None:
        """Make a call. Raises DriverError, and Unable (Exhausted) for what is not the card's doing."""
        code = getattr(self.library, call)(*arguments)
        if code in SOFTWARE or code == OUT_OF_MEMORY:
            raise self._unable(call, code)
        if code:
            raise DriverError(call, code, self.words(code))

    def _unable(self, call: str, code: int) -> Exception:
        why = SOFTWARE.get(code, "other processes use the memory")
        kind = Exhausted if code == OUT_OF_MEMORY else bounded.Unable
        return kind(f"{call}: {self.words(code)}; {why}")

    def number(self, kind: str, call: str, *arguments: Any) -> int:
        """A call whose first argument is where a number goes: that number. ``kind``: a ctypes type."""
        out = getattr(ctypes, kind)()
        self(call, ctypes.byref(out), *arguments)
        return int(out.value or 0)

    def version(self) -> str:
        """CUDA version of the driver: 12040 is 12.4."""
        whole = self.number("c_int", "cuDriverGetVersion")
        return f"{whole // 1000}.{whole % 1000 // 10}"


def visible(address: str) -> dict[str, str]:
    """The environment in which a process has the GPU at a PCI address and none else.

    By its UUID, which CUDA itself gives for the address: numbers shift when CUDA leaves a GPU out.
    Raises Unable and DriverError.
    """
    cuda = Driver()
    number = cuda.number("c_int", "cuDeviceGetByPCIBusId", address.encode("ascii"))
    # cuda.h of CUDA 13.0 calls the second version only; older drivers have the first one only.
    known = [name for name in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid") if hasattr(cuda.library, name)]
    if not known:
        raise bounded.Unable(f"{LIBRARY} reports no UUID: the driver is too old")
    raw = (ctypes.c_ubyte * 16)()
    getattr(cuda.library, known[0]).argtypes = [ctypes.c_void_p, ctypes.c_int]
    cuda(known[0], raw, number)
    said = bytes(raw).hex()
    parts = (said[:8], said[8:12], said[12:16], said[16:20], said[20:])
    return {"CUDA_VISIBLE_DEVICES": f"GPU-{'-'.join(parts)}"}
