"""A scenario of the NVML stand-in as text: what the library will read is what the file said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.files import list_names, load_standin
from harness.model.pci import PciAddress
from harness.vendors.nvidia.standin.model import (
    MOST_GPUS,
    StandinCard,
    StandinFault,
    StandinFaultKind,
    StandinScenario,
)
from harness.vendors.nvidia.standin.scenario import scenario_text

A, B = PciAddress(0, 0x17, 0, 0), PciAddress(1, 0x65, 0, 0)


def lines(*addresses: PciAddress, scenario: StandinScenario | None = None, **given: str) -> list[str]:
    text = scenario_text(scenario or StandinScenario(name="s"), addresses, **given)
    assert text.endswith(b"\n")
    return text.decode().splitlines()


def test_gpus_stand_in_order_of_address_as_nvml_has_them() -> None:
    assert [line for line in lines(B, A) if line.startswith("gpu ")] == [
        "gpu 0000:17:00.0",
        "gpu 0001:65:00.0",
    ]


def test_two_tenants_never_see_one_gpu_and_one_tenant_sees_the_same_again() -> None:
    def identities(tenant: str) -> set[str]:
        found = {line for line in lines(A, B, tenant=tenant) if "uuid" in line or "serial" in line}
        assert len(found) == 4
        return found

    assert identities("g1") == identities("g1")
    assert not identities("g1") & identities("g2")


def test_what_is_not_said_is_left_to_the_library() -> None:
    said = lines(A, scenario=StandinScenario(name="s", card=StandinCard(pcie_gen=5, pci_id="10de:2335")))
    assert {"card pcie_gen 5", f"card vendor {0x10DE}", f"card model {0x2335}"} <= set(said)
    assert not [line for line in said if "None" in line or "pcie_width" in line]


def test_faults_are_written_as_the_library_reads_them() -> None:
    faults = (
        StandinFault(kind=StandinFaultKind.XID, gpu=1, at=2.5, value=79, what="GPU has fallen off the bus."),
        StandinFault(kind=StandinFaultKind.FREEZE, at=1.0, until=4.0),
    )
    assert [
        line for line in lines(A, scenario=StandinScenario(name="s", faults=faults)) if "fault" in line
    ] == [
        "fault xid 1 start 2.5 - 79 0.0 1.0 GPU has fallen off the bus.",
        "fault freeze * start 1.0 4.0 0.0 0.0 1.0",
    ]


def test_the_kernel_log_and_the_load_are_where_the_machine_has_them() -> None:
    assert "kmsg /dev/kmsg" in lines(A)
    assert "load 0.0 0.9" in lines(A)
    there = lines(A, kmsg="/tmp/kmsg", load_file="/tmp/load")  # noqa: S108  a path, nothing is opened
    assert "kmsg /tmp/kmsg" in there
    assert "load_file /tmp/load 0.9" in there
    assert "load 0.0 0.9" not in there


@pytest.mark.parametrize("path", ["/a\nfault vanish 0 0 - 0 0", "/with space", "/nul\0"])
def test_a_path_cannot_become_a_line_of_its_own(path: str) -> None:
    with pytest.raises(ValueError, match="not a usable path"):
        lines(A, kmsg=path)


def test_more_gpus_than_the_library_has_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="room for 16"):
        lines(*(PciAddress(0, n, 0, 0) for n in range(MOST_GPUS + 1)))


@pytest.mark.parametrize("name", list_names("standins"))
def test_shipped_scenarios_render_for_any_number_of_gpus(name: str) -> None:
    shipped = load_standin(name)
    assert lines(scenario=shipped)[0] == "shakedown-nvml-standin 2"
    full = lines(*(PciAddress(0, n, 0, 0) for n in range(MOST_GPUS)), scenario=shipped)
    assert sum(line.startswith("gpu ") for line in full) == MOST_GPUS


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 1e9))
def test_numbers_come_back_as_they_were(value: float, at: float) -> None:
    fault = StandinFault(kind=StandinFaultKind.REPLAY, gpu=0, at=at, value=value)
    written = lines(A, scenario=StandinScenario(name="s", faults=(fault,)))[-1].split()
    assert (float(written[4]), float(written[6])) == (at, value)
