"""PCI addresses as values, never bare strings (and never YAML numbers)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_ADDRESS = re.compile(r"(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2})\.([0-7])")


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """A PCI function: domain, bus, device, function. Orders numerically, prints as ``0000:17:00.0``.

    Domains are 16 bits in the PCI specification but Linux numbers VMD and Hyper-V domains from 0x10000
    up (``pci_domain_nr``), so up to 32 bits are accepted and printed with as many digits as they need.
    """

    domain: int
    bus: int
    device: int
    function: int

    def __post_init__(self) -> None:
        if not (
            0 <= self.domain < 1 << 32
            and 0 <= self.bus < 256
            and 0 <= self.device < 32
            and 0 <= self.function < 8
        ):
            raise ValueError(
                f"not a PCI address: domain {self.domain}, bus {self.bus}, "
                f"device {self.device}, function {self.function}"
            )

    @classmethod
    def parse(cls, text: str) -> PciAddress:
        """Read ``dddd:bb:dd.f`` (or ``bb:dd.f``, domain 0). Raises ValueError on anything else."""
        match = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"not a PCI address: {text!r} (expected dddd:bb:dd.f, quoted)")
        domain, bus, device, function = match.groups()
        return cls(int(domain or "0", 16), int(bus, 16), int(device, 16), int(function))

    def __str__(self) -> str:
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def slot(self) -> tuple[int, int, int]:
        """Domain, bus and device: equal for all functions of one card."""
        return (self.domain, self.bus, self.device)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        # pydantic's own hook: addresses travel through JSON and YAML as text. Imported here so that the
        # model itself needs nothing outside the standard library.
        from pydantic_core import core_schema  # noqa: PLC0415

        def read(value: Any) -> PciAddress:
            return value if isinstance(value, cls) else cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, str]:
        return {"type": "string", "pattern": "^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$"}
