"""What changes on a host are judged by: whose is what, and when it must not change."""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.model.pci import PciAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestWindow:
    """The time in which nothing of a guest may change, in seconds since the host's boot."""

    guest: str
    domain: str
    devices: tuple[PciAddress, ...]
    start: float
    """The first look at it after its boot."""
    end: float | None = None
    """The last look, after its loads; None when there was none: until it was last seen."""

    @property
    def until(self) -> float:
        """Its end, without bound where nobody knows it."""
        return math.inf if self.end is None else self.end


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What is known of the host beside what the follower read."""

    windows: tuple[GuestWindow, ...] = ()
    domains: frozenset[str] = frozenset()
    """Names of all domains that this run started."""
    gpus: frozenset[PciAddress] = frozenset()
    known: frozenset[str] = frozenset()
    """Domains of others that were there before: names, and process ids as text. Readiness judges them."""
    bare: bool = False
    sharing: bool = False
    """Whether the host file allows other domains beside ours."""
