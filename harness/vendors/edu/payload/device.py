"""Exercises QEMU's ``edu`` device (1234:11e8) from user space: registers, factorials, DMA, interrupts.

Register map: QEMU ``docs/specs/edu.rst``. Registers below 0x80 take 32-bit accesses only. The device's own
memory is 4096 bytes at 0x40000 of its DMA address space. QEMU before 9.0 aborts the whole machine on a
transfer that reaches the last byte of it (its range check was exclusive), so blocks are 4088 bytes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import time
import zlib

from harness.payload.bounded import Unable

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

BLOCK = 4088
_BUFFER = 0x40000
_MASK = (1 << 64) - 1
_TENANT = b"SHAKEDOWN-TENANT "
_MAP_LOCKED_POPULATE = 0x2000 | 0x8000
_MEMORY, _MASTER, _INTX_OFF = 1 << 1, 1 << 2, 1 << 10
"""Bits of the PCI command register (PCI Local Bus Specification 3.0, 6.2.2)."""


def keystream(seed: int, length: int) -> bytes:
    """``length`` bytes (a multiple of 8) of splitmix64 from ``seed``, little-endian."""
    out, state = [], seed & _MASK
    for _ in range(length // 8):
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        out.append((z ^ (z >> 31)).to_bytes(8, "little"))
    return b"".join(out)


def tenant_pattern(key: str) -> bytes:
    """The block that a tenant of that run key leaves in the device."""
    head = _TENANT + key.encode("ascii", "replace")[:256] + b"\n"
    return (head + keystream(zlib.crc32(head), BLOCK))[:BLOCK]


def residue(block: bytes, own: str) -> dict[str, Any]:
    """What the buffer held before we wrote: ``empty``, ``tenant`` (whose, how much) or ``unknown``."""
    used = len(block) - block.count(0)
    if not used:
        return {"state": "empty", "bytes": 0}
    head, newline, _ = block.partition(b"\n")
    if not (head.startswith(_TENANT) and newline):
        return {"state": "unknown", "bytes": used}
    key = head[len(_TENANT) :].decode("ascii", "replace")
    same = sum(a == b for a, b in zip(block, tenant_pattern(key), strict=True))
    return {"state": "tenant", "bytes": used, "tenant": key, "own": key == own, "matching": same}


class Bar:
    """BAR 0, mapped: every access is one load or store of exactly the width asked for."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_SYNC)
        try:
            # 4 KiB of the 1 MiB hold all registers. memoryview items compile to single moves; slices of
            # the mapping itself would be memcpy, whose access width is its own affair.
            view = memoryview(mmap.mmap(descriptor, 4096))
        finally:
            os.close(descriptor)
        self._words, self._longs = view.cast("I"), view.cast("Q")

    def read(self, offset: int) -> int:
        """One 32-bit register."""
        return self._words[offset >> 2]

    def write(self, offset: int, value: int) -> None:
        """Set one 32-bit register."""
        self._words[offset >> 2] = value

    def write_long(self, offset: int, value: int) -> None:
        """Set one 64-bit register (0x80 and above)."""
        self._longs[offset >> 3] = value


