"""Guests that are already on the host, from libvirt's list and from QEMU's command lines."""

from __future__ import annotations

import contextlib
import itertools
import re

from harness.facts.frames import Frames
from harness.model.pci import PciAddress
from harness.model.topology import DeviceHolder, Domain

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LISTED = re.compile(rf"({_UUID}) +(.+)")
_COMMAND_LINE = re.compile(r"(\d{1,9})/cmdline")
_VFIO_HOST = re.compile(r"[\"']?host[\"']?[=:] ?[\"']?((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_HOLDER = re.compile(r"/proc/(\d{1,9})/fd/\d{1,9} (/dev/\S.*)")


def read_domains(frames: Frames) -> tuple[Domain, ...] | None:
    """Running guests and defined ones; None when neither libvirt nor ``/proc`` answered."""
    listed = _listed(frames)
    processes = _processes(frames) if "/proc/1" in frames.present else None
    if listed is None and processes is None:
        return None
    running = {domain.uuid: domain for domain in processes or () if domain.uuid}
    domains = list(processes or ())
    for uuid, name in (listed or {}).items():
        if uuid not in running:
            state = None if processes is None else False
            domains.append(Domain(name=name, uuid=uuid, pid=None, running=state))
    return tuple(sorted(domains, key=lambda domain: (domain.name, domain.uuid or "", domain.pid or 0)))


def read_holders(frames: Frames) -> tuple[DeviceHolder, ...] | None:
    """Processes that hold GPU or VFIO device files; None when the host could not search for them."""
    output = frames.commands.get("holders")
    # `find` ends with 1 when a process went away during the search; without `find` it is 127.
    if output is None or output.status > 1:
        return None
    found = {(int(match[1]), match[2]) for match in map(_HOLDER.fullmatch, output.text.splitlines()) if match}
    return tuple(DeviceHolder(pid=pid, path=path) for pid, path in sorted(found))


def _listed(frames: Frames) -> dict[str, str] | None:
    """UUID to name of all domains that libvirt knows; None when it was not there or did not answer."""
    output = frames.commands.get("virsh")
    if output is None:
        return None
    if output.status != 0:
        frames.warnings.append(f"libvirt did not list its domains (virsh ended with status {output.status})")
        return None
    found = {}
    for line in output.text.splitlines():
        match = _LISTED.fullmatch(line.strip())
        if match:
            found[match[1]] = match[2]
        elif line.strip():
            frames.warnings.append(f"virsh list: unreadable line {line[:80]!r}")
    return found


def _processes(frames: Frames) -> list[Domain]:
    found = frames.matching("/proc", _COMMAND_LINE)
    guests = [(int(match[1]), text.split("\n")) for match, text in found]
    return [_domain(pid, arguments) for pid, arguments in guests if not _is_probe(arguments)]


def _is_probe(arguments: list[str]) -> bool:
    """QEMU asked for its version (by our own script, even) or started without a machine: not a guest.

    libvirt starts it with ``-machine none`` for a moment to learn what it can do.
    """
    return arguments[1:] in (["--version"], ["-version"]) or any(
        key in ("-machine", "-M") and value.split(",")[0] == "none"
        for key, value in itertools.pairwise(arguments)
    )


def _domain(pid: int, arguments: list[str]) -> Domain:
    pairs = list(itertools.pairwise(arguments))
    options = {key: value for key, value in pairs if key in ("-name", "-uuid")}
    uuid = options.get("-uuid", "").lower()
    hosts = []
    for key, value in pairs:
        match = _VFIO_HOST.search(value) if key == "-device" and "vfio-pci" in value else None
        if match:
            with contextlib.suppress(ValueError):  # of the form of an address, and none that can be
                hosts.append(PciAddress.parse(match[1]))
    return Domain(
        name=options.get("-name", f"process {pid}").split(",")[0].removeprefix("guest="),
        uuid=uuid if re.fullmatch(_UUID, uuid) else None,
        pid=pid,
        hostdevs=tuple(hosts),
        running=True,
    )
