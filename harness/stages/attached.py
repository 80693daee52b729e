"""A group of guests, or the bare machine, as a session sees it: whatever the attach mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from harness.ports import Transport


class Attached(Protocol):
    """Guests that live at the same time, from provisioning to release. Each step is recorded; what breaks is
    recorded too and ends what builds on it, and nothing else: no step raises for it.
    """

    def provision(self) -> None:
        """Bring the guests up, all of them, and see where they landed."""

    def broken(self, guest: str) -> bool:
        """Whether the guest is of no use: a step of it broke, or it is gone."""

    def connection(self, guest: str) -> Transport | None:
        """Into the guest; None where it was never reached."""

    def burn(self, workloads: Mapping[str, tuple[str, ...]]) -> None:
        """Run these loads in these guests, at the same time."""

    def release(self, *, orderly: bool = True) -> None:
        """Give everything back; safe to call twice. ``orderly``: first take what they can still tell."""
