"""GPUs that are in use on the host, and whose driver would wait for their users: no guest is tried with them.

Libvirt takes a GPU from its driver by unbinding it. Some drivers (``waiting`` in a vendor's names) then
wait, in the kernel and without end, for the last user to let go (kubevirt#8549), and may go on waiting when
that user is gone: neither libvirt nor the host come back from it without a reboot. That a driver holds a
GPU at all is what ``gpu.driver_state`` judges.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import ParseError, ProvisionError
from harness.model.topology import PciDevice
from harness.model.vendor import VendorNames
from harness.ports import Transport
from harness.scripts.script import Script, ask
from harness.vendors.names import who_waits

SCRIPT = Script(
    name="gpus-in-use",
    package="harness.stages.host",
    file="gpus_in_use.sh",
    needs="a POSIX sh with find, sed, tr and id",
)


def asked_of(address: str, vendor: VendorNames) -> tuple[str, str, str]:
    """What the script is told of one GPU."""
    return address, vendor.minor_file.format(address=address), vendor.device_file


def refuse_held(transport: Transport, gpus: Iterable[PciDevice]) -> None:
    """Raises ProvisionError when a GPU cannot be taken from its driver, or nobody can tell.

    TransportError or ParseError when the host does not say.
    """
    held = {str(gpu.address): vendor for gpu in gpus if (vendor := who_waits(gpu.driver)) is not None}
    names = tuple(held)
    if not names:
        return
    stop = "; ".join(dict.fromkeys(vendor.stop_users for vendor in held.values()))
    answer, _ = ask(transport, SCRIPT, *(word for name in names for word in asked_of(name, held[name])))
    users: dict[str, None] = {}
    for row in answer.rows("held"):
        match row:
            case (address, node, pid, name) if address in names:
                users[f"{name or 'a process'} (pid {pid}) has {address} open as {node}"] = None
            case _:
                raise ParseError(f"gpus-in-use: not a row: {row!r}", host=transport.name)
    free = " ".join(f"driverctl set-override {name} vfio-pci;" for name in names)
    if users:
        raise ProvisionError(
            f"GPUs are in use on the host, and detaching them can hang it: {'; '.join(list(users)[:5])}",
            host=transport.name,
            remedy=f"stop the processes that use them ({stop}), then {free}",
        )
    if any(frame.title == "blind" for frame in answer.frames):
        raise ProvisionError(
            f"the driver holds {', '.join(names)}, and this user cannot see whether a process has them "
            "open: detaching a GPU in use can hang the host",
            host=transport.name,
            remedy=f"log in as root, or {free}",
        )
