"""The functions that loads work on, as the loads' machine sees them: never by enumeration order."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import ParseError
from harness.model.pci import PciAddress
from harness.model.placement import ObservedPlacement, PlacementPlan
from harness.model.topology import HostFacts
from harness.workloads.base import GuestDevice


def guest_devices(plan: PlacementPlan, observed: ObservedPlacement | None) -> tuple[GuestDevice, ...]:
    """The handed-over functions by the identity map that observation made; none where the placement could
    not be read, since then nobody knows which device is which.

    Raises ParseError when one of them was not found in the guest.
    """
    if observed is None:
        return ()
    gpus = {gpu.host for gpu in plan.gpus}
    devices = []
    for seen in observed.gpus:
        if seen.guest is None or seen.guest_vendor_device is None:
            raise ParseError(
                f"{seen.host} was not found in the guest: its workloads cannot be aimed at it",
                remedy="see placement.devices in the report",
            )
        vendor, _, device = seen.guest_vendor_device.partition(":")
        devices.append(
            GuestDevice(
                address=seen.guest,
                vendor=vendor,
                device=device,
                host=seen.host,
                companion=seen.host not in gpus,
            )
        )
    return tuple(devices)


def bare_devices(facts: HostFacts, addresses: Iterable[PciAddress]) -> tuple[GuestDevice, ...]:
    """GPUs of a bare machine: both sides are one. Addresses that the facts do not show are left out."""
    found = (facts.device(address) for address in addresses)
    return tuple(
        GuestDevice(address=d.address, vendor=d.vendor, device=d.device, host=d.address)
        for d in found
        if d is not None
    )
