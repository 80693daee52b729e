"""Captured trees: the same parsers, and nothing outside the tree is ever read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.facts import from_sysroot
from harness.facts.tree import Tree


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_directory_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="neither sys nor proc"):
        from_sysroot(tmp_path)
    with pytest.raises(ParseError, match="neither sys nor proc"):
        from_sysroot(tmp_path / "absent")


def test_a_nearly_empty_capture_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    facts = from_sysroot(tmp_path)
    assert (facts.cpus, facts.numa_nodes, facts.pci_devices, facts.domains) == ((), (), (), None)


def test_relative_and_absolute_links_stay_inside(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", {"sys/devices/pci0000:40/0000:41:00.0/vendor": "0x1234\n"})
    write(tmp_path, {"secret": "outside"})
    (root / "sys/up").symlink_to("../../../../../secret")
    (root / "sys/abs").symlink_to("/secret")
    (root / "sys/real").symlink_to(tmp_path / "secret")
    (root / "sys/loop").symlink_to("loop")
    (root / "sys/a").symlink_to("/sys/devices/pci0000:40")
    tree = Tree(root)
    assert tree.resolve("/sys/a/0000:41:00.0") == "/sys/devices/pci0000:40/0000:41:00.0"
    assert tree.read("/sys/a/../pci0000:40/0000:41:00.0/vendor") == b"0x1234\n"
    for name in ("up", "abs", "real", "loop", "loop/x"):
        assert tree.read(f"/sys/{name}") is None


def test_a_pipe_in_a_capture_does_not_block(tmp_path: Path) -> None:
    root = write(tmp_path, {"sys/x": ""})
    (root / "proc").mkdir()
    os.mkfifo(root / "proc/cmdline")
    assert from_sysroot(root).kernel_command_line is None


def test_devices_are_read_through_their_links(tmp_path: Path) -> None:
    base = "sys/devices/pci0000:40/0000:40:01.0/0000:41:00.0"
    root = write(
        tmp_path,
        {
            f"{base}/vendor": "0x10de\n",
            f"{base}/device": "0x2330\n",
            f"{base}/class": "0x030200\n",
            f"{base}/numa_node": "-1\n",
            f"{base}/local_cpus": "f0\n",
            "sys/kernel/iommu_groups/7/type": "DMA\n",
        },
    )
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True)
    (devices / "0000:41:00.0").symlink_to("../../../devices/pci0000:40/0000:40:01.0/0000:41:00.0")
    (root / base / "iommu_group").symlink_to("../../../../kernel/iommu_groups/7")
    (devices / "0000:ff:00.0").symlink_to("../gone")
    facts = from_sysroot(root)
    card, gone = facts.pci_devices
    assert (card.id, card.numa_node, card.local_cpus, card.iommu_group) == (
        "10de:2330",
        None,
        (4, 5, 6, 7),
        7,
    )
    assert [str(a) for a in card.upstream] == ["0000:40:01.0"]
    assert gone.vanished


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200), which=st.integers(0, 30))
def test_any_content_of_any_file_gives_facts(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, which: int
) -> None:
    root = tmp_path_factory.mktemp("tree")
    names = [
        "sys/devices/system/cpu/online",
        "sys/devices/system/cpu/cpu0/topology/core_id",
        "sys/devices/system/node/node0/distance",
        "sys/devices/system/node/node0/meminfo",
        "sys/bus/pci/devices/0000:00:00.0/resource",
        "sys/bus/pci/devices/0000:00:00.0/config",
        "sys/bus/pci/devices/0000:00:00.0/aer_dev_fatal",
        "proc/cpuinfo",
        "proc/uptime",
        "etc/os-release",
    ]
    write(root, dict.fromkeys(names, "0\n"))
    (root / names[which % len(names)]).write_bytes(content)
    assert len(from_sysroot(root).pci_devices) == 1
