"""The edu exerciser against a model of the device: it sees what is there, and what is wrong with it."""

from __future__ import annotations

import math
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.vendors.edu.payload.device import BLOCK, Edu, Unable, keystream, residue, tenant_pattern
from harness.vendors.nvidia.payload import device as gpu_device
from harness.workloads.device.payload.job import exerciser

JOB = {
    "liveness": 0x12345678, "run_key": "run2-g1", "factorials": [5, 12, 20], "dma_rounds": 2, "interrupts": 9,
    "seed": 77, "residue_scan": True, "residue_plant": True,
}  # fmt: skip


class Memory:
    address = 0x1000

    def __init__(self) -> None:
        self.data = bytearray(4096)

    def fill(self, block: bytes) -> None:
        self.data[: len(block)] = block

    def read(self, length: int) -> bytes:
        return bytes(self.data[:length])


class FakeEdu:
    """QEMU's edu as ``docs/specs/edu.rst`` describes it; faults are set by name."""

    def __init__(self, *faults: str) -> None:
        self.faults, self.memory, self.buffer = faults, Memory(), bytearray(4096)
        self.registers = {0x00: 0x010000ED}
        self.pending = False

    def read(self, offset: int) -> int:
        if "fell off the bus" in self.faults:
            return 0xFFFFFFFF
        return self.registers.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        if offset == 0x04:
            value ^= 0xFFFFFFFF
        elif offset == 0x08:
            value = math.factorial(value) % 2**32 ^ ("bad factorial" in self.faults)
        elif offset == 0x98:
            self._move(to_device=not value & 2)
            value = value if "stuck DMA" in self.faults else value & ~1
        elif offset == 0x60:
            self.registers[0x24] = self.registers.get(0x24, 0) | value
            self.pending = "no interrupts" not in self.faults
        elif offset == 0x64:
            self.registers[0x24] &= ~value
        self.registers[offset] = value

    def write_long(self, offset: int, value: int) -> None:
        self.registers[offset] = value

    def _move(self, *, to_device: bool) -> None:
        assert self.registers[0x90] <= BLOCK
        assert self.registers[0x88 if to_device else 0x80] == 0x40000
        if self.registers[0x80 if to_device else 0x88] != self.memory.address or "dead DMA" in self.faults:
            return
        size = self.registers[0x90]
        if to_device:
            self.buffer[:size] = self.memory.data[:size]
            self.buffer[17] ^= "flipped bit" in self.faults
        else:
            self.memory.data[:size] = self.buffer[:size]

    def count(self, seconds: float) -> bool:
        came, self.pending = self.pending, False
        return came

    def rearm(self) -> None:
        pass


def observe(device: FakeEdu, **changes: Any) -> dict[str, Any]:
    seen: dict[str, Any] = Edu(device, device.memory, device, patience=0.02).observe({**JOB, **changes})
    return seen


def test_a_healthy_device_shows_all_it_can() -> None:
    seen = observe(FakeEdu())
    checks = [zlib.crc32(keystream(77 + n, BLOCK)) for n in range(2)]
    assert seen == {
        "identification": 0x010000ED, "liveness": 0x12345678 ^ 0xFFFFFFFF,
        "residue": {"state": "empty", "bytes": 0},
        "factorials": {"5": 120, "12": 479001600, "20": 2432902008176640000 % 2**32}, "dma_checksums": checks,
        "dma_seconds": seen["dma_seconds"], "interrupts": 9, "planted": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [
        ("bad factorial", "factorials", {"5": 121, "12": 479001601, "20": 2192834561}),
        ("no interrupts", "interrupts", 0),
        ("fell off the bus", "identification", 0xFFFFFFFF),
    ],
)
def test_a_fault_is_seen(fault: str, name: str, value: object) -> None:
    assert observe(FakeEdu(fault), residue_scan=False)[name] == value


