"""Each mistake that libvirt lets through is found, by its code, and nothing else is said."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import PlacementPlan
from harness.model.topology import Domain, HostFacts, HugepagePool
from harness.placement.domain.check import problems
from harness.placement.domain.definition import GuestDefinition
from harness.placement.domain.write import render
from harness.placement.planner import plan
from tests.placement.hosts import HUGE_2M, gpu_address, lab_like, with_device, with_node


def planned(facts: HostFacts, gpus: int, *given: PlacementPlan) -> PlacementPlan:
    answer = plan(facts, GuestRequest(name=f"g{len(given)}", gpus=gpus), PlacementPolicy(), VFIO, given)
    assert isinstance(answer, PlacementPlan), answer
    return answer


def xml_of(answer: PlacementPlan) -> str:
    return render(
        answer,
        GuestDefinition(
            name=answer.guest,
            uuid="3f2b8a52-6a0e-4c1e-9c55-0f8f2f7f7a10",
            run="run-7",
            disk="/d.qcow2",
            serial_log="/s.log",
        ),
        VFIO,
    )


FACTS = lab_like()
GOOD = xml_of(planned(FACTS, 4))


def codes(xml: str, facts: HostFacts = FACTS, *others: str) -> list[str]:
    return [problem.code for problem in problems(xml, facts, others)]


def changed(*pairs: tuple[str, str]) -> str:
    """The good XML with each first text replaced; a text that is not there would test nothing."""
    text = GOOD
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def test_a_right_domain_has_no_problem() -> None:
    assert codes(GOOD) == []


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([('busNr="250"', 'busNr="252"')], "bus_overlap"),
        ([('busNr="250"', 'busNr="251"')], "bus_overlap"),
        ([('busNr="250"', 'busNr="2"')], "bus_overlap"),
        ([('busNr="253"', 'busNr="254"')], "bus_out_of_range"),
        ([('<target busNr="250">', "<target>")], "bus_out_of_range"),
        ([('vcpu="1" cpuset="2"', 'vcpu="1" cpuset="1"')], "cpu_shared"),
        ([('vcpu="1" cpuset="2"', 'vcpu="1" cpuset="2-3"')], "vcpu_not_dedicated"),
        ([('<vcpupin vcpu="1" cpuset="2" />', "")], "vcpu_unpinned"),
        ([('vcpu="1" cpuset="2"', 'vcpu="1" cpuset="900"')], "cpu_missing"),
        ([('vcpu="1" cpuset="2"', 'vcpu="1" cpuset="7"')], "vcpu_far"),
        ([('<emulatorpin cpuset="0,4" />', "")], "emulator_unpinned"),
        ([('<emulatorpin cpuset="0,4"', '<emulatorpin cpuset="0-1"')], "emulator_on_vcpu"),
        ([('<cell id="1" cpus="2-3"', '<cell id="1" cpus="3"')], "vcpu_in_no_cell"),
        ([('<memory unit="MiB">5456', '<memory unit="MiB">5000')], "memory_mismatch"),
        ([('cellid="1" mode="strict"', 'cellid="1" mode="preferred"')], "memory_unbound"),
        ([('<memnode cellid="1" mode="strict" nodeset="1" />', "")], "memory_unbound"),
        ([('size="2048" unit="KiB"', 'size="1" unit="GiB"')], "page_size_missing"),
        ([('size="2048" unit="KiB"', 'size="3" unit="GiB"')], "page_size_missing"),
    ],
)
def test_each_mistake_has_its_code(pairs: list[tuple[str, str]], code: str) -> None:
    assert set(codes(changed(*pairs))) == {code}


def test_a_host_node_that_does_not_exist_is_named() -> None:
    wrong = changed(('cellid="1" mode="strict" nodeset="1"', 'cellid="1" mode="strict" nodeset="9"'))
    assert "node_missing" in codes(wrong)


def test_two_cells_on_one_host_node_are_ambiguous() -> None:
    wrong = changed(('cellid="1" mode="strict" nodeset="1"', 'cellid="1" mode="strict" nodeset="0"'))
    assert "cells_share_node" in codes(wrong)


def test_offline_cpus_are_not_cpus() -> None:
    assert codes(GOOD, with_node(FACTS, 0, cpus=(0, 1, 3))) == ["cpu_offline"]


def test_hugepages_beyond_the_free_ones_are_counted_per_node_and_with_the_neighbours() -> None:
    short = with_node(FACTS, 1, hugepages={HUGE_2M: HugepagePool(total=2048, free=1000)})
    assert codes(GOOD, short) == ["hugepages_short"]
    started = dataclasses.replace(short, domains=(Domain(name="g0", uuid=None, pid=1),))
    assert codes(GOOD, started) == [], "a running guest's own pages are not free any more"
    first = planned(FACTS, 1)
    second = planned(FACTS, 1, first)
    tight = with_node(FACTS, 0, hugepages={HUGE_2M: HugepagePool(total=2048, free=700)})
    assert codes(xml_of(second), tight) == []
    assert codes(xml_of(second), tight, xml_of(first)) == ["hugepages_short"]


def test_guests_planned_around_each_other_do_not_collide() -> None:
    first = planned(FACTS, 1)
    second = planned(FACTS, 2, first)
    third = planned(FACTS, 1, first, second)
    texts = [xml_of(p) for p in (first, second, third)]
    for index, text in enumerate(texts):
        assert codes(text, FACTS, *(t for i, t in enumerate(texts) if i != index)) == []


def test_one_device_in_two_domains_is_found_and_so_are_shared_cpus() -> None:
    other = xml_of(dataclasses.replace(planned(FACTS, 1), guest="other"))
    found = codes(GOOD, FACTS, other)
    assert set(found) == {"cpu_shared", "device_shared"}


def test_the_other_thread_of_a_neighbours_core_is_not_ours() -> None:
    facts = lab_like(threads=2, cores=4)
    first = planned(facts, 1)
    assert first.vcpupin == {0: 1, 1: 9}
    mine = dataclasses.replace(first, vcpupin={0: 1, 1: 2})
    theirs = dataclasses.replace(first, guest="theirs", gpus=(), vcpupin={0: 9, 1: 10})
    assert codes(xml_of(mine), facts, xml_of(theirs)) == ["core_shared"]


def test_one_device_twice_in_a_domain_is_found() -> None:
    again = GOOD[GOOD.index("<hostdev") : GOOD.index("</hostdev>") + len("</hostdev>")]
    assert codes(GOOD.replace("<memballoon", again + "<memballoon")) == ["device_shared"]


def test_a_device_that_the_host_lacks_is_found() -> None:
    gone = with_device(FACTS, gpu_address(1), vanished=True)
    assert codes(GOOD, gone) == ["device_missing"]


def test_a_group_whose_audio_function_stays_behind_is_split() -> None:
    start = GOOD.index("<hostdev", GOOD.index("</hostdev>"))
    without = GOOD[:start] + GOOD[GOOD.index("</hostdev>", start) + len("</hostdev>") :]
    assert codes(without) == ["group_split"]


def test_a_gpu_behind_the_other_cells_expander_is_far() -> None:
    first = changed(("<node>0</node>", "<node>x</node>"), ("<node>1</node>", "<node>0</node>"))
    swapped = first.replace("<node>x</node>", "<node>1</node>")
    assert set(codes(swapped)) == {"device_far"}


def test_a_gpu_on_the_root_bus_leaves_the_guest_in_the_dark() -> None:
    wrong = changed(('bus="0x03" slot="0x00" function="0x0"', 'bus="0x00" slot="0x09" function="0x0"'))
    assert codes(wrong) == ["device_far"]


def test_a_controller_loop_ends() -> None:
    """Two root ports that claim to be below each other."""
    wrong = changed(
        ('index="7" model="pcie-root-port">', 'index="7" model="pcie-root-port"><x/>'),
    )
    wrong = wrong.replace('bus="0x00" slot="0x02"', 'bus="0x08" slot="0x02"')
    wrong = wrong.replace('bus="0x00" slot="0x03"', 'bus="0x07" slot="0x03"')
    assert isinstance(codes(wrong), list)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<domain>",
        "<network/>",
        "<domain><memory unit='PiB'>1</memory></domain>",
        "<domain><vcpu>many</vcpu></domain>",
        "<domain><vcpu>-1</vcpu></domain>",
        "<domain><cputune><vcpupin vcpu='0'/></cputune></domain>",
        "<domain><cputune><vcpupin vcpu='0' cpuset='0-4294967295'/></cputune></domain>",
        "<domain><devices><hostdev type='pci'/></devices></domain>",
        "<domain><devices><hostdev type='pci'><source><address bus='0x1ff' slot='0' function='0'/>"
        "</source></hostdev></devices></domain>",
        '<!DOCTYPE d [<!ENTITY a "aaaa">]><domain>&a;</domain>',
        "<domain><name>\x00</name></domain>",
    ],
)
def test_what_is_no_domain_is_a_problem_and_never_an_exception(text: str) -> None:
    assert codes(text) == ["xml_invalid"]
    assert "xml_invalid" in codes(GOOD, FACTS, text), "an unreadable neighbour may hold anything"


def test_ten_megabytes_of_text_in_a_domain_do_no_harm() -> None:
    assert codes(changed(("<name>g0", "<name>g0" + "<a/>" * 10))) == []
    assert codes("<domain>" + "x" * (17 << 20) + "</domain>") == ["xml_invalid"]
    crowd = "<controller type='pci' index='1' model='pcie-root-port'/>" * 5000
    assert codes(f"<domain><devices>{crowd}</devices></domain>") == ["xml_invalid"]


@given(st.integers(0, len(GOOD)), st.integers(0, 60), st.text(max_size=20))
def test_damaged_xml_gives_problems_or_a_clean_bill_and_never_an_exception(
    at: int, cut: int, text: str
) -> None:
    found = codes(GOOD[:at] + text + GOOD[at + cut :])
    assert all(isinstance(code, str) and code for code in found)
