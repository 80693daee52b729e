"""Guest RAM blocks: QEMU's claim beside the kernel's pages.

A block is found in ``numa_maps`` by its own name or by its address, never by its size: two cells are often
equally large.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.model.placement import ObservedMemory, PlacementPlan
from harness.placement.observe.host import HostReading, Mapping
from harness.placement.observe.qmp import Memdev

_SHARED_NAMES = ("/memfd:", "/dev/zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """All RAM blocks of a guest, and what could not be told."""

    memory: tuple[ObservedMemory, ...]
    problems: tuple[str, ...]


def observe_memory(plan: PlacementPlan, host: HostReading, memdevs: Sequence[Memdev]) -> Blocks:
    """Each of QEMU's memory backends with the pages that the kernel has for it."""
    cells = guest_cells(host.options)
    if not cells and len(memdevs) == 1 and len(plan.cells) == 1:
        cells = {memdevs[0].id: plan.cells[0].id}  # a guest without -numa has one block and one node
    memory, problems = [], []
    for memdev in sorted(memdevs, key=lambda block: block.id):  # QEMU lists them in no order
        found, problem = _mappings_of(memdev, host.mappings)
        if problem:
            problems.append(f"memory: {problem}")
        memory.append(_observed(memdev, cells.get(memdev.id), found))
    return Blocks(memory=tuple(memory), problems=tuple(problems))


def guest_cells(options: Sequence[str]) -> dict[str, int]:
    """Memory backend to guest cell, from ``-numa node,nodeid=N,memdev=ID`` of QEMU's command line."""
    found: dict[str, int] = {}
    for flag, value in itertools.pairwise(options):
        if flag != "-numa" or not value.startswith("node,"):
            continue
        words = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
        node, memdev = words.get("nodeid", ""), words.get("memdev")
        if memdev and re.fullmatch(r"\d{1,5}", node):
            found[memdev] = int(node)
    return found


def _mappings_of(memdev: Memdev, mappings: Sequence[Mapping]) -> tuple[tuple[Mapping, ...], str]:
    """The mappings that are this block, and why there are none."""
    named = tuple(m for m in mappings if m.file is not None and _is_named(m.file, memdev.id))
    if memdev.address is None:
        if named:
            return named, ""
        return (), (f"the mapping of RAM block {memdev.id} has no name, and QEMU did not report its address")
    end = memdev.address + memdev.size
    inside = tuple(m for m in mappings if memdev.address <= m.start < end)
    problem = _doubt(memdev, memdev.address, named, inside)
    return (() if problem else inside), problem


def _doubt(memdev: Memdev, address: int, named: Sequence[Mapping], inside: Sequence[Mapping]) -> str:
    """Why the mappings at a block's address may not be the block; empty when they are."""
    foreign = [m.file for m in inside if m.file and not _may_be_ram(m.file, memdev.id)]
    if not inside or min(m.start for m in inside) != address:
        return f"no mapping begins at {address:#x}, where {memdev.id} begins according to QEMU"
    if named and {m.start for m in named} != {m.start for m in inside}:
        return f"RAM block {memdev.id} is at different places by QEMU's address and by its name"
    if foreign:
        return f"the mapping at {address:#x} is not {memdev.id} but {foreign[0][:100]}"
    if _resident(inside) > memdev.size:
        return f"the mapping of {memdev.id} is larger than the block: it is merged with another"
    return ""


def _is_named(file: str, memdev: str) -> bool:
    # QEMU: <directory>/qemu_back_mem.<name>.XXXXXX (deleted), '/' of the name as '_'; libvirt's file-backed
    # RAM: <directory>/<name>.
    base = file.removesuffix("\\040(deleted)").rpartition("/")[2]
    name = re.escape(memdev)
    return re.fullmatch(rf"(?:qemu_back_mem\.)?(?:_objects_)?{name}(?:\.[A-Za-z0-9]{{6}})?", base) is not None


def _may_be_ram(file: str, memdev: str) -> bool:
    # An anonymous shared mapping shows as /dev/zero, a memfd by QEMU's general name for it.
    return _is_named(file, memdev) or file.startswith(_SHARED_NAMES)


def _resident(mappings: Sequence[Mapping]) -> int:
    return sum(count * (m.page_kib or 0) * 1024 for m in mappings for count in m.pages.values())


def _observed(memdev: Memdev, cell: int | None, mappings: Sequence[Mapping]) -> ObservedMemory:
    pages: dict[int, int] = {}
    for mapping in mappings:
        for node, number in mapping.pages.items():
            pages[node] = pages.get(node, 0) + number * (mapping.page_kib or 0) * 1024
    sizes = {m.page_kib for m in mappings if m.page_kib is not None}
    policies = sorted({m.policy for m in mappings})
    return ObservedMemory(
        memdev=memdev.id,
        guest_cell=cell,
        size_bytes=memdev.size,
        policy=memdev.policy,
        host_nodes=memdev.host_nodes,
        pages=dict(sorted(pages.items())),
        page_kib=min(sizes) if sizes else None,
        kernel_policy=", ".join(policies) if policies else None,
    )
