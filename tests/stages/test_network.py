"""The run's own network: isolated, derived from the run's key, and the same each time it is asked for."""

from __future__ import annotations

import ipaddress
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from harness.placement.domain.definition import run_key
from harness.stages.guest.network import run_network

KEYS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), min_size=1, max_size=80
)


def test_the_network_leads_nowhere_but_to_its_guests() -> None:
    root = ET.fromstring(run_network("run-1", 2).xml)  # noqa: S314  our own text
    assert root.find("forward") is None
    assert root.find("dns").get("enable") == "no"
    hosts = [(h.get("mac"), h.get("ip")) for h in root.iter("host")]
    network = run_network("run-1", 2)
    assert hosts == [(network.mac(0), network.address(0)), (network.mac(1), network.address(1))]


@given(KEYS)
def test_any_run_key_gives_names_that_the_kernel_and_libvirt_take(key: str) -> None:
    network = run_network(key, 3)
    assert run_key(network.xml) == key
    assert len(network.bridge) <= 15  # IFNAMSIZ without its end
    assert network.bridge.isalnum()
    subnet = ipaddress.ip_network(f"{network.prefix}.0/24")
    assert subnet.is_private
    addresses = [ipaddress.ip_address(network.address(n)) for n in range(3)]
    assert len({*addresses, subnet[1]}) == 4
    assert all(address in subnet for address in addresses)
    macs = {network.mac(n) for n in range(3)}
    assert len(macs) == 3
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs)  # locally administered, not multicast


def test_the_same_run_finds_its_network_again_and_another_run_has_another() -> None:
    assert run_network("run-1", 1) == run_network("run-1", 1)
    assert run_network("run-1", 1).name != run_network("run-2", 1).name


def test_guests_get_their_addresses_from_the_range_that_is_handed_out() -> None:
    network = run_network("run-1", 16)
    span = ET.fromstring(network.xml).find("ip/dhcp/range")  # noqa: S314
    first, last = (ipaddress.ip_address(span.get(side)) for side in ("start", "end"))
    assert all(first <= ipaddress.ip_address(network.address(n)) <= last for n in range(16))
