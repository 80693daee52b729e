"""GpuRef: which card it is, the same in every record, however the machine that tells of it calls the card."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from harness.model.pci import PciAddress
from harness.model.topology import HostFacts

_ADDRESS = re.compile(r"(?<![\w:])[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7](?!\w)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRef:
    """One device that loads work on. Made when it is handed over, and carried by all that is said of it."""

    host: PciAddress
    """On the candidate host: the key by which measurements, answers, events and checks name it."""
    guest: PciAddress | None = None
    """Where the loads' machine sees it; ``host`` on a bare machine; None: it was not seen there."""
    slot: str | None = None
    """Physical slot, as the chassis or the firmware labels it; None: the host does not say."""
    serial: str | None = None
    """Serial number: from PCI configuration space or the driver's library; None: neither says."""
    uuid: str | None = None
    """The driver's; None until its library was asked, and where it has none."""

    @property
    def known(self) -> str:
        """What the chassis and the card itself say: ``slot 3, serial 1650``; or empty."""
        parts = (self.slot and slot_name(self.slot), self.serial and f"serial {self.serial}")
        return ", ".join(part for part in parts if part)

    @property
    def name(self) -> str:
        """What a person needs to pull it: ``0000:17:00.0 (slot 3, serial 1650)``, as far as known."""
        return f"{self.host} ({self.known})" if self.known else str(self.host)


def slot_name(label: str) -> str:
    """A slot's label as a word: ``slot 3``, and ``PCIe-5`` as it is."""
    return label if not label[:1].isdecimal() else f"slot {label}"


def ref_of(facts: HostFacts | None, host: PciAddress, guest: PciAddress | None = None) -> GpuRef:
    """The card at ``host``, with slot and serial number as the host's facts say them."""
    device = facts.device(host) if facts is not None else None
    if device is None:
        return GpuRef(host=host, guest=guest)
    return GpuRef(host=host, guest=guest, slot=device.slot_label, serial=device.serial)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The devices of one guest or bare machine: the one place that joins the two sides."""

    refs: tuple[GpuRef, ...] = ()
    """The devices that loads work on, in the order of the plan."""
    companions: tuple[GpuRef, ...] = ()
    """Functions that only travel with them."""
    same: bool = False
    """The loads' machine is the candidate host: every address is the host's own."""

    def of(self, host: PciAddress) -> GpuRef | None:
        """The device that loads work on and that is ``host`` on the candidate host, or None."""
        return next((ref for ref in self.refs if ref.host == host), None)

    def seen_at(self, address: PciAddress | None) -> GpuRef | None:
        """The device that the loads' machine has at ``address``; None for one that was not handed over."""
        found = next(
            (r for r in (*self.refs, *self.companions) if address is not None and r.guest == address), None
        )
        if found is None and self.same and address is not None:
            return GpuRef(host=address, guest=address)
        return found

    def on_host(self, text: str) -> str:
        """The text with each address of these devices as the host has it. Others stay, marked as the guest's:
        ``0000:02:00.0 (in the guest)``."""
        if self.same:
            return text

        def put(match: re.Match[str]) -> str:
            found = self.seen_at(PciAddress.parse(match[0]))
            return f"{match[0]} (in the guest)" if found is None else str(found.host)

        return _ADDRESS.sub(put, text)


def with_told(cards: Cards, told: Iterable[GpuRef]) -> Cards:
    """The devices with the UUID and serial number that the driver's library told of them later.

    What is known already stays: a card that changes its identity is a finding, not a new identity.
    """
    said = {ref.host: ref for ref in told}
    refs = tuple(
        replace(ref, uuid=ref.uuid or said[ref.host].uuid, serial=ref.serial or said[ref.host].serial)
        if ref.host in said
        else ref
        for ref in cards.refs
    )
    return replace(cards, refs=refs)


def named_in(cards: Iterable[GpuRef], texts: Iterable[str]) -> tuple[GpuRef, ...]:
    """Those of the cards whose addresses stand in the texts and of which more is known, in their order."""
    found = {match[0].lower() for text in texts for match in _ADDRESS.finditer(text)}
    return tuple(card for card in cards if str(card.host) in found and card.known)
