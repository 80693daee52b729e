"""Attach mode ``bare``: the loads run on the machine itself, without a VM. The reference for guests."""

from __future__ import annotations

from harness.model.attachment import Attachment, Observable
from harness.placement.gpus import companions, select_gpus

ATTACHMENT = Attachment(
    name="bare",
    title="bare metal",
    default_profile="bare",
    shows=frozenset({Observable.FUNCTION, Observable.CARD}),
    select=select_gpus,
    companions=companions,
    hand_over=None,
)
