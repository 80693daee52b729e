"""Kernel logs: every form of trouble is found and ruled, nothing else is, and no line is too hostile."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.files import load_kernel_codes
from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, KernelEvent, Ruling
from harness.telemetry.kernel.forms import FORMS
from harness.telemetry.kernel.log import MOST_ALIKE, read_kernel
from harness.telemetry.kernel.text import kmsg_record, printed_line
from tests.captured import CAPTURES

CODES = load_kernel_codes()
CAPTURED = CAPTURES / "kernel-log/dmesg-with-xid-119.log"


def one(line: str) -> KernelEvent:
    (event,) = read_kernel([(12.5, line)], "g1", CODES)
    assert (event.source, event.at, event.line) == ("g1", 12.5, line)
    return event


@pytest.mark.parametrize(
    ("line", "code", "device", "ruling"),
    [
        (
            "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            *(79, "0000:05:00.0", Ruling.STOP),
        ),
        ("NVRM: Xid (0000:03:00): 14, Channel 00000001", 14, "0000:03:00.0", Ruling.UNKNOWN),
        ("NVRM: Xid (PCI:0000:9b:00): 119, pid=2024380, name=nvidia-smi", 119, "0000:9b:00.0", Ruling.RETEST),
        ("NVRM: Xid (PCI:10000:9b:00): 93, wear", 93, "10000:9b:00.0", Ruling.NOTE),
        ("NVRM: Xid (PCI:0000:05:00): 45, Ch 0000001a", 45, "0000:05:00.0", Ruling.LINK),
        ("NVRM: Xid (PCI:0000:05:00): 31", 31, "0000:05:00.0", Ruling.RETEST),
        ("NVRM: Xid (05:00): 6, old drivers had no domain", 6, "0000:05:00.0", Ruling.UNKNOWN),
        ("NVRM: Xid (PCI:0000:05:00): 4242, from the future", 4242, "0000:05:00.0", Ruling.UNKNOWN),
        ("NVRM: Xid (no address here): 48, x", 48, None, Ruling.STOP),
    ],
)
def test_an_xid_is_read_in_every_form_the_driver_writes(
    line: str, code: int, device: str | None, ruling: Ruling
) -> None:
    event = one(line)
    assert (event.family, event.code, event.ruling) == (Family.XID, code, ruling)
    assert event.device == (None if device is None else PciAddress.parse(device))
    assert event.meaning


@pytest.mark.parametrize(
    ("said", "ruling"),
    [("Nonfatal", Ruling.RETEST), ("Non-fatal", Ruling.RETEST), ("Fatal", Ruling.STOP), ("", Ruling.STOP)],
)
def test_nvlink_5_that_calls_its_event_non_fatal_takes_no_card_out(said: str, ruling: Ruling) -> None:
    event = one(f"NVRM: Xid (PCI:0018:01:00): 145, RLW_REMAP {said} XC0 i0 Link 00 (0x00000084 0x00000001)")
    assert event.ruling is ruling
    assert one(f"NVRM: Xid (PCI:0018:01:00): 48, {said} x").ruling is Ruling.STOP


def test_the_form_of_a_mig_instance_names_gpu_and_instance() -> None:
    event = one("NVRM: Xid (PCI:0000:01:00 GPU-I:05): 94, pid=7194, name=python, Contained: SM (0x1).")
    assert (event.code, str(event.device), event.instance) == (94, "0000:01:00.0", "GPU-I:05")
    assert event.ruling is Ruling.RETEST


def test_an_nvlink_xid_has_the_sub_code_of_bits_20_to_25() -> None:
    line = (
        "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 "
        "(0x004505c6 0x00000000 0x00000000 0x00000000 0x00000000 0x00000000)"
    )
    event = one(line)
    assert (event.code, event.subcode, str(event.device)) == (149, 0x004505C6 >> 20 & 0x3F, "0018:01:00.0")
    assert event.subcode == 4
    assert one(line.replace("149", "119")).subcode is None


def test_an_xid_line_that_cannot_be_read_is_unknown_and_never_lost() -> None:
    for line in ("NVRM: Xid in a new form 79", "NVRM: Xid (PCI:0000:05:00): seventy-nine", "NVRM: Xid"):
        event = one(line)
        assert (event.family, event.code, event.ruling) == (Family.XID, None, Ruling.UNKNOWN)


def test_a_gpu_off_the_bus_without_a_code_is_ruled_as_79() -> None:
    event = one("NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.")
    known = CODES.of("xid")[79]
    assert (event.family, event.code, str(event.device)) == (Family.BUS, None, "0000:18:00.0")
    assert (event.ruling, event.meaning, event.action) == (known.ruling, known.meaning, known.action)
    assert event.ruling is Ruling.STOP


def test_the_drivers_sentence_over_two_lines_names_the_gpu_of_the_first() -> None:
    lines = (
        "NVRM: GPU at PCI:0000:9b:00: GPU-509665ad-b600-ac93-3616-d754b23d636d",
        "NVRM: The NVIDIA GPU 0000:18:00.0",
        "NVRM: (PCI ID: 10de:2336) installed in this system has",
        "NVRM: fallen off the bus and is not responding to commands.",
    )
    (event,) = read_kernel([(None, line) for line in lines], "host", CODES)
    assert (event.family, str(event.device), event.ruling) == (Family.BUS, "0000:18:00.0", Ruling.STOP)


@pytest.mark.parametrize(
    ("line", "code", "ruling"),
    [
        (
            "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
            *(20034, Ruling.STOP),
        ),
        (
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 11012, Non-fatal, Link 32 ECC",
            *(11012, Ruling.NOTE),
        ),
        ("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 11012, Fatal, Link 32 ECC", 11012, Ruling.STOP),
        ("nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 99999, Non-fatal", 99999, Ruling.UNKNOWN),
        ("nvidia-nvswitch3: SXid without a place", None, Ruling.UNKNOWN),
    ],
)
def test_a_switch_that_calls_its_event_fatal_is_believed(line: str, code: int | None, ruling: Ruling) -> None:
    event = one(line)
    assert (event.family, event.code, event.ruling) == (Family.SXID, code, ruling)


@pytest.mark.parametrize(
    ("line", "family", "ruling", "device"),
    [
        (
            "pcieport 0000:40:00.0: AER: Correctable error message received from 0000:41:00.0",
            *(Family.AER, Ruling.NOTE, "0000:41:00.0"),
        ),
        (
            "nvidia 0000:41:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer, (Receiver ID)",
            *(Family.AER, Ruling.NOTE, "0000:41:00.0"),
        ),
        (
            "nvidia 0000:41:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=Transaction Layer",
            *(Family.AER, Ruling.RETEST, "0000:41:00.0"),
        ),
        (
            "nvidia 0000:41:00.0: PCIe Bus Error: severity=Uncorrectable (Fatal), type=Inaccessible",
            *(Family.AER, Ruling.STOP, "0000:41:00.0"),
        ),
        (
            "pcieport 0000:40:00.0: AER: Multiple Uncorrected (Fatal) error received: 0000:41:00.0",
            *(Family.AER, Ruling.STOP, "0000:41:00.0"),
        ),
        ("pcieport 0000:40:00.0: AER: device recovery failed", Family.AER, Ruling.RETEST, "0000:40:00.0"),
        ("pcieport 0000:40:01.0: pciehp: Slot(1): Link Down", Family.BUS, Ruling.STOP, "0000:40:01.0"),
        ("mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 9: bc0000", Family.MCE, Ruling.STOP, None),
        ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0", Family.MCE, Ruling.RETEST, None),
        ("EDAC MC0: 2 UE memory read error on CPU_SrcID#0", Family.MCE, Ruling.STOP, None),
        (
            "DMAR: [DMA Write NO_PASID] Request device [41:00.0] fault addr 0x0 [fault reason 0x05]",
            *(Family.IOMMU, Ruling.STOP, "0000:41:00.0"),
        ),
        (
            "vfio-pci 0000:41:00.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x000b address=0x1000]",
            *(Family.IOMMU, Ruling.STOP, "0000:41:00.0"),
        ),
        (
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=c1:00.1 domain=0x000b address=0x1000 flags=0x0]",
            *(Family.IOMMU, Ruling.STOP, "0000:c1:00.1"),
        ),
        ("arm-smmu-v3 9050000.smmuv3: event 0x10 received:", Family.IOMMU, Ruling.STOP, None),
        ("INFO: task python3:812 blocked for more than 120 seconds.", Family.HUNG_TASK, Ruling.RETEST, None),
        ("Out of memory: Killed process 812 (python3)", Family.OOM, Ruling.CONFIG, None),
        ("Memory cgroup out of memory: Killed process 812 (hashcat)", Family.OOM, Ruling.CONFIG, None),
        ("watchdog: BUG: soft lockup - CPU#2 stuck for 22s!", Family.KERNEL, Ruling.RETEST, None),
        (
            "NVRM: GPU 0000:18:00.0: RmInitAdapter failed! (0x62:0x40:2449)",
            *(Family.KERNEL, Ruling.RETEST, "0000:18:00.0"),
        ),
        (
            "NVRM: API mismatch: the client has the version 535.1, but this kernel module has 550.2",
            *(Family.KERNEL, Ruling.CONFIG, None),
        ),
    ],
)
def test_the_kernels_own_words_are_told_apart(
    line: str, family: Family, ruling: Ruling, device: str | None
) -> None:
    event = one(line)
    assert (event.family, event.ruling) == (family, ruling)
    assert event.device == (None if device is None else PciAddress.parse(device))
    assert event.action is not Action.NONE


@pytest.mark.parametrize(
    "line",
    [
        "Linux version 6.1.0",
        "DMAR: IOMMU enabled",
        "pcieport 0000:40:00.0: AER: enabled with IRQ 24",
        "mce: CPU supports 10 MCE banks",
        "EDAC MC0: Giving out device to module skx_edac",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  535.261.03",
        "NVRM: GPU4 RPC history (CPU -> GSP):",
        "pcieport 0000:40:01.0: pciehp: Slot(1): Link Up",
        "rcu: Hierarchical RCU implementation.",
        "Xid is only a word here",
    ],
)
def test_ordinary_lines_are_no_events(line: str) -> None:
    assert read_kernel([(None, line)], "host", CODES) == ()


def test_every_form_fails_or_is_a_note_and_says_what_it_means() -> None:
    assert {form.ruling for form in FORMS} <= {Ruling.STOP, Ruling.RETEST, Ruling.CONFIG, Ruling.NOTE}
    assert all(form.meaning and form.action is not Action.NONE for form in FORMS)


def test_without_tables_every_code_is_unknown() -> None:
    (event,) = read_kernel([(1.0, "NVRM: Xid (PCI:0000:05:00): 79, x")], "host", KernelCodes())
    assert (event.code, event.ruling) == (79, Ruling.UNKNOWN)


PIECES = (
    "NVRM: Xid",
    "SXid",
    " (PCI:0000:05:00",
    " GPU-I:05",
    "): 79",
    ", ",
    "AER:",
    "DMAR:",
    "(0x",
    "fault",
)


@given(st.lists(st.one_of(st.text(), st.sampled_from(PIECES)), max_size=12).map("".join))
def test_no_line_is_too_hostile(line: str) -> None:
    for event in read_kernel([(None, line)], "host", CODES):
        assert event.line == line[:4096]
        assert event.ruling in Ruling


@pytest.mark.parametrize(
    "piece", ["NVRM: Xid (", "DMAR: ", "AER: ", "AER: correct", "NVRM: GPU 0000:", "EDAC 1 "]
)
def test_a_line_without_end_costs_no_time(piece: str) -> None:
    before = time.process_time()
    read_kernel([(None, piece * 400_000)] * 3, "host", CODES)
    assert time.process_time() - before < 2.0


def test_a_record_of_the_kernels_device_is_taken_apart() -> None:
    assert kmsg_record("3,812,12500000,-;NVRM: Xid; still text") == (12.5, 812, "NVRM: Xid; still text")
    assert kmsg_record("6,1,5,-,caller=T1;x") == (5e-06, 1, "x")
    assert kmsg_record("12,1,5,-;mce: x") == (5e-06, 1, "<8>mce: x"), "a program wrote it"
    for other in (" SUBSYSTEM=pci", "", "3,812;x", "a,b,c,-;x", "3,812,12500000,-"):
        assert kmsg_record(other) is None


def test_a_printed_line_has_its_time_when_it_is_one_since_boot() -> None:
    assert printed_line("[   12.345678] NVRM: x") == (12.345678, "NVRM: x")
    assert printed_line("<3>[12.5] x") == (12.5, "x")
    dated = "[Sun Feb 23 16:24:18 2025] NVRM: x"
    assert printed_line(dated) == (None, dated)


def test_a_captured_log_with_xid_119_holds_just_its_xids() -> None:
    lines = CAPTURED.read_text().splitlines()
    events = read_kernel([printed_line(line) for line in lines], "host", CODES)
    said = [line for line in lines if "NVRM: Xid" in line]
    assert said
    assert [(e.family, e.code, str(e.device), e.ruling) for e in events] == [
        (Family.XID, 119, "0000:9b:00.0", Ruling.RETEST)
    ] * len(said)


def test_a_storm_is_told_by_its_beginning_and_its_end_and_hides_nothing_else() -> None:
    storm = [(float(at), f"pcieport 0000:40:01.0: AER: Corrected error {at}") for at in range(5000)]
    storm.insert(2500, (2500.5, "NVRM: Xid (PCI:0000:05:00): 79, pid=1, GPU has fallen off the bus."))
    events = read_kernel(storm, "host", CODES)
    assert len(events) == 2 * MOST_ALIKE + 1
    assert [event.at for event in events] == sorted(event.at or 0.0 for event in events)
    assert (events[0].at, events[-1].at) == (0.0, 4999.0)
    assert events[MOST_ALIKE].code == 79
