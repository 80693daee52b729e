"""One GPU through the driver API: its context, memory in many pieces, the kernels, and time by events."""

from __future__ import annotations

import ctypes
import os

from harness.payload import bounded
from harness.vendors.nvidia.payload import driver as gpu_driver
from harness.vendors.nvidia.payload import link as gpu_link

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


KERNELS = ("sd_fill", "sd_verify", "sd_verify_fill", "sd_count", "sd_read", "sd_copy", "sd_flip")
THREADS, BLOCKS_PER_MULTIPROCESSOR = 256, 16
RECORDS = 64
"""Faults that a report keeps, as in ``harness/vendors/nvidia/kernels/vram_patterns.h``."""
REPORT_WORDS = 4 + 3 * RECORDS
PIECE, SMALLEST = 4 << 30, 2 << 20
"""Bytes of one allocation: the first size tried, and the last (the driver hands out 2 MiB pages)."""


class Gpu:
    """A GPU with its primary context current in this process. DriverError wherever the card refuses."""

    def __init__(self, cuda: Any, address: str) -> None:
        self.driver, self.address = cuda, address
        self.number = cuda.number("c_int", "cuDeviceGetByPCIBusId", address.encode("ascii"))
        name = ctypes.create_string_buffer(128)
        cuda("cuDeviceGetName", name, 128, self.number)
        self.name = name.value.decode("utf-8", "backslashreplace")
        self.total = cuda.number("c_size_t", "cuDeviceTotalMem_v2", self.number)
        multiprocessors = cuda.number(
            "c_int", "cuDeviceGetAttribute", gpu_driver.MULTIPROCESSORS, self.number
        )
        self.blocks = max(1, multiprocessors) * BLOCKS_PER_MULTIPROCESSOR
        self.context = self._context()
        self.use()
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vram.ptx")
        with open(path, "rb") as stream:
            module = cuda.number("c_void_p", "cuModuleLoadData", stream.read() + b"\0")
        self.kernels = {
            name: cuda.number("c_void_p", "cuModuleGetFunction", module, name.encode("ascii"))
            for name in KERNELS
        }
        self.scratch = self._report = self.allocate(8 * REPORT_WORDS)

    def _context(self) -> int:
        try:
            return int(self.driver.number("c_void_p", "cuDevicePrimaryCtxRetain", self.number))
        except gpu_driver.DriverError as error:
            if error.code != gpu_driver.UNAVAILABLE:
                raise
            mode = self.driver.number("c_int", "cuDeviceGetAttribute", gpu_driver.COMPUTE_MODE, self.number)
            if mode:
                raise bounded.Unable(f"{error}; its compute mode is {mode}, not the default") from None
            raise

    def use(self) -> None:
        """Make this GPU the one that calls are about."""
        self.driver("cuCtxSetCurrent", self.context)

    def free(self) -> int:
        """Bytes that are free now."""
        left, whole = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver("cuMemGetInfo_v2", ctypes.byref(left), ctypes.byref(whole))
        return int(left.value)

    def allocate(self, size: int) -> int:
        """Device memory; its address."""
        return int(self.driver.number("c_uint64", "cuMemAlloc_v2", size))

    def pieces(self, wanted: int, note: Callable[[str], None]) -> list[tuple[int, int]]:
        """At least ``wanted`` bytes in allocations as large as can be had, held all at once: address and
        bytes of each. Less when the card has no more: the caller says what that means."""
        found: list[tuple[int, int]] = []
        size, got = PIECE, 0
        while got < wanted and size >= SMALLEST:
            piece = min(size, -(-(wanted - got) // SMALLEST) * SMALLEST)
            note(f"allocating {piece} bytes after {got}")
            try:
                found.append((self.allocate(piece), piece))
                got += piece
            except gpu_driver.Exhausted:
                size = piece // 2 // SMALLEST * SMALLEST
        return found

    def pin(self, address: int, size: int) -> None:
        """Let the card read and write host memory directly.

        Memory of this process is pinned where it lies, which the kernel tells; of memory that the driver
        takes by itself (cuMemHostAlloc) nobody could say on which cell it is.
        """
        self.driver("cuMemHostRegister_v2", address, size, gpu_driver.PORTABLE)

    def unpin(self, address: int) -> None:
        """The opposite."""
        self.driver("cuMemHostUnregister", address)

    def launch(self, kernel: str, *arguments: Any, blocks: int | None = None) -> None:
        """Queue a kernel. Whole numbers go as 64 bits; give ``word()`` where a kernel takes 32."""
        values = [a if not isinstance(a, int) else ctypes.c_uint64(a & (1 << 64) - 1) for a in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        self.driver(
            "cuLaunchKernel", self.kernels[kernel], blocks or self.blocks, 1, 1, THREADS, 1, 1, 0, None,
            pointers, None,
        )  # fmt: skip

    def word(self, value: int) -> Any:
        """A 32-bit argument of a kernel."""
        return ctypes.c_uint32(value)

    def fill(self, address: int, words: int, first: int, kind: int, argument: int) -> None:
        """Queue the writing of a pattern."""
        self.launch("sd_fill", address, words, first, self.word(kind), argument)

    def verify(self, address: int, words: int, first: int, kind: int, argument: int) -> None:
        """Queue a comparison; what it finds is added to the report."""
        self.launch("sd_verify", address, words, first, self.word(kind), argument, self._report)

    def verify_fill(self, piece: tuple[int, int], first: int, kind: int, argument: int, then: int) -> None:
        """Queue a comparison that writes each word again with the argument ``then``."""
        address, words = piece
        self.launch("sd_verify_fill", address, words, first, self.word(kind), argument, then, self._report)

    def count(self, address: int, words: int, value: int) -> None:
        """Queue a count of the words of that value; the report's ``words`` grow by it."""
        self.launch("sd_count", address, words, value, self._report)

    def clear(self) -> None:
        """Begin a new report."""
        self.driver("cuMemsetD8_v2", self._report, 0, 8 * REPORT_WORDS)

    def report(self) -> dict[str, Any]:
        """Wait for all that was queued, and read the report."""
        self.wait()
        raw = (ctypes.c_uint64 * REPORT_WORDS)()
        self.driver("cuMemcpyDtoH_v2", raw, self._report, 8 * REPORT_WORDS)
        kept = min(raw[1], RECORDS)
        return {
            "words": raw[0], "mismatches": raw[1], "sum": raw[2], "bits": raw[3],
            "faults": sorted([raw[4 + 3 * n], raw[5 + 3 * n], raw[6 + 3 * n]] for n in range(kept)),
        }  # fmt: skip

    def read_words(self, address: int, count: int) -> list[int]:
        """Words of device memory."""
        raw = (ctypes.c_uint64 * count)()
        self.driver("cuMemcpyDtoH_v2", raw, address, 8 * count)
        return list(raw)

    def wait(self) -> None:
        """Wait for all that was queued on this GPU."""
        self.driver("cuCtxSynchronize")

    def stream(self) -> int:
        """A queue beside others (CU_STREAM_NON_BLOCKING)."""
        return int(self.driver.number("c_void_p", "cuStreamCreate", 1))

    def timed(self, queue: Callable[[], None], stream: int | None = None) -> float:
        """Seconds that what ``queue`` queues takes on the card, by events around it."""
        begin, end = (self.driver.number("c_void_p", "cuEventCreate", 0) for _ in range(2))
        self.driver("cuEventRecord", begin, stream)
        queue()
        self.driver("cuEventRecord", end, stream)
        self.driver("cuEventSynchronize", end)
        milliseconds = ctypes.c_float()
        self.driver("cuEventElapsedTime", ctypes.byref(milliseconds), begin, end)
        return float(milliseconds.value) / 1000


def open_gpu(address: str, sysroot: str, note: Any) -> Gpu:
    """Start CUDA and open the GPU at a PCI address; ``note`` hears of it. Raises Unable and DriverError."""
    note(f"asking NVML how {address} is set")
    if gpu_link.mig(gpu_link.load(), address):
        # CUDA would show no card at all, or one instance under the card's address, as small as that is.
        raise bounded.Unable(f"{address} is split into instances (MIG is on): none of them is the whole GPU")
    note("starting CUDA")
    cuda = gpu_driver.Driver(sysroot)
    note(f"opening {address}")
    gpu = Gpu(cuda, address)
    note(f"opened {address}", ready=True)
    return gpu
