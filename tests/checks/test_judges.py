"""Single judgements where a wrong word would mislead: remedies, limits of knowledge, borderlines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.checks.host.iommu import iommu_kind
from harness.checks.registry import run_checks
from harness.checks.watching.kernel_log import trouble
from harness.model.evidence import Evidence, ResidueTrial, StageError
from harness.model.inventory import ExpectedLink, HostFile
from harness.model.outcome import CheckResult, Outcome
from harness.model.topology import AerCounters, Bar, Domain, HostFacts, Link, Storage
from tests.faults import clean


def ask(check: str, evidence: Evidence, host: HostFile | None = None) -> CheckResult | None:
    """What a check says of the first subject; None when it is missing there."""
    results, cells = run_checks(evidence, clean.profile(), host or clean.HOST)
    first = next(c for c in cells if c.check == check)
    return next((r for r in results if r.check == check and r.subject == first.subject), None)


def said(result: CheckResult | None) -> CheckResult:
    assert result is not None
    return result


def on_facts(**changes: object) -> Evidence:
    evidence = clean.evidence()
    changed = replace(evidence.facts, **changes)
    return replace(evidence, facts=changed, facts_after=changed)


def iommu(**changes: object) -> dict[str, object]:
    return {"iommu": replace(clean.facts().iommu, **changes)}


@pytest.mark.parametrize(
    ("units", "log", "kind"),
    [
        (("dmar0",), (), "intel"),
        (("ivhd0", "ivhd1"), ("DMAR: nothing",), "amd"),
        (("smmu3.0x09050000",), (), "arm"),
        ((), ("[ 0.1] AMD-Vi: AMD IOMMUv2 loaded",), "amd"),
        ((), ("[ 0.0] ACPI: DMAR 0x7FFE",), "intel"),
        ((), (), ""),
    ],
)
def test_the_iommus_maker_is_told_by_its_units_and_not_by_the_cpus(
    units: tuple[str, ...], log: tuple[str, ...], kind: str
) -> None:
    facts = replace(clean.facts(), kernel_log=log, **iommu(units=units))
    for vendor in ("AuthenticAMD", "GenuineIntel"):
        assert iommu_kind(replace(facts, cpu_vendor=vendor)) == kind


@pytest.mark.parametrize(
    ("line", "log", "remedy"),
    [
        ("quiet", ("ACPI: DMAR",), "add intel_iommu=on to the kernel command line and reboot"),
        ("intel_iommu=on", ("ACPI: DMAR",), "enable VT-d in the firmware"),
        ("iommu=off", ("ACPI: DMAR",), "remove iommu=off from the kernel command line"),
        ("quiet", ("AMD-Vi: disabled",), "AMD-Vi"),
    ],
)
def test_the_remedy_for_a_dead_iommu_fits_the_host(line: str, log: tuple[str, ...], remedy: str) -> None:
    evidence = on_facts(kernel_command_line=line, kernel_log=log, **iommu(units=(), groups=()))
    result = said(ask("host.iommu_live", evidence))
    assert result.outcome is Outcome.FAIL
    assert remedy in result.remedy


def test_a_lost_boot_log_is_made_good_by_guests_that_vfio_let_start() -> None:
    evidence = on_facts(**iommu(interrupt_remapping=None))
    assert said(ask("host.interrupt_remapping", evidence)).outcome is Outcome.PASS
    assert ask("host.interrupt_remapping", replace(evidence, guests=())) is None


def test_an_unloaded_vfio_module_leaves_remapping_unknown() -> None:
    assert ask("host.interrupt_remapping", on_facts(**iommu(unsafe_interrupts=None))) is None


def _with_link(port: Link | None, card: Link | None = None) -> Evidence:
    facts: HostFacts = clean.facts()
    devices = tuple(replace(d, link=port if d.class_code == "060400" else card) for d in facts.pci_devices)
    unwatched = on_facts(pci_devices=devices)
    guests = tuple(replace(guest, telemetry=None) for guest in unwatched.guests)
    return replace(unwatched, guests=guests, host_telemetry=None)


FULL = Link(speed_gts=16.0, width=16, max_speed_gts=16.0, max_width=16)


@pytest.mark.parametrize(
    ("port", "card", "outcome"),
    [
        (FULL, None, Outcome.PASS),
        (FULL, FULL, Outcome.PASS),
        (replace(FULL, width=8), None, Outcome.FAIL),
        (FULL, replace(FULL, width=8), Outcome.FAIL),
        (replace(FULL, max_speed_gts=8.0, speed_gts=8.0), None, Outcome.FAIL),
        (replace(FULL, speed_gts=2.5), None, None),  # at rest: nobody knows
        (replace(FULL, speed_gts=None), None, None),
        (replace(FULL, width=None), None, None),
        (None, FULL, None),
        (replace(FULL, speed_gts=32.0, max_speed_gts=32.0), None, Outcome.PASS),
    ],
)
def test_a_link_is_held_to_the_host_file(
    port: Link | None, card: Link | None, outcome: Outcome | None
) -> None:
    result = ask("gpu.link", _with_link(port, card))
    assert (result.outcome if result is not None else None) is outcome


def test_no_expected_link_is_no_pass() -> None:
    assert ask("gpu.link", clean.evidence(), replace(clean.HOST, expected_link=None)) is None


def test_one_node_makes_an_unnamed_node_known() -> None:
    facts: HostFacts = clean.facts()
    devices = tuple(replace(d, numa_node=None) for d in facts.pci_devices)
    two = said(ask("gpu.numa_node_known", on_facts(pci_devices=devices)))
    one = said(ask("gpu.numa_node_known", on_facts(pci_devices=devices, numa_nodes=facts.numa_nodes[:1])))
    assert (two.outcome, one.outcome) == (Outcome.FAIL, Outcome.PASS)


def test_tenants_are_tolerated_only_where_the_host_file_says_so_and_never_with_a_gpu() -> None:
    idle = Domain(name="tenant", uuid=None, pid=7)
    holding = replace(idle, hostdevs=(clean.address(0x41),))
    sharing = replace(clean.HOST, allow_sharing=True)
    outcomes = [
        said(ask("host.no_foreign_domains", on_facts(domains=(d,)), host)).outcome
        for d, host in ((idle, clean.HOST), (idle, sharing), (holding, sharing))
    ]
    assert outcomes == [Outcome.FAIL, Outcome.PASS, Outcome.FAIL]


def test_the_filesystem_of_the_work_directory_counts_and_no_other() -> None:
    small = Storage(path="/var/lib", total_bytes=1 << 40, free_bytes=1 << 20)
    roomy = Storage(path="/", total_bytes=1 << 40, free_bytes=1 << 39)
    lookalike = Storage(path="/var/lib/shake", total_bytes=1 << 40, free_bytes=1 << 39)
    assert said(ask("host.storage", on_facts(storage=(small, roomy)))).outcome is Outcome.FAIL
    assert said(ask("host.storage", on_facts(storage=(roomy, lookalike)))).outcome is Outcome.PASS


def test_large_bars_must_fit_the_address_space_together() -> None:
    bar = Bar(index=1, size=128 << 30, io=False, prefetchable=True, is_64bit=True)
    facts: HostFacts = clean.facts()
    devices = tuple(replace(d, bars=(bar,)) for d in facts.pci_devices)
    tight = said(ask("gpu.bars", on_facts(pci_devices=devices, physical_address_bits=40)))
    wide = said(ask("gpu.bars", on_facts(pci_devices=devices, physical_address_bits=46)))
    assert (tight.outcome, wide.outcome) == (Outcome.FAIL, Outcome.PASS)


def test_a_good_second_reset_does_not_unmake_a_bad_first() -> None:
    evidence = clean.evidence()
    bad = tuple(replace(t, state_cleared=False) for t in evidence.resets)
    assert (
        said(ask("gpu.reset_works", replace(evidence, resets=(*bad, *evidence.resets)))).outcome
        is Outcome.FAIL
    )


def test_tenants_see_what_the_host_cannot() -> None:
    evidence = clean.evidence()
    blind = tuple(replace(t, state_cleared=None) for t in evidence.resets)
    first, heir, *_ = evidence.guests
    handed_on = {t.device for t in heir.residue}
    _, cells = run_checks(replace(evidence, resets=blind, guests=(first, heir)), clean.profile(), clean.HOST)
    seen = {c.subject: c.outcome for c in cells if c.check == "gpu.reset_works"}
    assert handed_on
    assert all(seen[str(device)] is Outcome.PASS for device in handed_on)
    others = {str(t.device) for t in blind} - {str(d) for d in handed_on}
    assert all(seen[subject] is None for subject in others)


def test_an_old_kernel_need_not_name_its_reset_methods() -> None:
    facts: HostFacts = clean.facts()
    devices = tuple(replace(d, reset_methods=(), reset_file=True) for d in facts.pci_devices)
    old = replace(facts.versions, kernel="5.10.0")
    outcomes = [
        said(ask("gpu.reset_claimed", on_facts(pci_devices=devices, **extra))).outcome
        for extra in ({}, {"versions": old})
    ]
    assert outcomes == [Outcome.FAIL, Outcome.PASS]


def test_a_run_with_one_tenant_proves_nothing_about_residue() -> None:
    evidence = clean.evidence()
    assert ask("device.residue", replace(evidence, guests=evidence.guests[:1])) is None


def test_a_trial_that_planted_nothing_is_no_trial() -> None:
    evidence = clean.evidence()
    last = evidence.guests[-1]
    blank = tuple(ResidueTrial(device=t.device, planted=False, found=False) for t in last.residue)
    bare = replace(evidence, guests=(*evidence.guests[:-1], replace(last, residue=blank)))
    assert ask("device.residue", bare) is None


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("DMAR: [DMA Read NO_PASID] Request device [41:00.0] fault addr 0xfee00000", "IOMMU fault"),
        ("AMD-Vi: Event logged [IO_PAGE_FAULT device=41:00.0 domain=0x000b]", "IOMMU fault"),
        ("pcieport 0000:40:00.0: AER: Correctable error message received from 0000:41:00.0", ""),
        ("pcieport 0000:40:00.0: AER: Uncorrected (Fatal) error received: 0000:41:00.0", "PCIe error"),
        ("mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 9: bc0000400001014", "machine check"),
        ("NVRM: Xid (PCI:0000:41:00): 79, pid=1, GPU has fallen off the bus.", "GPU error"),
        ("vfio-pci 0000:41:00.0: not ready 1023ms after bus reset; waiting", "device trouble"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", "kernel fault"),
        ("DMAR: IOMMU enabled", ""),
        ("DMAR-IR: Enabled IRQ remapping in xapic mode", ""),
        ("acpi PNP0A08:00: _OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]", ""),
        ("pcieport 0000:40:00.0: AER: enabled with IRQ 24", ""),
        ("mce: CPU supports 10 MCE banks", ""),
        ("vfio-pci 0000:41:00.0: enabling device (0000 -> 0002)", ""),
        ("DMAR: Intel(R) Virtualization Technology for Directed I/O", ""),
        ("x" * 10_000_000, ""),
    ],
)
def test_kernel_lines_are_told_apart(line: str, kind: str) -> None:
    assert [found.kind for found in trouble((line,))] == ([kind] if kind else [])


WRONG_MODULE = (
    "NVRM: The NVIDIA GPU 0000:05:00.0 (PCI ID: 10de:2b85)",
    "NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
    "NVRM: GPU 0000:05:00.0: RmInitAdapter failed! (0x22:0x56:1017)",
)


def test_what_was_set_wrong_before_the_run_still_explains_what_follows_in_it() -> None:
    evidence = on_facts(kernel_log=WRONG_MODULE[:2])
    after = replace(evidence, facts_after=replace(evidence.facts_after, kernel_log=WRONG_MODULE))
    assert said(ask("host.kernel_log", after)).outcome is Outcome.ERROR
    alone = replace(evidence, facts_after=replace(evidence.facts_after, kernel_log=WRONG_MODULE[2:]))
    assert said(ask("host.kernel_log", alone)).outcome is Outcome.FAIL


def test_old_trouble_in_the_log_is_no_fault_of_this_run() -> None:
    lines = ("[ 1.0] mce: [Hardware Error]: Machine check events logged",)
    evidence = on_facts(kernel_log=lines)
    result = said(ask("host.kernel_log", evidence))
    assert result.outcome is Outcome.PASS
    assert "1 such lines from before" in result.message
    twice = replace(evidence, facts_after=replace(evidence.facts_after, kernel_log=lines * 2))
    assert said(ask("host.kernel_log", twice)).outcome is Outcome.FAIL


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        (
            ("NVRM: The NVIDIA GPU 0000:05:00.0 installed in this system is not supported by the",),
            Outcome.ERROR,
        ),
        (("Out of memory: Killed process 812 (python3)",), Outcome.ERROR),
        (("Out of memory: Killed process 812 (python3)", "mce: [Hardware Error]: CPU 3"), Outcome.FAIL),
        (("NVRM: GPU 0000:05:00.0: RmInitAdapter failed! (0x26:0x56:1482)",), Outcome.FAIL),
        (WRONG_MODULE, Outcome.ERROR),
        ((*WRONG_MODULE, "NVRM: GPU 0000:06:00.0: RmInitAdapter failed! (0x22:0x56:1017)"), Outcome.FAIL),
        (("pcieport 0000:40:00.0: AER: Corrected error received: 0000:41:00.0",), Outcome.PASS),
    ],
)
def test_what_a_guest_lacks_is_ours_to_mend_and_accuses_no_card(
    lines: tuple[str, ...], outcome: Outcome
) -> None:
    evidence = clean.evidence()
    first, *rest = evidence.guests
    evidence = replace(evidence, guests=(replace(first, kernel_log=lines), *rest))
    assert said(ask("guest.kernel_log", evidence)).outcome is outcome


def test_a_refused_reset_keeps_its_own_words_beside_what_tenants_found() -> None:
    evidence = clean.evidence()
    heir = evidence.guests[-1]
    device = heir.residue[0].device
    refused = tuple(
        replace(t, accepted=False, detail="Inappropriate ioctl for device") if t.device == device else t
        for t in evidence.resets
    )
    left = tuple(replace(t, found=True, detail="4088 of 4088 bytes are there") for t in heir.residue)
    guests = (*evidence.guests[:-1], replace(heir, residue=left))
    results, _ = run_checks(replace(evidence, resets=refused, guests=guests), clean.profile(), clean.HOST)
    result = next(r for r in results if r.check == "gpu.reset_works" and r.subject == str(device))
    assert result.outcome is Outcome.FAIL
    assert "refused the reset: Inappropriate ioctl for device; 4088 of 4088 bytes" in result.message


def test_limits_are_not_matched_where_nothing_was_measured_even_if_there_are_none() -> None:
    evidence = clean.evidence()
    idle = tuple(replace(guest, results=()) for guest in evidence.guests)
    none = replace(clean.profile(), limits={})
    _, cells = run_checks(replace(evidence, guests=idle), none, clean.HOST)
    assert next(c.outcome for c in cells if c.check == "workload.limits_matched") is None
    _, cells = run_checks(evidence, none, clean.HOST)
    assert next(c.outcome for c in cells if c.check == "workload.limits_matched") is Outcome.PASS


def test_error_counters_that_are_there_but_unreadable_prove_nothing() -> None:
    facts: HostFacts = clean.facts()
    blank = AerCounters(
        correctable=None,
        nonfatal=None,
        fatal=None,
        rootport_correctable=None,
        rootport_nonfatal=None,
        rootport_fatal=None,
    )
    devices = tuple(replace(d, aer=blank if d.aer else None) for d in facts.pci_devices)
    assert ask("gpu.aer", on_facts(pci_devices=devices)) is None


@pytest.mark.parametrize("unread", ["ksm", "numa_balancing"])
def test_noise_that_nobody_could_hear_is_not_silence(unread: str) -> None:
    quiet = replace(clean.facts().noise, **{unread: None})
    assert ask("host.noise", on_facts(noise=quiet)) is None
    no_governor = replace(clean.facts().noise, governor=None)
    assert said(ask("host.noise", on_facts(noise=no_governor))).outcome is Outcome.PASS


def test_a_host_file_that_expects_nothing_of_a_link_proves_nothing() -> None:
    host = replace(clean.HOST, expected_link=ExpectedLink())
    assert ask("gpu.link", clean.evidence(), host) is None


def test_a_gpu_whose_configuration_was_unreadable_afterwards_is_not_well() -> None:
    evidence = clean.evidence()
    devices = tuple(replace(d, config_ok=None) for d in evidence.facts_after.pci_devices)
    after = replace(evidence.facts_after, pci_devices=devices)
    assert ask("gpu.config_space", replace(evidence, facts_after=after)) is None


def test_before_any_guest_no_second_look_is_due() -> None:
    evidence = clean.evidence()
    idle = tuple(replace(guest, started=False) for guest in evidence.guests)
    early = replace(evidence, facts_after=None, guests=idle)
    assert said(ask("host.gpu_count", early)).outcome is Outcome.PASS
    assert said(ask("gpu.config_space", early)).outcome is Outcome.PASS


def test_a_host_that_falls_silent_during_a_boot_does_not_accuse_the_guest() -> None:
    """libvirt that does not answer says nothing of the guest: that is no FAIL, and so no NO_GO."""
    evidence = clean.evidence()
    first, *rest = evidence.guests
    silent = StageError(
        stage="boot", kind="ProvisionError", message="libvirt did not answer within 60 s", subject=first.name
    )
    broken = replace(evidence, guests=(replace(first, reached=False), *rest), errors=(silent,))
    results, _ = run_checks(broken, clean.profile(), clean.HOST)
    (said,) = [r for r in results if (r.check, r.subject) == ("guest.reached", first.name)]
    assert said.outcome is Outcome.ERROR