class Page:
    """One locked page of ordinary memory and its guest-physical address."""

    def __init__(self) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_LOCKED_POPULATE
        self._map = mmap.mmap(-1, mmap.PAGESIZE, flags=flags)
        self._map[:] = b"\xa5" * mmap.PAGESIZE
        self._virtual = ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    @property
    def address(self) -> int:
        """Guest-physical address, read afresh: a locked page keeps its contents, not its place."""
        with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
            pagemap.seek(self._virtual // mmap.PAGESIZE * 8)
            entry = int.from_bytes(pagemap.read(8), "little")
        frame = entry & ((1 << 55) - 1)
        if not entry >> 63 or not frame:
            raise Unable("the kernel does not report the page's address (pagemap needs CAP_SYS_ADMIN)")
        return frame * mmap.PAGESIZE

    def fill(self, block: bytes) -> None:
        """Write from the start of the page."""
        self._map[: len(block)] = block

    def read(self, length: int) -> bytes:
        """The first ``length`` bytes."""
        return self._map[:length]


class Command:
    """The PCI command register, through sysfs."""

    def __init__(self, device_dir: str) -> None:
        self._path = device_dir + "/config"

    def change(self, *, put: int = 0, clear: int = 0) -> None:
        """Set and clear bits."""
        with open(self._path, "r+b", buffering=0) as config:
            config.seek(4)
            value = (int.from_bytes(config.read(2), "little") | put) & ~clear & 0xFFFF
            config.seek(4)
            config.write(value.to_bytes(2, "little"))


class Interrupts:
    """Interrupts counted by the kernel's UIO framework: a read of ``/dev/uioN`` returns how many came.

    ``uio_edu_msi`` (``harness/lab/native``, in the lab's image) takes message-signalled interrupts, as a
    GPU's driver does. Where a guest has no such module, ``uio_pci_generic`` takes the legacy line: it masks
    INTx at each interrupt and the reader unmasks (kernel documentation, uio-howto).
    """

    def __init__(self, device_dir: str, address: str, command: Command) -> None:
        self._command = command
        self.driver = _bind(device_dir, address)
        try:
            name = os.listdir(device_dir + "/uio")[0]
        except (OSError, IndexError):
            raise Unable(
                f"{self.driver} did not accept the device (module missing, or no interrupt)"
            ) from None
        self._descriptor = os.open("/dev/" + name, os.O_RDWR)
        command.change(put=_MASTER)
        self.rearm()
        while select.select([self._descriptor], [], [], 0)[0]:  # what was pending before us
            os.read(self._descriptor, 4)

    def count(self, seconds: float) -> bool:
        """Wait for one interrupt; whether it came."""
        ready = select.select([self._descriptor], [], [], seconds)[0]
        return bool(ready) and len(os.read(self._descriptor, 4)) == 4

    def rearm(self) -> None:
        """Let the next one through, after the device was told to lower its line."""
        if self.driver == "uio_pci_generic":
            self._command.change(clear=_INTX_OFF)


DRIVERS = ("uio_edu_msi", "uio_pci_generic")
"""In order of preference."""


def _bind(device_dir: str, address: str) -> str:
    """Bind the device to the first of ``DRIVERS`` that there is; its name."""
    wanted = next((name for name in DRIVERS if _load(name)), DRIVERS[-1])
    if os.path.basename(os.path.realpath(device_dir + "/driver")) != wanted:
        for path, text in (
            (device_dir + "/driver_override", wanted),
            ("/sys/bus/pci/drivers_probe", address),
        ):
            with open(path, "w", encoding="ascii") as stream:
                stream.write(text)
    return wanted


def _load(module: str) -> bool:
    if os.path.isdir("/sys/bus/pci/drivers/" + module):
        return True
    pid = os.posix_spawnp("modprobe", ["modprobe", "-q", module], os.environ)
    return os.waitpid(pid, 0)[1] == 0


def _until(done: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Edu:
    """One edu device."""

    def __init__(self, bar: Any, page: Any, interrupts: Any, patience: float = 20.0) -> None:
        self.bar, self.page, self.interrupts, self.patience = bar, page, interrupts, patience

    def factorial(self, number: int) -> int | None:
        """What the device computes for ``number``!; None when it does not finish."""
        self.bar.write(0x20, 0)
        self.bar.write(0x08, number)
        return self.bar.read(0x08) if _until(lambda: not self.bar.read(0x20) & 1, self.patience) else None

    def transfer(self, *, to_device: bool) -> bool:
        """Move one block by DMA; False when the device does not finish or the page moved meanwhile."""
        place = self.page.address
        self.bar.write_long(0x80, place if to_device else _BUFFER)
        self.bar.write_long(0x88, _BUFFER if to_device else place)
        self.bar.write_long(0x90, BLOCK)
        self.bar.write(0x98, 1 if to_device else 3)
        finished = _until(lambda: not self.bar.read(0x98) & 1, self.patience)
        return finished and place == self.page.address

    def round_trip(self, pattern: bytes) -> bytes | None:
        """Send ``pattern`` out, spoil the page, fetch it back: what came, or None if nothing did."""
        self.page.fill(pattern)
        if not self.transfer(to_device=True):
            return None
        self.page.fill(bytes(byte ^ 0xFF for byte in pattern))
        return self.page.read(BLOCK) if self.transfer(to_device=False) else None

    def raised(self, number: int) -> int:
        """How many of ``number`` interrupts, raised one by one, arrived and named their cause."""
        arrived = 0
        for turn in range(number):
            cause = 1 << (turn % 8 + 16)
            self.bar.write(0x60, cause)
            came = self.interrupts.count(min(self.patience, 5.0))
            arrived += came and self.bar.read(0x24) & cause == cause
            self.bar.write(0x64, self.bar.read(0x24))
            self.interrupts.rearm()
            if not came:
                break
        return arrived

    def observe(self, job: dict[str, Any]) -> dict[str, Any]:
        """Everything asked of one device by ``job``, in the order that keeps residue readable."""
        bar, seen = self.bar, {}
        seen["identification"] = bar.read(0x00)
        bar.write(0x04, job["liveness"])
        seen["liveness"] = bar.read(0x04)
        if job["residue_scan"]:
            self.page.fill(b"\xa5" * BLOCK)
            if not self.transfer(to_device=False):
                raise Unable("the device did not finish the DMA that searches for an earlier tenant's data")
            seen["residue"] = residue(self.page.read(BLOCK), job["run_key"])
        seen["factorials"] = {str(number): self.factorial(number) for number in job["factorials"]}
        started, checksums = time.monotonic(), []
        for turn in range(job["dma_rounds"]):
            back = self.round_trip(keystream(job["seed"] + turn, BLOCK))
            checksums.append(None if back is None else zlib.crc32(back))
        seen["dma_checksums"], seen["dma_seconds"] = checksums, time.monotonic() - started
        seen["interrupts"] = self.raised(job["interrupts"])
        if job["residue_plant"]:
            self.page.fill(tenant_pattern(job["run_key"]))
            seen["planted"] = self.transfer(to_device=True)
        return seen

    def after_reset(self, key: str, reset: Any) -> dict[str, Any]:
        """Reset the device and look what is left of the pattern planted under ``key``; plant it again.

        ``reset`` returns the kernel's refusal, empty when it took the reset. ``residue`` is None when it
        refused, or when the device does not move data any more.
        """
        refused = reset()
        if refused:
            return {"refused": refused, "residue": None}
        self.page.fill(b"\xa5" * BLOCK)
        left = residue(self.page.read(BLOCK), key) if self.transfer(to_device=False) else None
        self.page.fill(tenant_pattern(key))
        self.transfer(to_device=True)
        return {"refused": "", "residue": left}


def _reset(directory: str, command: Command) -> str:
    try:
        with open(directory + "/reset", "wb", buffering=0) as switch:
            switch.write(b"1")
    except OSError as error:
        return error.strerror or str(error)
    command.change(put=_MASTER)
    return ""


def exercise(
    device: dict[str, Any], job: dict[str, Any], sysfs: str = "/sys/bus/pci/devices"
) -> dict[str, Any]:
    """Observe the device at ``device["address"]``. Raises Unable or OSError when it cannot be looked at."""
    directory = f"{sysfs}/{device['address']}"
    if os.path.isdir("/sys/class/iommu") and os.listdir("/sys/class/iommu"):
        raise Unable("this guest has its own IOMMU: guest-physical addresses are not the device's addresses")
    command = Command(directory)
    interrupts = Interrupts(directory, device["address"], command)
    try:
        edu = Edu(Bar(directory + "/resource0"), Page(), interrupts)
        seen = edu.observe(job)
        seen["interrupt_driver"] = interrupts.driver
        if seen.get("planted"):
            seen["after_reset"] = edu.after_reset(job["run_key"], lambda: _reset(directory, command))
        return seen
    finally:
        command.change(clear=_MASTER)
