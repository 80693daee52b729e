"""Attachment: what an attach mode says of itself. The modes are the modules of ``harness.attach``.

A mode is data and pure functions. Everything else asks one for what it needs to know and never for its name,
so that a new mode is one module and one line of the registry.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from harness.model.guest import GpuSelector
from harness.model.placement import PlannedGpu, Reason
from harness.model.topology import HostFacts, PciDevice


class Observable(StrEnum):
    """What a run of a mode can observe. A check names what it needs (``Check.needs``)."""

    GUEST = "guest"
    """Guests that the run starts and ends: where they land, how they end, and what is given back."""
    FUNCTION = "function"
    """A PCI function of the host for each device: driver, configuration space, windows, IOMMU group."""
    CARD = "card"
    """The whole card: its link, the errors on its bus, its SR-IOV state, its library's readings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """How a device goes from the host into a guest."""

    refusals: Callable[[HostFacts, PciDevice], tuple[Reason, ...]]
    """Every reason why this device itself cannot be handed over now. What its IOMMU group, its neighbours and
    running domains forbid holds for all modes and is asked by the planner."""
    elements: Callable[[PlannedGpu], tuple[ET.Element, ...]]
    """What stands below ``<devices>`` of the domain for one device of a plan, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One attach mode."""

    name: str
    """As profiles name it (``attach: vfio``)."""
    title: str
    """What it means, for ``--help``: a few words."""
    default_profile: str
    """The shipped profile of a run that names the mode and no profile."""
    shows: frozenset[Observable]
    select: Callable[[HostFacts, GpuSelector], tuple[PciDevice, ...]]
    """The devices that a run is about, in order of address. Broken ones are included."""
    companions: Callable[[HostFacts, PciDevice], tuple[PciDevice, ...]]
    """Other functions that are claimed and handed over with a device, in order of address."""
    hand_over: HandOver | None
    """None: there are no guests, and the loads run on the machine itself."""

    def observes(self, needs: Iterable[Observable]) -> bool:
        """Whether a run of the mode can observe all of these."""
        return self.shows.issuperset(needs)

    @property
    def in_guests(self) -> bool:
        """Whether the loads run in guests that the run starts; False: on the machine itself."""
        return self.hand_over is not None
