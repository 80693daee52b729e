"""What a GPU model should do (``inventory/skus/*.yaml``): each number with its source, or marked unknown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a model. ``value`` None means unknown: nobody may fill it in from memory."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    value: float | None
    unit: str
    source: str
    """Where it was read; ``unknown`` beside a value of None."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Least acceptable share of a figure for one measurement, with the reason for the share."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    of: str
    """Name of the figure; the measurement has the figure's unit."""
    share: float
    """0.4 to 1.0; anything else is refused by the lint: below, a broken card passes."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sku:
    """One GPU model."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    """File name without suffix: ``h200-sxm``."""
    title: str
    pci_ids: tuple[str, ...]
    """``vendor:device``; with a subsystem where several models share one id: ``10de:2230:10de:1454``."""
    family: str
    """Siblings of one family use the same units."""
    figures: dict[str, Figure]
    """``memory_bytes``, ``memory_bandwidth``, ``fp32``, ``bf16``, ``pcie_gen``, ``pcie_width`` ..."""
    floors: dict[str, Floor] = field(default_factory=dict)
    """Measurement name to its floor."""
    engines: dict[str, int | None] = field(default_factory=dict)
    """Number of engines, as its vendor's names call them; 0: the model has none; None: unknown."""
    precisions: tuple[str, ...] = ()
    """Of matrix products: ``fp64``, ``fp32``, ``tf32``, ``fp16``, ``bf16``, ``fp8``."""
    codecs: tuple[str, ...] = ()
    """What its engines encode: ``h264``, ``hevc``, ``hevc10``, ``av1``."""
    sources: dict[str, str] = field(default_factory=dict)
    """Where ``pci_ids``, ``engines``, ``precisions`` and ``codecs`` were read."""


def describing(skus: Iterable[Sku], device: str, subsystem: str | None) -> tuple[Sku, ...]:
    """The models that a device may be, by its ``vendor:device`` and subsystem; a healthy inventory gives one.

    An id with subsystem is more exact than one without, and hides it: so a model may take the rest of an id
    whose other subsystems belong to its siblings.
    """
    known = tuple(skus)
    if subsystem:
        exact = f"{device}:{subsystem}".lower()
        found = tuple(sku for sku in known if exact in sku.pci_ids)
        if found:
            return found
    return tuple(sku for sku in known if device.lower() in sku.pci_ids)