@pytest.mark.parametrize("fault", ["flipped bit", "dead DMA", "stuck DMA"])
def test_dma_that_does_not_bring_back_what_went_out_is_seen(fault: str) -> None:
    seen = observe(FakeEdu(fault), residue_scan=False)
    right = [zlib.crc32(keystream(77 + n, BLOCK)) for n in range(2)]
    assert all(a != b for a, b in zip(seen["dma_checksums"], right, strict=True))


def test_residue_that_cannot_be_read_is_not_emptiness() -> None:
    with pytest.raises(Unable):
        observe(FakeEdu("stuck DMA"))
    assert observe(FakeEdu("dead DMA"))["residue"]["state"] == "unknown"


def test_the_next_tenant_finds_what_the_last_one_left() -> None:
    device = FakeEdu()
    assert observe(device, run_key="run1-g1")["residue"] == {"state": "empty", "bytes": 0}
    found = observe(device, run_key="run1-g2")["residue"]
    assert (found["state"], found["tenant"], found["own"], found["matching"]) == (
        "tenant",
        "run1-g1",
        False,
        BLOCK,
    )
    assert observe(device, run_key="run1-g2")["residue"]["own"] is True
    device.buffer[:] = bytes(4096)
    assert observe(device, run_key="run1-g3")["residue"]["state"] == "empty"


@given(noise=st.binary(min_size=BLOCK, max_size=BLOCK))
def test_any_buffer_is_called_something(noise: bytes) -> None:
    assert residue(noise, "k")["state"] in ("empty", "unknown", "tenant")
    assert residue(tenant_pattern("k")[:-1] + noise[:1], "k")["matching"] >= BLOCK - 1


def test_exercisers_are_chosen_by_vendor_and_device() -> None:
    assert exerciser("1234", "11e8") == "device_edu"
    assert exerciser("10de", "2330") == "device_nvidia"
    assert exerciser("1234", "1111") is None


class NvmlError(Exception):
    pass


class FakeNvml:
    """Named as NVML names things."""

    NVMLError = NvmlError

    def __init__(self, *, dead: bool = False, serial: bool = True) -> None:
        self.dead, self.serial, self.open = dead, serial, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.dead:
            raise NvmlError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetHandleByPciBusId(self, bus: bytes) -> bytes:  # noqa: N802
        if bus != b"0000:01:00.0":
            raise NvmlError("Not Found")
        return bus

    def nvmlDeviceGetPciInfo(self, handle: bytes) -> Any:  # noqa: N802
        return type("Pci", (), {"busId": b"00000000:01:00.0"})

    def nvmlDeviceGetMemoryInfo(self, handle: bytes) -> Any:  # noqa: N802
        return type("Memory", (), {"total": 80 << 30})

    def nvmlDeviceGetUUID(self, handle: bytes) -> str:  # noqa: N802
        return "GPU-aa"

    def nvmlDeviceGetName(self, handle: bytes) -> bytes:  # noqa: N802
        return b"H\xff"

    def nvmlDeviceGetSerial(self, handle: bytes) -> str:  # noqa: N802
        if not self.serial:
            raise NvmlError("Not Supported")
        return "165"

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "535"


def test_an_nvidia_gpu_is_asked_for_its_identity_through_nvml() -> None:
    nvml = FakeNvml()
    seen = gpu_device.observe(nvml, "0000:01:00.0")
    assert seen == {"uuid": "GPU-aa", "serial": "165", "name": "H\\xff", "memory_bytes": 80 << 30,
                    "bus_id": "00000000:01:00.0", "driver": "535"}  # fmt: skip
    assert nvml.open == 0
    assert gpu_device.observe(FakeNvml(serial=False), "0000:01:00.0")["serial"] is None


def test_nvml_that_does_not_answer_is_no_identity() -> None:
    with pytest.raises(Unable, match="Driver Not Loaded"):
        gpu_device.observe(FakeNvml(dead=True), "0000:01:00.0")
    nvml = FakeNvml()
    with pytest.raises(Unable, match="Not Found"):
        gpu_device.observe(nvml, "0000:02:00.0")
    assert nvml.open == 0
