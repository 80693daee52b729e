"""Run in a tree that has the vendor ``acme``: from its host's facts to its report. Argument: a directory."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.checks.registry import OF_VENDORS
from harness.config.files import load_kernel_codes, load_sku_file
from harness.facts import parse_transcript
from harness.facts.ask import ARGUMENTS, KERNEL_WORDS
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.guest import GpuSelector
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import Outcome, Severity, Verdict
from harness.model.record import RunRecord
from harness.model.telemetry import Family, GpuTelemetry, GuestTelemetry, KernelEvent, Ruling
from harness.model.topology import HostFacts
from harness.record.judge import finish, rejudge
from harness.stages.host.gpus_in_use import asked_of
from harness.telemetry.kernel.log import read_kernel
from harness.vendors.names import VENDOR_NAMES, maker, who_waits
from harness.vendors.nvidia.checks import CHECKS as OF_ANOTHER
from harness.vendors.registry import VENDORS
from harness.verdict.rules import lint_sku
from reports import render_all
from tests.faults import clean
from tests.record.replay import begin, replay

HERE = Path(__file__).parent
CAPTURED = HERE.parents[1] / "facts/cases/emulated-host.txt"
ID = "1ace:0900"
SKU = load_sku_file("acme-900").sku
HOST: HostFile = replace(clean.HOST, placement=replace(clean.HOST.placement, selector=GpuSelector(ids=(ID,))))


def read_facts() -> None:
    """A captured host whose cards call themselves ACME's: they are found, and known for what they are."""
    raw = CAPTURED.read_bytes().replace(b"0x1234", b"0x1ace").replace(b"0x11e8", b"0x0900")
    found = VFIO.select(parse_transcript(raw), HOST.placement.selector)
    assert found, "no card of ACME's on the captured host"
    assert {vendor.name for card in found if (vendor := maker(card.vendor))} == {"ACME"}
    held = who_waits("acmegpu")
    assert held is not None
    assert asked_of("0000:41:00.0", held) == ("0000:41:00.0", "/proc/acme/0000:41:00.0", "acme")
    assert "|acmegpu|" in KERNEL_WORDS
    assert "/dev/acme[0-9]*" in ARGUMENTS
    assert list(lint_sku(SKU)) == []
    assert list(lint_sku(replace(SKU, engines={"acme_codec": 0}))) != []


def its_own(facts: HostFacts) -> HostFacts:
    devices = (
        replace(d, vendor="1ace", device="0900") if d.id == "1234:11e8" else d for d in facts.pci_devices
    )
    return replace(facts, pci_devices=tuple(devices))


def card(gpu: GpuTelemetry) -> GpuTelemetry:
    """Its readings: what only another maker's cards tell is not among them."""
    strange = ("mig", "mig_pending", "nvlink_links", "sram_exceeded")
    properties = {name: value for name, value in gpu.properties.items() if name not in strange}
    series = {name: one for name, one in gpu.series.items() if not name.startswith("nvlink")}
    return replace(
        gpu,
        name="ACME 900",
        pci_id=ID,
        properties={**properties, "sram_exceeded": False, "acme_seal": True},
        series=series,
    )


def watched(seen: GuestTelemetry) -> GuestTelemetry:
    return replace(
        seen, source="acmetel", library="/usr/lib/libacmetel.so.1", gpus=tuple(map(card, seen.gpus))
    )


def the_run() -> Evidence:
    run = clean.evidence()
    assert run.facts is not None
    facts = its_own(run.facts)
    guests = tuple(
        replace(one, telemetry=None if one.telemetry is None else watched(one.telemetry))
        for one in run.guests
    )
    return replace(run, facts=facts, facts_after=facts, guests=guests, skus=(SKU,))


def the_profile() -> Profile:
    shipped = clean.profile()
    others = {check.id for check in OF_ANOTHER}
    own = [check.id for check in OF_VENDORS if check.id not in others]
    assert own == ["gpu.acme_seal"]
    kept = {check: severity for check, severity in shipped.checks.items() if check not in others}
    return replace(shipped, checks={**kept, **dict.fromkeys(own, Severity.BLOCKER)})


def judged(root: Path, evidence: Evidence) -> tuple[RunRecord, str]:
    recorder = begin(root, evidence, profile=the_profile(), host=HOST)
    replay(recorder, evidence)
    record = finish(recorder)
    assert rejudge(recorder.directory).agrees
    render_all(recorder.path, record)
    return record, (recorder.path / "report.md").read_text()


def kernel_events(name: str) -> tuple[KernelEvent, ...]:
    lines = (HERE / "kernel.log").read_text().splitlines()
    return read_kernel([(30.0 + place, line) for place, line in enumerate(lines)], name, load_kernel_codes())


def ill(guest: GuestEvidence) -> GuestEvidence:
    """Its driver reports a fault, its power limit is low, it asks for a cold start, its seal is broken."""
    seen = guest.telemetry
    assert seen is not None
    assert seen.kernel is not None
    events = kernel_events(guest.name)
    assert [(e.family, e.code, e.ruling) for e in events] == [
        (Family.CODE, 17, Ruling.STOP),
        (Family.KERNEL, None, Ruling.RETEST),
    ]
    events = tuple(event.on_host(guest.cards) for event in events)
    first, *rest = seen.gpus
    asks = replace(first.series["recovery_action"], first=1.0, last=1.0, minimum=1.0, maximum=1.0)
    bad = replace(
        first,
        properties={**first.properties, "power_limit": 500.0, "acme_seal": False},
        series={**first.series, "recovery_action": asks},
    )
    kernel = replace(seen.kernel, events=events)
    return replace(guest, telemetry=replace(seen, gpus=(bad, *rest), kernel=kernel))


def main(root: Path) -> None:
    assert len(VENDOR_NAMES) == len(VENDORS)
    read_facts()
    run = the_run()
    record, text = judged(root / "well", run)
    not_passed = [
        (cell.check, cell.subject, cell.reason)
        for cell in record.decision.coverage
        if cell.outcome is not Outcome.PASS and cell.severity is Severity.BLOCKER
    ]
    assert not_passed == [], not_passed
    assert record.decision.verdict is Verdict.GO, record.decision
    assert "ACME 900" in text
    first, *others = run.guests
    record, text = judged(root / "ill", replace(run, guests=(ill(first), *others)))
    said = {r.check: f"{r.message} | {r.remedy}" for r in record.results if r.outcome is Outcome.FAIL}
    assert {"guest.gpu_errors", "guest.kernel_log", "gpu.power", "telemetry.present", "gpu.acme_seal"} <= set(
        said
    ), said
    assert "the card lost a memory channel" in said["guest.gpu_errors"]
    assert "(acmectl power 0 700)" in said["gpu.power"]
    assert "a cold start of the card" in said["telemetry.present"]
    assert "ACME fault" in said["telemetry.present"]
    assert record.decision.verdict is Verdict.NO_GO
    assert "the seal is broken" in text
    assert re.search("nvml|nvidia|xid", text, re.IGNORECASE) is None, "another maker's words"
    print(*VENDORS, record.decision.verdict.value)


main(Path(sys.argv[1]))
