"""Which cells a machine has and which one a device is near, as the kernel's files say."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from harness.payload import bounded
from harness.payload import cells as of_machine


@pytest.fixture
def cells() -> Any:
    return of_machine


def machine(root: Path) -> Path:
    """Two cells, one node of memory without processors, one of processors without memory."""
    for number, (cpus, kib) in enumerate([("0-1,4", 1024), ("2-3", 2048), ("", 4096), ("5", 0)]):
        folder = root / f"sys/devices/system/node/node{number}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
        (folder / "meminfo").write_text(
            f"Node {number} MemTotal:       {kib} kB\nNode {number} MemFree: 1 kB\n"
        )
    device = root / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    (device / "current_link_speed").write_text("32.0 GT/s PCIe\n")
    (device / "current_link_width").write_text("16\n")
    return root


def test_cells_have_processors_and_memory(cells: Any, tmp_path: Path) -> None:
    assert cells.cells(str(machine(tmp_path))) == {0: [0, 1, 4], 1: [2, 3]}


def test_a_kernel_without_numa_has_one_cell(cells: Any, tmp_path: Path) -> None:
    assert cells.cells(str(tmp_path)) == {0: sorted(os.sched_getaffinity(0))}


def test_a_device_says_its_cell_and_its_link(cells: Any, tmp_path: Path) -> None:
    root = str(machine(tmp_path))
    assert cells.cell_of("0000:01:00.0", root) == 1
    assert cells.link("0000:01:00.0", root) == (5, 16)


@pytest.mark.parametrize(("node", "speed"), [("-1\n", "Unknown"), ("", ""), ("x", "2.5 GT/s PCIe")])
def test_what_the_kernel_does_not_know_is_none(cells: Any, tmp_path: Path, node: str, speed: str) -> None:
    device = machine(tmp_path) / "sys/bus/pci/devices/0000:01:00.0"
    (device / "numa_node").write_text(node)
    (device / "current_link_speed").write_text(speed)
    (device / "current_link_width").write_text("0\n")
    assert cells.cell_of("0000:01:00.0", str(tmp_path)) is None
    assert cells.link("0000:01:00.0", str(tmp_path)) is None
    assert cells.cell_of("0000:09:00.0", str(tmp_path)) is None


def test_memory_is_where_this_machine_says(cells: Any) -> None:
    binder = cells.Binder()
    first = next(iter(binder.cells))
    binder.bind(first)
    block = cells.Block(1 << 20)
    assert binder.where(block.address, block.size) in ([first], None)
    binder.release()


def test_words_that_differ_are_counted(cells: Any) -> None:
    ours, theirs = cells.Block(1 << 20), cells.Block(1 << 20)
    assert ours.words_unlike(theirs) == 0
    for place in (0, 7, 8, (1 << 20) - 1):
        ours.map[place] = 1
    assert ours.words_unlike(theirs) == 3


def test_memory_is_really_bound_or_the_machine_says_why_not(cells: Any) -> None:
    """With two cells promised, the system calls are made: the one that exists binds, the other is refused."""
    binder = cells.Binder()
    real = next(iter(binder.cells))
    cpus = binder.cells[real]
    binder.cells = {real: cpus, 1000: cpus}
    unable = bounded.Unable
    with contextlib.suppress(unable):  # a container may forbid the call
        binder.bind(real)
        block = cells.Block(1 << 20)
        assert binder.where(block.address, block.size) in ([real], None)
    with pytest.raises(unable, match="memory cannot be bound to cell 1000 here: "):
        binder.bind(1000)
    binder.release()
