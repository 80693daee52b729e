"""The functions that loads work on, as the loads' machine sees them: never by enumeration order."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import ParseError
from harness.model.gpu import Cards, ref_of
from harness.model.pci import PciAddress
from harness.model.placement import ObservedPlacement, PlacementPlan
from harness.model.topology import HostFacts
from harness.workloads.base import GuestDevice


def guest_cards(facts: HostFacts, plan: PlacementPlan, observed: ObservedPlacement) -> Cards:
    """The handed-over functions by both sides' addresses: the identity that records carry from here on."""
    seen = {device.host: device.guest for device in observed.gpus}
    others = (address for gpu in plan.gpus for address in gpu.companions)
    return Cards(
        refs=tuple(ref_of(facts, gpu.host, seen.get(gpu.host)) for gpu in plan.gpus),
        companions=tuple(ref_of(facts, address, seen.get(address)) for address in others),
    )


def machine_cards(facts: HostFacts, addresses: Iterable[PciAddress]) -> Cards:
    """The GPUs of a machine on which the loads run themselves: both sides are one."""
    return Cards(refs=tuple(ref_of(facts, address, address) for address in addresses), same=True)


def guest_devices(cards: Cards, observed: ObservedPlacement | None) -> tuple[GuestDevice, ...]:
    """The devices of a guest as its loads address them; none where the placement could not be read, since
    then nobody knows which device is which.

    Raises ParseError when one of them was not found in the guest.
    """
    if observed is None:
        return ()
    ids = {device.host: device.guest_vendor_device for device in observed.gpus}
    devices = []
    for ref in (*cards.refs, *cards.companions):
        known = ids.get(ref.host)
        if ref.guest is None or known is None:
            raise ParseError(
                f"{ref.host} was not found in the guest: no workload can use it",
                remedy="see placement.devices in the report",
            )
        vendor, _, device = known.partition(":")
        devices.append(
            GuestDevice(
                address=ref.guest,
                vendor=vendor,
                device=device,
                host=ref.host,
                companion=ref in cards.companions,
            )
        )
    return tuple(devices)


def machine_devices(facts: HostFacts, cards: Cards) -> tuple[GuestDevice, ...]:
    """The GPUs of a machine as the loads on it address them, without those that the facts do not show."""
    found = (facts.device(ref.host) for ref in cards.refs)
    return tuple(
        GuestDevice(address=d.address, vendor=d.vendor, device=d.device, host=d.address)
        for d in found
        if d is not None
    )
