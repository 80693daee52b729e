"""HostState: what a guest borrows from a host, asked in one round trip before it starts and after it ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import ParseError, ProvisionError, ReleaseError
from harness.model.pci import PciAddress
from harness.ports import Transport
from harness.reading import reader
from harness.scripts.protocol import Answer
from harness.scripts.script import Script, ask
from harness.serial import whole
from harness.stages.host.leases import CLAIM_ROOTS

SCRIPT = Script(
    name="host-state",
    package="harness.stages.host",
    file="release.sh",
    needs="a POSIX sh with od, tr, sed, cut, head, grep and find",
)

T = TypeVar("T")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """One function as the host sees it."""

    present: bool
    driver: str | None
    config_ok: bool | None
    """False when configuration space reads all ones or has header type 7f; None when unreadable."""
    reset_methods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """Devices, hugepages, and all that carries one run's key."""

    devices: dict[PciAddress, DeviceState]
    split: tuple[PciAddress, ...]
    """Those of the asked functions that have virtual functions now."""
    hugepages: dict[str, int]
    """``node/page bytes`` to free pages."""
    processes: dict[int, str]
    """Process id to the beginning of the command line, for every QEMU process on the host."""
    domains: tuple[str, ...]
    """Running domains of the run, as libvirt's state directory has them."""
    networks: tuple[str, ...]
    files: tuple[str, ...]
    """Everything below the run's directory on the host."""
    claims: tuple[str, ...]


def run_directory(work_dir: str, run: str) -> str:
    """Where everything that ``run`` writes on a host lies. Raises ReleaseError for a key or directory that
    would lead elsewhere."""
    if not _RUN.fullmatch(run) or not work_dir.startswith("/") or ".." in work_dir.split("/"):
        raise ReleaseError(f"not the directory of a run: {run!r} below {work_dir!r}")
    return f"{work_dir.rstrip('/')}/runs/{run}"


def snapshot_host_state(
    transport: Transport,
    devices: tuple[PciAddress, ...],
    *,
    run: str,
    work_dir: str,
    roots: tuple[str, ...] = CLAIM_ROOTS,
) -> HostState:
    """The host now. Raises TransportError, or ParseError when the answer is incomplete."""
    arguments = (run, run_directory(work_dir, run), *roots, "--", *(str(d) for d in devices))
    answer, _ = ask(transport, SCRIPT, *arguments)
    try:
        return read_host_state(answer, devices)
    except ParseError as error:
        error.host = transport.name
        raise


def refuse_split(host: str, state: HostState) -> None:
    """Raises ProvisionError for a function that is to be handed over whole and has virtual functions by now:
    libvirt would take it all the same, and the kernel would pull them out of the guests that use them."""
    if state.split:
        names = ", ".join(map(str, state.split))
        raise ProvisionError(
            f"{names} got virtual functions since the host was discovered",
            host=host,
            remedy=f"see who uses them (ls -l /sys/bus/pci/devices/{state.split[0]}/virtfn*), then echo 0 > "
            f"/sys/bus/pci/devices/{state.split[0]}/sriov_numvfs",
        )


@reader("the host's state")
def read_host_state(answer: Answer, devices: tuple[PciAddress, ...]) -> HostState:
    """The answer of ``release.sh`` as a value. Raises ParseError when a row or an asked device is missing."""
    found = dict(_read(answer, "devices", _device))
    if missing := [str(d) for d in devices if d not in found]:
        raise ParseError(f"host state: no answer about {', '.join(missing)}")
    return HostState(
        devices=found,
        split=tuple(_read(answer, "split", PciAddress.parse)),
        hugepages=dict(_read(answer, "hugepages", _pool)),
        processes=dict(_read(answer, "processes", _process)),
        domains=tuple(answer.lines("qemu")),
        networks=tuple(answer.lines("network")),
        files=tuple(answer.lines("files")),
        claims=tuple(answer.lines("claims")),
    )


def _read(answer: Answer, title: str, read: Callable[..., T]) -> Iterator[T]:
    for row in answer.rows(title):
        try:
            yield read(*row)
        except (ValueError, TypeError) as error:  # TypeError: another number of values than it takes
            raise ParseError(f"host state: {title}: not a row: {row!r}") from error


def _pool(node: str, kib: str, free: str) -> tuple[str, int]:
    return f"{whole(node)}/{whole(kib) * 1024}", whole(free)


def _process(pid: str, command: str) -> tuple[int, str]:
    return whole(pid), command.strip()


def _device(
    address: str, present: str, driver: str, methods: str, config: str
) -> tuple[PciAddress, DeviceState]:
    return PciAddress.parse(address), _device_state(present, driver, methods, config)


def _device_state(present: str, driver: str, methods: str, config: str) -> DeviceState:
    if present != "1":
        return DeviceState(present=False, driver=None, config_ok=None, reset_methods=())
    data = bytes.fromhex(config)
    ok = None
    if len(data) >= 15:
        # All ones is what a device that fell off the bus reads as; 7f is then its header type.
        ok = data[:4] != b"\xff\xff\xff\xff" and data[14] & 0x7F != 0x7F
    return DeviceState(
        present=True, driver=driver or None, config_ok=ok, reset_methods=tuple(methods.split())
    )
