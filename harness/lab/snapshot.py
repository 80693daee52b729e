"""The booted machine, kept: its memory in one file, its disk in another, both shared by all labs.

QEMU writes the state of a stopped machine as a migration to a file; a later machine of the same command
line reads it instead of booting, on a disk overlay of its own. Two things do not travel with it:

* PCI devices without migration support (``edu`` is one) come back with empty base addresses and a cleared
  command register, while the kernel believes them unchanged; a tenant would then read all ones. Their
  configuration is recorded with the snapshot and written back before the machine goes on.
* NVMe controllers cannot be saved at all, so they are plugged in once the machine runs.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.lab.qmp import Qmp
from harness.polling import wait_for
from harness.serial import strict_json

MEMORY = "memory.state"
DISK = "disk.qcow2"
CONFIGURATION = "pci.json"

_MAPPED_RAM = (9, 0)
"""First QEMU whose saved memory has a fixed place in the file: sparse, and read in any order."""
_MOVE_SECONDS = 120.0
_ADDRESS_PORT, _DATA_PORT = 0xCF8, 0xCFC
"""PCI configuration mechanism #1 (PCI Local Bus Specification 3.0, section 3.2.2.3.2)."""
_COMMAND = 0x04
_DWORDS = (0x0C, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x24, 0x30, 0x3C)
"""Header type 0: cache line, base addresses, expansion ROM, interrupt line."""


def save(monitor: Path, directory: Path, version: tuple[int, int, int]) -> None:
    """Stop the machine and write its memory and PCI configuration below ``directory``. Raises LabError."""
    with Qmp(monitor, timeout=_MOVE_SECONDS) as qmp:
        qmp.execute("stop")
        (directory / CONFIGURATION).write_text(json.dumps(_read_configuration(qmp), indent=1))
        memory = directory / MEMORY
        memory.touch(mode=0o600)
        _prepare(qmp, version)
        qmp.execute("migrate", uri=_target(memory, version, reading=False))
        qmp.wait_migration(deadline=_MOVE_SECONDS)
        qmp.execute("quit")


def load(monitor: Path, directory: Path, version: tuple[int, int, int]) -> None:
    """Give a machine started with ``-incoming defer`` its saved state, and let it run. Raises LabError."""
    with Qmp(monitor, timeout=_MOVE_SECONDS) as qmp:
        _prepare(qmp, version)
        qmp.execute("migrate-incoming", uri=_target(directory / MEMORY, version, reading=True))
        qmp.wait_migration(deadline=_MOVE_SECONDS)
        _restore_configuration(qmp, strict_json((directory / CONFIGURATION).read_text()))
        qmp.execute("cont")


def plug_nvme(monitor: Path, numbers: tuple[int, ...], files: dict[int, Path]) -> None:
    """Plug NVMe controllers into their root ports, each with its file as disk. Raises LabError."""
    if not numbers:
        return
    with Qmp(monitor) as qmp:
        for number in numbers:
            node = f"nvme{number}"
            qmp.execute("blockdev-add", driver="raw", **_file_node(node, files[number]))
            qmp.execute(
                "device_add",
                driver="nvme",
                id=f"dev{number}",
                bus=f"rp{number}",
                drive=node,
                serial=f"SHAKEDOWN{number:04d}",
            )


def _file_node(node: str, file: Path) -> dict[str, Any]:
    return {"node-name": node, "file": {"driver": "file", "filename": str(file)}}


def _prepare(qmp: Qmp, version: tuple[int, int, int]) -> None:
    qmp.execute("migrate-set-parameters", **{"max-bandwidth": 8 << 30})
    if version >= _MAPPED_RAM:
        wanted = [{"capability": "mapped-ram", "state": True}]
        qmp.execute("migrate-set-capabilities", capabilities=wanted)


def _target(memory: Path, version: tuple[int, int, int], *, reading: bool) -> str:
    if version >= _MAPPED_RAM:
        return f"file:{memory}"
    # QEMU 7.2 has no ``file:``; it runs this line itself, with the shell of its own choosing.
    return f"exec:cat {'<' if reading else '>'} {shlex.quote(str(memory))}"


def _functions(buses: list[dict[str, Any]]) -> Iterator[tuple[int, int, int]]:
    """Bus, device and function of every endpoint below ``query-pci``'s answer."""
    for bus in buses:
        for device in bus.get("devices", ()):
            bridge = device.get("pci_bridge")
            if bridge is None:
                yield device["bus"], device["slot"], device["function"]
            else:
                yield from _functions([bridge])


def _read_configuration(qmp: Qmp) -> dict[str, dict[str, int]]:
    """``bus:device.function`` to register to value."""
    with _address_port_kept(qmp):
        found = {}
        for bus, device, function in _functions(qmp.execute("query-pci")):
            base = _configuration_address(bus, device, function)
            values = {str(register): _read(qmp, base, register) for register in (_COMMAND, *_DWORDS)}
            found[f"{bus:02x}:{device:02x}.{function}"] = values
        return found


def _restore_configuration(qmp: Qmp, recorded: dict[str, dict[str, int]]) -> None:
    """Write back what differs; the command register last, so that no half-set address is ever decoded."""
    with _address_port_kept(qmp):
        for name, values in recorded.items():
            bus, _, rest = name.partition(":")
            device, _, function = rest.partition(".")
            base = _configuration_address(int(bus, 16), int(device, 16), int(function))
            for register in (*_DWORDS, _COMMAND):
                wanted = values[str(register)]
                if _read(qmp, base, register) != wanted:
                    _write(qmp, base, register, wanted)
                    got = _read(qmp, base, register)
                    if got != wanted:
                        raise LabError(
                            f"PCI function {name} register 0x{register:02x} is 0x{got:x}, not 0x{wanted:x}"
                        )


def _configuration_address(bus: int, device: int, function: int) -> int:
    return 0x80000000 | bus << 16 | device << 11 | function << 8


@contextlib.contextmanager
def _address_port_kept(qmp: Qmp) -> Iterator[None]:
    """The stopped kernel may be between writing the address port and using the data port."""
    kept = qmp.port_in(_ADDRESS_PORT, "w")
    yield
    qmp.port_out(_ADDRESS_PORT, kept, "w")


def _read(qmp: Qmp, base: int, register: int) -> int:
    """A register; of the command register only its 16 bits, since status bits are cleared by writing."""
    qmp.port_out(_ADDRESS_PORT, base | register, "w")
    return qmp.port_in(_DATA_PORT, "h" if register == _COMMAND else "w")


def _write(qmp: Qmp, base: int, register: int, value: int) -> None:
    qmp.port_out(_ADDRESS_PORT, base | register, "w")
    qmp.port_out(_DATA_PORT, value, "h" if register == _COMMAND else "w")


def wait_for_devices(expected: int, count: Callable[[], int], *, deadline: float) -> None:
    """Wait until ``count()`` reports ``expected`` plugged devices. Raises LabError."""
    if wait_for(lambda: count() >= expected or None, seconds=deadline, every=0.2) is None:
        raise LabError(f"the lab host found {count()} of {expected} NVMe controllers that were plugged in")
