"""What the bytes of PCI configuration space and vital product data say (PCI Local Bus 3.0, PCIe Base 5.0)."""

from __future__ import annotations

import string

_EXTENDED = 0x100
_DEVICE_SERIAL_NUMBER = 0x0003


def config_reads(config: bytes | None, *, virtual: bool) -> bool | None:
    """False when the vendor reads all ones, as it does from a device that fell off the bus.

    None without the bytes. SR-IOV virtual functions always read all ones there (SR-IOV 1.1, 3.4.1.1), so
    for them (``virtual``) that says nothing.
    """
    if config is None or len(config) < 16:
        return None
    if config[:4] == b"\xff\xff\xff\xff":
        return None if virtual else False
    return True


def header_type(config: bytes | None) -> int | None:
    """Header layout 0 (endpoint), 1 (bridge) or 2 (CardBus); 0x7f from a lost device; None without bytes."""
    return config[0x0E] & 0x7F if config is not None and len(config) > 0x0E else None


def device_serial(config: bytes | None) -> str | None:
    """The Device Serial Number capability as ``00-11-22-33-44-55-66-77``, most significant byte first."""
    if config is None:
        return None
    offset, seen = _EXTENDED, set[int]()
    while offset >= _EXTENDED and offset not in seen and offset + 12 <= len(config):
        seen.add(offset)
        head = int.from_bytes(config[offset : offset + 4], "little")
        if head & 0xFFFF == _DEVICE_SERIAL_NUMBER:
            value = config[offset + 4 : offset + 12]
            return value[::-1].hex("-") if any(value) and value != b"\xff" * 8 else None
        offset = head >> 20 & 0xFFC
    return None


def vpd_serial(vpd: bytes | None) -> str | None:
    """The ``SN`` keyword of the read-only area; None when absent or damaged."""
    offset = 0
    while vpd is not None and offset + 3 <= len(vpd):
        tag = vpd[offset]
        if not tag & 0x80:  # small resource: the length is in the tag; 0x78 ends the data
            if tag == 0x78:
                return None
            offset += 1 + (tag & 0x07)
            continue
        size = int.from_bytes(vpd[offset + 1 : offset + 3], "little")
        body = vpd[offset + 3 : offset + 3 + size]
        if tag == 0x90:
            return _keyword(body, b"SN")
        offset += 3 + size
    return None


def _keyword(area: bytes, key: bytes) -> str | None:
    offset = 0
    while offset + 3 <= len(area):
        size = area[offset + 2]
        if area[offset : offset + 2] == key:
            text = area[offset + 3 : offset + 3 + size].decode("ascii", "replace").strip(" \0")
            return text if text and all(letter in string.printable for letter in text) else None
        offset += 3 + size
    return None
