"""Codes that GPU drivers write into a kernel log, and what each means (``inventory/kernel``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from harness.model.outcome import Action
from harness.model.telemetry import Ruling

_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCode:
    """One code of a driver's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    code: int
    meaning: str
    ruling: Ruling
    action: Action
    sources: dict[str, str]
    """Who says what of it, in their words; names are those of the file's ``references``."""
    reason: str = ""
    """Why the ruling is ours, where the sources disagree or say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCodeFile:
    """``inventory/kernel/NAME.yaml``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    description: str
    references: dict[str, str]
    """Source name to where it can be read."""
    codes: tuple[KernelCode, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCodes:
    """All tables by code. A code that is missing is not harmless: it is unknown."""

    tables: dict[str, dict[int, KernelCode]] = field(default_factory=dict)
    """By the family of the kernel events that they rule."""

    def of(self, family: str) -> dict[int, KernelCode]:
        """The table of a family; empty for one without codes."""
        return self.tables.get(family, {})
