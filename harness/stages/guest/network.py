"""The run's own network on the host: a bridge that leads nowhere but to its guests."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from harness.placement.domain.definition import RUN_NAMESPACE

_LEASES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNetwork:
    """Names and addresses of one run's network, all derived from its key: the same run finds it again."""

    name: str
    bridge: str
    prefix: str
    """First three octets, ``10.213.7``."""
    xml: str

    def address(self, guest: int) -> str:
        """IPv4 address of guest number ``guest`` (from 0)."""
        return f"{self.prefix}.{10 + guest}"

    def mac(self, guest: int) -> str:
        """MAC address of guest number ``guest``; 52:54:00 is QEMU's prefix."""
        third = int(self.prefix.split(".")[2])
        return f"52:54:00:5d:{third:02x}:{10 + guest:02x}"


def run_network(run: str, guests: int) -> RunNetwork:
    """The network of run ``run`` with fixed addresses for ``guests`` guests.

    Isolated (no ``<forward>``): a guest under test reaches nothing but the host's bridge. The subnet is one
    of 10.213.0.0/16, picked by the run's key, so that two runs on a host rarely meet; libvirt refuses a
    subnet that is in use.
    """
    digest = hashlib.sha256(run.encode()).digest()
    prefix = f"10.213.{digest[0]}"
    tag = digest.hex()[:8]
    network = RunNetwork(name=f"shakedown-{tag}", bridge=f"shk{tag}", prefix=prefix, xml="")
    root = ET.Element("network")
    metadata = ET.SubElement(root, "metadata")
    ET.SubElement(
        metadata, "shakedown:guest", {"xmlns:shakedown": RUN_NAMESPACE, "run": run, "name": network.name}
    )
    ET.SubElement(root, "name").text = network.name
    ET.SubElement(root, "bridge", {"name": network.bridge, "stp": "off", "delay": "0"})
    ET.SubElement(root, "dns", {"enable": "no"})
    ip = ET.SubElement(root, "ip", {"address": f"{prefix}.1", "netmask": "255.255.255.0"})
    dhcp = ET.SubElement(ip, "dhcp")
    ET.SubElement(dhcp, "range", {"start": f"{prefix}.10", "end": f"{prefix}.{10 + _LEASES}"})
    for guest in range(guests):
        ET.SubElement(dhcp, "host", {"mac": network.mac(guest), "ip": network.address(guest)})
    return RunNetwork(
        name=network.name,
        bridge=network.bridge,
        prefix=prefix,
        xml=ET.tostring(root, encoding="unicode"),
    )
