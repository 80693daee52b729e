"""Real machines' captured trees: our answers beside hwloc's own."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.facts import from_sysroot
from harness.facts.notation import id_mask
from harness.model.pci import PciAddress
from harness.model.topology import HostFacts
from tests.captured import HWLOC, TREES, unpack

LSTOPO = shutil.which("lstopo-no-graphics")


@pytest.fixture(scope="module", params=TREES, ids=lambda path: path.name.removesuffix(".tar.bz2"))
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked tree."""
    target = tmp_path_factory.mktemp("tree")
    return unpack(request.param, target)


@pytest.fixture(scope="module")
def facts(tree: Path) -> HostFacts:
    return from_sysroot(tree)


@pytest.fixture(scope="module")
def oracle(tree: Path, request: pytest.FixtureRequest) -> ET.Element:
    """hwloc's answer: from its tool where it is installed, else the one shipped with the trees."""
    if LSTOPO is not None:
        argv = [LSTOPO, "--input", str(tree), "--if", "fsroot", "--disallowed", "--filter", "io:all"]
        answer = subprocess.run([*argv, "--of", "xml"], capture_output=True, check=True, timeout=60)
        return ET.fromstring(answer.stdout)  # noqa: S314  our own tool's output
    name = next(path for path in TREES if path.name.split(".")[0].startswith(tree.name))
    shipped = HWLOC / name.name.replace(".tar.bz2", ".hwloc.xml")
    if not shipped.exists():
        pytest.skip("neither lstopo-no-graphics (Debian hwloc-nox) nor an answer of hwloc for this tree")
    return ET.fromstring(shipped.read_text())  # noqa: S314


def walk(
    element: ET.Element, above: tuple[ET.Element, ...] = ()
) -> Iterator[tuple[ET.Element, tuple[ET.Element, ...]]]:
    """Every object with the objects it lies in, outermost first."""
    for child in element.findall("object"):
        yield child, above
        yield from walk(child, (*above, child))


def index(objects: tuple[ET.Element, ...], *kinds: str) -> int | None:
    found = [o for o in objects if o.get("type") in kinds]
    return int(found[-1].attrib["os_index"]) if found and "os_index" in found[-1].attrib else None


def mask(element: ET.Element) -> frozenset[int]:
    words = (element.get("cpuset") or "0x0").replace("0x", "").split(",")
    return frozenset(id_mask(",".join(word or "0" for word in words)) or ())


def test_online_cpus_cores_and_packages_are_hwlocs(facts: HostFacts, oracle: ET.Element) -> None:
    expected = {
        int(unit.attrib["os_index"]): (index(above, "Package", "Socket"), index(above, "Core"))
        for unit, above in walk(oracle)
        if unit.get("type") == "PU"
    }
    ours = {cpu.id: (cpu.package, cpu.core) for cpu in facts.cpus if cpu.online}
    assert ours.keys() == expected.keys()
    known = {cpu: place for cpu, place in expected.items() if place[0] is not None}
    assert {cpu: ours[cpu] for cpu in known} == known


def test_siblings_are_the_units_of_hwlocs_cores(facts: HostFacts, oracle: ET.Element) -> None:
    expected = {tuple(sorted(mask(core))) for core, _ in walk(oracle) if core.get("type") == "Core"}
    assert {cpu.siblings for cpu in facts.cpus if cpu.online} == expected


def test_nodes_have_hwlocs_memory_and_cpus(facts: HostFacts, oracle: ET.Element) -> None:
    nodes = {int(node.attrib["os_index"]): node for node, _ in walk(oracle) if node.get("type") == "NUMANode"}
    if all(len(facts.numa_nodes) > 1 and cpu.node is None for cpu in facts.cpus):
        assert len(nodes) == 1  # a firmware table so wrong that hwloc drops it too
        return
    # hwloc leaves out what has neither memory nor CPUs of its own; it adds nothing that we lack.
    assert nodes.keys() <= {node.id for node in facts.numa_nodes}
    for number, node in nodes.items():
        ours = facts.node(number)
        assert ours is not None
        assert ours.memory_bytes == int(node.get("local_memory", "0"))
        if ours.cpus:  # for a node without CPUs hwloc shows the nearest ones
            assert set(ours.cpus) == mask(node)


def test_pci_functions_have_hwlocs_identity(facts: HostFacts, oracle: ET.Element) -> None:
    pattern = re.compile(r"(\w{4}) \[(\w{4}):(\w{4})\] \[(\w{4}:\w{4})\] (\w\w)")
    expected = {}
    for item, _ in walk(oracle):
        match = pattern.match(item.get("pci_type") or "")
        if match and item.get("pci_busid"):
            expected[PciAddress.parse(item.attrib["pci_busid"])] = match.groups()
    ours = {
        device.address: (device.class_code[:4], device.vendor, device.device)
        for device in facts.pci_devices
        if device.address.domain < 0x10000  # this build of hwloc leaves longer domains out
    }
    if LSTOPO is not None:
        # hwloc leaves out a bridge that leads nowhere; it shows everything else.
        assert {ours[address][0] for address in ours.keys() - expected.keys()} <= {"0604"}
        assert expected.keys() <= ours.keys()
    for address, found in expected.items():
        if found[1:3] != ("0000", "0000"):  # hwloc's word for a capture without these files
            assert ours[address] == found[:3]


def test_upstream_ports_are_hwlocs_bridges(facts: HostFacts, oracle: ET.Element, tree: Path) -> None:
    compared = set()
    for item, above in walk(oracle):
        bridges = [PciAddress.parse(b.attrib["pci_busid"]) for b in above if b.get("pci_busid")]
        device = facts.device(PciAddress.parse(item.attrib["pci_busid"])) if item.get("pci_busid") else None
        if device is None or not (tree / "sys/bus/pci/devices" / str(device.address)).is_symlink():
            continue
        assert device.upstream == tuple(reversed(bridges)), device.address
        compared.add(device.address)
    behind = {d.address for d in facts.pci_devices if d.upstream and d.address.domain < 0x10000}
    assert LSTOPO is None or behind <= compared


def test_unknown_locality_is_never_node_0(facts: HostFacts, tree: Path) -> None:
    for device in facts.pci_devices:
        file = tree / "sys/bus/pci/devices" / str(device.address) / "numa_node"
        said = file.read_text().strip() if file.exists() else "-1"
        assert device.numa_node == (None if said == "-1" else int(said))


def test_domains_of_more_than_16_bits_are_kept(facts: HostFacts, tree: Path) -> None:
    names = {path.name for path in (tree / "sys/bus/pci/devices").glob("*")}
    assert {str(device.address) for device in facts.pci_devices} == names
    if "pcidomain32bits" in tree.name:
        assert {"10000:00:00.0", "10000:00:04.0"} <= names
