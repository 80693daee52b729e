"""Attach modes: how loads get at the GPUs. One module a mode, and its line in ``ATTACHMENTS``."""

from __future__ import annotations

from harness.attach import bare, vfio
from harness.errors import ConfigError
from harness.model.attachment import Attachment

ATTACHMENTS: tuple[Attachment, ...] = (vfio.ATTACHMENT, bare.ATTACHMENT)
ATTACHMENT_NAMES = tuple(each.name for each in ATTACHMENTS)


def attachment(name: str) -> Attachment:
    """The attach mode of that name. Raises ConfigError for one that this version does not have."""
    for each in ATTACHMENTS:
        if each.name == name:
            return each
    raise ConfigError(f"unknown attach mode {name[:40]!r}", remedy=f"known: {', '.join(ATTACHMENT_NAMES)}")
