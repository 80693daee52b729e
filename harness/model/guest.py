"""GuestRequest: what a guest should be given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.model.bounds import MOST_GPUS, MOST_MIB, bounded
from harness.model.pci import PciAddress

_STRICT: dict[str, Any] = {"extra": "forbid"}
"""A misspelt key in a host file is an error, not a silent default."""


DEFAULT_ATTACH = "vfio"
"""Attach mode of a profile that names none, and of ``shakedown plan``: one of ``harness.attach``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSelector:
    """How a host file names its GPUs beyond the PCI classes: by address or by ``vendor:device``."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    addresses: tuple[PciAddress, ...] = ()
    ids: tuple[str, ...] = ()
    exclude: tuple[PciAddress, ...] = ()
    """Functions that are never handed out (a management controller's, a console card)."""


@bounded(
    gpus=(0, MOST_GPUS),
    vcpus_per_gpu=(1, 1 << 16),
    memory_mib_per_gpu=(1, MOST_MIB),
    vcpus=(1, 1 << 16),
    memory_mib=(1, MOST_MIB),
)
@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRequest:
    """A guest wanted on a host."""

    name: str
    gpus: int
    vcpus_per_gpu: int | None = None
    """None: the GPU's full share of its node's cores; a smaller number asks for less. Whole cores are
    handed out, so it is rounded up to a multiple of the threads per core."""
    memory_mib_per_gpu: int | None = None
    """None: the GPU's full share of its node's memory."""
    vcpus: int | None = None
    """For a guest with no GPU."""
    memory_mib: int | None = None
    """For a guest with no GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDemand:
    """One guest that a run must try; for a bare run the machine itself."""

    request: GuestRequest
    workloads: tuple[str, ...]
    group: str
    """Guests of one group live at the same time; a guest alone is a group of its own."""


def most_at_once(guests: Iterable[tuple[str, int]]) -> int:
    """The largest number of GPUs that guests hold at the same time, from (group, GPUs) of each; 0 if none.

    A guest without a group is alone.
    """
    alone = 0
    together: Counter[str] = Counter()
    for group, gpus in guests:
        if group:
            together[group] += gpus
        else:
            alone = max(alone, gpus)
    return max(alone, *together.values(), 0)


@bounded(reserved_cores_per_node=(0, 1 << 16), reserved_memory_mib_per_node=(0, MOST_MIB))
@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """What placement must respect on one host (from the host file and profile)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    selector: GpuSelector = GpuSelector()
    reserved_cores_per_node: int = 1
    """Whole cores of each node kept for the host and for emulator threads."""
    reserved_memory_mib_per_node: int = 1024
    """Memory of each node kept for the host, when guests are not backed by hugepages."""
    use_hugepages: bool = True
    """Back guests with hugepages where the host has them."""
