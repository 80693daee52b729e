"""What changed on a candidate host, or of a guest on it, while loads ran: one value a change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Weight(StrEnum):
    """How bad a change is. Ruled when the change is read, and recorded: a run that is judged again gives the
    same answer."""

    HARMFUL = "harmful"
    """The host is not as a tenant may expect it: a failure."""
    DOUBTFUL = "doubtful"
    """What ran meanwhile proves nothing: an error, and no word about the hardware."""
    TOLD = "told"
    """Nothing was lost by it. It is told, since it may explain what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostChange:
    """One change: what, of whom, before, after, and when."""

    what: str
    """Name of the watched property (``harness.telemetry.host.table``)."""
    subject: str
    """Thread, domain, device, node or process that it is about, in words."""
    guest: str = ""
    """The guest whose loads ran; empty for one of the host itself."""
    before: str
    after: str
    since: float | None = None
    """When it was last seen as before, in seconds since the host's boot; None when it was never."""
    at: float | None
    """When it was first seen changed; None for what the controller saw by its own clock."""
    until: float | None = None
    """When it was seen as before again; None when it was not."""
    source: str
    """File of the host, or the program that said it."""
    weight: Weight
    why: str = ""
    """The reason of its weight."""
