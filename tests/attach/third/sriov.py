"""Attach mode ``sriov``: virtual functions of GPUs, handed to guests through VFIO."""

from __future__ import annotations

from harness.attach.vfio import elements
from harness.model.attachment import Attachment, HandOver, Observable
from harness.model.guest import GpuSelector
from harness.model.placement import Reason
from harness.model.topology import HostFacts, PciDevice
from harness.placement.gpus import companions, select_gpus
from harness.placement.reasons import Code, reason
from harness.placement.virtual import virtual_functions


def select(facts: HostFacts, selector: GpuSelector) -> tuple[PciDevice, ...]:
    """The virtual functions of the GPUs that the selector names; GPUs without any give nothing."""
    parts = (part for card in select_gpus(facts, selector) for part in virtual_functions(facts, card.address))
    return tuple(part for part in parts if part.address not in selector.exclude)


def refusals(facts: HostFacts, device: PciDevice) -> tuple[Reason, ...]:
    """Why a virtual function cannot be handed over: its card is itself given to a guest, or is gone."""
    card = facts.device(device.physfn) if device.physfn is not None else None
    if card is None or card.vanished or card.driver == "vfio-pci":
        message = f"the card {device.physfn} of {device.address} does not serve it"
        return (reason(Code.CONFIG_UNREADABLE, message),)
    return ()


ATTACHMENT = Attachment(
    name="sriov",
    title="virtual functions handed to guests",
    default_profile="sriov",
    shows=frozenset({Observable.GUEST, Observable.FUNCTION}),
    select=select,
    companions=companions,
    hand_over=HandOver(refusals=refusals, elements=elements),
)
