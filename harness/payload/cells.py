"""The cells (NUMA nodes) of this machine as its kernel says, and working on one of them only.

Memory is bound by ``set_mempolicy(2)`` and its place is asked by ``move_pages(2)``: both are made as system
calls, since the C library has no wrapper for them and libnuma is in no image.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os

from harness.payload import bounded

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any


_NUMBERS = {"x86_64": (238, 279), "aarch64": (237, 239)}
"""Numbers of set_mempolicy and move_pages (Linux, ``unistd_64.h`` and ``asm-generic/unistd.h``)."""
_BIND, _DEFAULT = 2, 0
"""MPOL_BIND and MPOL_DEFAULT of ``linux/mempolicy.h``."""
_MASK_BITS = 1024
PAGE = mmap.PAGESIZE
_NOTED = 64 << 20
_LOOKED_AT = 64
"""Pages asked for their node, spread over the memory."""


def ranges(text: str) -> list[int]:
    """``0-3,8`` as numbers."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return found


def cells(sysroot: str = "/") -> dict[int, list[int]]:
    """Cell to its processors, for every cell that has both processors and memory; a kernel without NUMA has
    one, 0."""
    folder = os.path.join(sysroot, "sys/devices/system/node")
    found: dict[int, list[int]] = {}
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name.startswith("node") and name[4:].isdigit():
            cpus = ranges(_read(os.path.join(folder, name, "cpulist")))
            memory = _read(os.path.join(folder, name, "meminfo")).partition("MemTotal:")[2].split()
            if cpus and memory and int(memory[0]) > 0:
                found[int(name[4:])] = cpus
    return dict(sorted(found.items())) or {0: sorted(os.sched_getaffinity(0))}


def cell_of(address: str, sysroot: str = "/") -> int | None:
    """The cell that a PCI device is near, or None when the kernel does not know."""
    text = _read(os.path.join(sysroot, "sys/bus/pci/devices", address, "numa_node")).strip()
    return int(text) if text.isdigit() else None


def link(address: str, sysroot: str = "/") -> tuple[int, int] | None:
    """Generation and width of a device's link as its own config space says now, or None."""
    folder = os.path.join(sysroot, "sys/bus/pci/devices", address)
    speed = _read(os.path.join(folder, "current_link_speed")).split(" ")[0]
    width = _read(os.path.join(folder, "current_link_width")).strip()
    generation = {"2.5": 1, "5.0": 2, "8.0": 3, "16.0": 4, "32.0": 5, "64.0": 6}.get(speed)
    return (generation, int(width)) if generation and width.isdigit() and int(width) else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


class Binder:
    """Puts this process and the memory it takes next on one cell."""

    def __init__(self, sysroot: str = "/") -> None:
        self.cells = cells(sysroot)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.syscall.restype = ctypes.c_long
        self._numbers = _NUMBERS.get(os.uname().machine)
        self._allowed = os.sched_getaffinity(0)

    def bind(self, cell: int) -> None:
        """Raises Unable when this machine has several cells and does not let us choose."""
        try:
            os.sched_setaffinity(0, self.cells[cell])
        except OSError as error:
            raise bounded.Unable(f"no processor of cell {cell} may be used here: {error}") from None
        if len(self.cells) == 1:
            return  # all memory is there
        mask = (ctypes.c_ulong * (_MASK_BITS // 64))()
        mask[cell // 64] = 1 << cell % 64
        if self._numbers is None or self._call(self._numbers[0], _BIND, mask, _MASK_BITS):
            why = os.strerror(ctypes.get_errno() if self._numbers else errno.ENOSYS)
            raise bounded.Unable(f"memory cannot be bound to cell {cell} here: {why}")

    def release(self) -> None:
        """Any processor and any memory again."""
        os.sched_setaffinity(0, self._allowed)
        if len(self.cells) > 1 and self._numbers is not None:
            self._call(self._numbers[0], _DEFAULT, None, 0)

    def _call(self, number: int, *arguments: Any) -> int:
        made = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
        return int(self._libc.syscall(ctypes.c_long(number), *made))

    def where(self, address: int, size: int) -> list[int] | None:
        """Cells on which some pages of touched memory lie, or None when the kernel does not tell."""
        count = min(_LOOKED_AT, size // PAGE)
        if self._numbers is None or not count:
            return None
        step = size // PAGE // count * PAGE
        pages = (ctypes.c_void_p * count)(*[address + n * step for n in range(count)])
        status = (ctypes.c_int * count)()
        if self._call(self._numbers[1], 0, count, pages, None, status, 0):
            return None
        return sorted(set(status)) if min(status) >= 0 else None


class Block:
    """Memory of this process, page-aligned and touched, with its address."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.map = mmap.mmap(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without transparent huge pages: smaller ones then
                self.map.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.set(0)

    def set(self, byte: int) -> None:
        """Every byte the same."""
        ctypes.memset(self.address, byte, self.size)

    def write(self, blocks: Any, kind: int, seed: int, note: Any = None) -> None:
        """The words of a pattern, by ``memory_patterns.Blocks``; the size is a multiple of its blocks.

        ``note`` hears how far it is: some 100 MB/s, so gigabytes take longer than one may be silent.
        """
        step = 8 * blocks.words
        for at in range(0, self.size, step):
            self.map[at : at + step] = blocks.block(kind, at // 8, seed)
            if note and at % _NOTED == 0:
                note(f"writing {self.size} bytes of this machine's memory, {at} done")

    def words_unlike(self, other: Block) -> int:
        """How many words differ from another block's."""
        libc = ctypes.CDLL(None)
        libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        if libc.memcmp(self.address, other.address, self.size) == 0:
            return 0
        step, wrong = 1 << 16, 0
        for at in range(0, self.size, step):
            ours, theirs = self.map[at : at + step], other.map[at : at + step]
            if ours != theirs:
                wrong += sum(ours[n : n + 8] != theirs[n : n + 8] for n in range(0, len(ours), 8))
        return wrong

    def word(self, index: int) -> int:
        """One word."""
        return int.from_bytes(self.map[8 * index : 8 * index + 8], "little")
