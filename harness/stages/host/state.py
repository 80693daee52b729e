"""HostState: what a guest borrows from a host, asked in one round trip before it starts and after it ends."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import ParseError, ReleaseError
from harness.model.pci import PciAddress
from harness.ports import Transport
from harness.reading import reader
from harness.serial import whole
from harness.stages.host.claims import CLAIM_ROOTS
from harness.stages.host.script import ask

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
    rows = ask(transport, "release", arguments, label="host-state")
    try:
        return read_host_state(rows, devices)
    except ParseError as error:
        error.host = transport.name
        raise


@reader("the host's state")
def read_host_state(rows: tuple[tuple[str, ...], ...], devices: tuple[PciAddress, ...]) -> HostState:
    """The rows of ``release.sh`` as a value. Raises ParseError when a row or an asked device is missing."""
    found: dict[PciAddress, DeviceState] = {}
    pages: dict[str, int] = {}
    processes: dict[int, str] = {}
    named: dict[str, list[str]] = {"qemu": [], "network": [], "file": [], "claim": []}
    for row in rows:
        try:
            match row:
                case ("device", address, present, driver, methods, config):
                    found[PciAddress.parse(address)] = _device(present, driver, methods, config)
                case ("hugepages", node, kib, free):
                    pages[f"{whole(node)}/{whole(kib) * 1024}"] = whole(free)
                case ("process", pid, command):
                    processes[whole(pid)] = command.strip()
                case (("qemu" | "network" | "file" | "claim") as kind, *rest) if rest:
                    named[kind].append("\t".join(rest))
                case _:  # a file name with a newline in it continues here
                    named["file"].append("\t".join(row))
        except ValueError as error:
            raise ParseError(f"host state: {row!r}: {error}") from error
    if missing := [str(d) for d in devices if d not in found]:
        raise ParseError(f"host state: no answer about {', '.join(missing)}")
    return HostState(
        devices=found,
        hugepages=pages,
        processes=processes,
        domains=tuple(named["qemu"]),
        networks=tuple(named["network"]),
        files=tuple(named["file"]),
        claims=tuple(named["claim"]),
    )


def _device(present: str, driver: str, methods: str, config: str) -> DeviceState:
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
