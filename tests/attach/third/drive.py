"""Run in a tree that has the mode ``sriov``: from its profile to its report. Argument: an empty directory."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.attach import ATTACHMENT_NAMES, attachment
from harness.checks.registry import CHECKS
from harness.config.files import load_profile
from harness.errors import ConfigError
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.gpu import with_told
from harness.model.guest import GuestRequest
from harness.model.inventory import Profile
from harness.model.outcome import Outcome, Verdict
from harness.model.pci import PciAddress
from harness.model.placement import NoPlan, PlacementPlan
from harness.model.topology import HostFacts, IommuGroup
from harness.placement.domain.check import problems
from harness.placement.domain.definition import GuestDefinition
from harness.placement.domain.write import render
from harness.placement.planner import plan
from harness.plugin.demand import choose_guests, choose_profile
from harness.record.judge import finish, rejudge
from harness.stages.guest.devices import guest_cards
from reports import render_all
from tests.faults import clean, clean_telemetry
from tests.faults.landed import landed
from tests.record.replay import begin, replay

MODE = attachment("sriov")


def split_facts() -> HostFacts:
    """The clean host with each of its four cards split once, driven by the host's own driver."""
    facts = clean.facts()
    cards = [device for device in facts.pci_devices if device.id == "1234:11e8"]
    devices, groups = list(facts.pci_devices), list(facts.iommu.groups)
    for number, card in enumerate(cards):
        whole = replace(card, sriov_totalvfs=2, sriov_numvfs=1, driver="card-driver", slot_label=f"{number}")
        devices[devices.index(card)] = whole
        address = PciAddress(0, card.address.bus, 0x10, 2)
        devices.append(
            replace(card, address=address, physfn=card.address, iommu_group=500 + number, link=None)
        )
        groups.append(IommuGroup(id=500 + number, devices=(address,), type="identity"))
    iommu = replace(facts.iommu, groups=tuple(groups))
    return replace(facts, pci_devices=tuple(sorted(devices, key=lambda d: d.address)), iommu=iommu)


def the_profile(root: Path) -> Profile:
    """A profile of the mode, from a file as a person writes one: every check that the mode can answer."""
    asked = [c.id for c in CHECKS if MODE.observes(c.needs) and not c.on_demand]
    asked = [c for c in asked if c not in ("tenants.disturbance", "device.residue", "gpu.reset_works")]
    lines = [
        "name: sriov",
        "description: two guests with a virtual function each",
        "attach: sriov",
        "guests: [{together: [{gpus: 1, workloads: [device]}, {gpus: 1, workloads: [device]}]}]",
        "checks:",
        *(f"  {name}: blocker" for name in asked),
    ]
    file = root / "sriov.yaml"
    file.write_text("\n".join(lines) + "\n")
    wrong = root / "wrong.yaml"
    wrong.write_text("\n".join((*lines, "  gpu.link: blocker")) + "\n")
    with pytest.raises(ConfigError, match=r"gpu\.link cannot be asked in attach mode sriov"):
        load_profile(str(wrong))
    assert choose_profile(str(file), "sriov").attach == "sriov"
    return load_profile(str(file))


def guest(
    facts: HostFacts, name: str, group: str, beside: tuple[PlacementPlan, ...]
) -> tuple[GuestEvidence, PlacementPlan]:
    request = GuestRequest(name=name, gpus=1)
    decided = plan(facts, request, clean.HOST.placement, MODE, beside)
    assert isinstance(decided, PlacementPlan), decided
    definition = GuestDefinition(
        name=name,
        uuid="3f2b8a52-6a0e-4c1e-9c55-0f8f2f7f7a10",
        run="run-7",
        disk="/d.qcow2",
        serial_log="/s.log",
    )
    xml = render(decided, definition, MODE)
    assert problems(xml, facts) == (), problems(xml, facts)
    given = decided.gpus[0].host
    assert f'slot="{given.device:#04x}"' in xml
    assert f'function="{given.function:#x}"' in xml
    telemetry = clean_telemetry.guest(name, ("device",), tuple(gpu.host for gpu in decided.gpus))
    told = tuple(gpu.gpu for gpu in telemetry.gpus if gpu.gpu is not None)
    seen = replace(landed(decided), at=1000.0, state="running")
    evidence = GuestEvidence(
        name=name,
        request=request,
        workloads=("device",),
        attach=MODE.name,
        group=group,
        plan=decided,
        cards=with_told(guest_cards(facts, decided, seen), told),
        domain_xml=f"domain/{name}.xml",
        started=True,
        reached=True,
        boot_seconds=42.0,
        observed=seen,
        looks=tuple(replace(look, observed=replace(seen, at=look.at)) for look in clean.looks(decided)),
        results=(clean.result(name, "device", ()),),
        telemetry=telemetry,
        release=clean.release(name, decided),
        kernel_log=("Linux version 6.1.0",),
    )
    return evidence, decided


def the_run(facts: HostFacts, profile: Profile) -> Evidence:
    demands = choose_guests(profile, "", expected_gpus=4)
    first, decided = guest(facts, demands[0].request.name, demands[0].group, ())
    second, other = guest(facts, demands[1].request.name, demands[1].group, (decided,))
    assert not set(decided.hostdevs) & set(other.hostdevs)
    used = {cpu for one in (decided, other) for cpu in one.vcpupin.values()}
    given = (*decided.hostdevs, *other.hostdevs)
    names = (first.name, second.name)
    ports = tuple(d.address for d in facts.pci_devices if d.class_code == "060400")
    watched = clean_telemetry.host(given, ports, used, names)
    return replace(
        clean.evidence(),
        facts=facts,
        facts_after=facts,
        guests=(first, second),
        resets=(),
        host_telemetry=watched,
        profile=profile.name,
    )


def main(root: Path) -> None:
    facts = split_facts()
    chosen = MODE.select(facts, clean.HOST.placement.selector)
    assert len(chosen) == 4, chosen
    whole = plan(facts, GuestRequest(name="g", gpus=1), clean.HOST.placement, attachment("vfio"))
    assert isinstance(whole, NoPlan), "a split card is never handed out whole"
    profile = the_profile(root)
    host = clean.HOST
    recorder = begin(root / "runs", evidence := the_run(facts, profile), profile=profile, host=host)
    replay(recorder, evidence)
    record = finish(recorder)
    open_cells = [
        (c.check, c.subject, c.outcome, c.reason)
        for c in record.decision.coverage
        if c.outcome is not Outcome.PASS
    ]
    assert open_cells == [], open_cells
    assert record.decision.verdict is Verdict.GO, record.decision
    assert rejudge(recorder.directory).agrees
    render_all(recorder.path, record)
    text = (recorder.path / "report.md").read_text()
    for one in evidence.guests:
        assert one.plan is not None
        assert str(one.plan.gpus[0].host) in text
    print(*ATTACHMENT_NAMES, record.decision.verdict.value, len(record.decision.coverage))


main(Path(sys.argv[1]))
