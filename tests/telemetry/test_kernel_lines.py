"""Every way in which kernels tell of trouble is known, whatever stands before it, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.files import load_kernel_codes
from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import Ruling
from harness.telemetry.kernel.forms import FORMS, form_of
from harness.telemetry.kernel.log import Told, tell
from harness.telemetry.kernel.text import message
from tests.telemetry.lines import CASES, EVENTS, KNOWN, Known

CODES = load_kernel_codes()


def read(*lines: str) -> list[Told]:
    return list(tell(((None, line) for line in lines), CODES))


def said(*lines: str) -> list[tuple[str, str, str]]:
    """Family, ruling and device of each event."""
    events = [told.event for told in read(*lines)]
    return [(e.family.value, e.ruling.value, "-" if e.device is None else str(e.device)) for e in events]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.line[:60])
def test_a_line_is_known_by_its_words(known: Known) -> None:
    right = [] if known.family == "none" else [(known.family, known.ruling, known.device)]
    assert said(known.line) == right


def test_a_gpu_without_its_memory_window_is_not_accused_and_excuses_no_other() -> None:
    unassigned = "xe 0000:65:00.0: can't enable device: BAR 2 [mem size 0x400000000 64bit pref] not assigned"
    of_network = "mlx5_core 0000:17:00.0: can't enable device: BAR 0 [mem size 0x02000000] not assigned"
    failed = "xe 0000:65:00.0: probe with driver xe failed with error -22"
    assert [each[1] for each in said(unassigned, failed)] == ["config", "config"]
    assert [each[1] for each in said(of_network, failed)] == ["config", "retest"]
    assert [each[1] for each in said(of_network, "NVRM: rm_init_adapter(0) failed")] == ["config", "retest"]


def test_every_form_has_a_line_that_shows_it() -> None:
    shown = [form_of(message(known.line)) for known in EVENTS]
    assert [form.meaning for form in FORMS if form not in shown] == []


RULED = (Path(CASES) / "kernel-lines-1" / "lines.tsv").read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.parametrize("row", RULED)
def test_a_line_of_the_list_is_an_event_a_note_or_nothing(row: str) -> None:
    expected, line = row.split("\t")
    rulings = [told.event.ruling for told in read(line)]
    right = {
        "event": [[Ruling.STOP], [Ruling.RETEST], [Ruling.CONFIG], [Ruling.UNKNOWN]],
        "note-or-retest": [[Ruling.NOTE], [Ruling.RETEST]],
        "innocent": [[]],
    }
    assert rulings in right[expected]


WORDS = "vfio-pci 0000:41:00.0: not ready 65535ms after FLR; giving up"


@pytest.mark.parametrize(
    "line",
    [
        WORDS,
        f"[  402.456138] {WORDS}",
        f"<4>[  402.456138] {WORDS}",
        f"[  402.456138][ T1234] {WORDS}",
        f"[  402.456138] [    T12] {WORDS}",
        f"[Sun Feb 23 16:24:18 2025] {WORDS}",
        f"2025-01-25T10:34:54,859532+00:00 {WORDS}",
        f"[2026-04-22T21:27:51.288830314Z]: {WORDS}",
        f"kern  :err   : [  402.456138] {WORDS}",
        f"kern  :warn  : 2025-01-25T10:34:54,859532+00:00 {WORDS}",
        f"192.0.2.9: kern: warning: [2026-04-22T21:27:51.288830314Z]: {WORDS}",
        f"Nov 30 20:26:01 node7 kernel: {WORDS}",
        f"Nov  3 20:26:01 node7.example.org kernel: [  402.456138] {WORDS}",
        f"Nov 30 20:26:01.123456 node7 kernel: {WORDS}",
        f"2026-11-30T20:26:01+0100 node7 kernel: {WORDS}",
        f"2026-11-30T20:26:01.123456+01:00 node7 kernel: {WORDS}",
        f"[  402.456138] node7 kernel: {WORDS}",
        f"kernel: {WORDS}",
        f"Mon 2026-11-30 20:26:01 CET node7 kernel: {WORDS}",
        f"1796070361.123456 node7 kernel: {WORDS}",
        f"Nov 30 20:26:01 node7 kern.warn kernel: [  402.456138] {WORDS}",
        f"Nov 30 20:26:01 kernel: {WORDS}",
        f"[  402.456138 <    0.000012>] {WORDS}",
        f"[  402.456138 <    0.000012 >] node7 kernel: {WORDS}",
        f"[Nov30 20:26] {WORDS}",
        f"[  +0.000123] {WORDS}",
        f"4,812,402456138,-;{WORDS}",
        f"4,812,402456138,-,caller=T1;{WORDS}",
        f"\x1b[0;31m[  402.456138] {WORDS}\x1b[0m\r",
        f"\x1b[33m[  402.456138] \x1b[0m\x1b[1mvfio-pci 0000:41:00.0\x1b[0m: {WORDS.split(': ', 1)[1]}",
        f"node7 login: [  402.456138] {WORDS}",
        f"[   12.0] usb 1-1: new device\r[  402.456138] {WORDS}",
        f"[0;31m[  402.456138] {WORDS}[0m",
        f"[Di Mär  4 11:02:31 2025] {WORDS}",
        f"[mar. août  4 11:02:31 2025] {WORDS}",
        f"[火  3月  4 11:02:31 2025] {WORDS}",
        f"[Mär 4 11:02] {WORDS}",
        f"мар 04 11:02:31 node7 kernel: {WORDS}",
        f"11月 15 14:15:47 node7 kernel: {WORDS}",
        f"sept. 04 11:02:31 node7 kernel: [  402.456138] {WORDS}",
        f"11:02:31 node7 kernel: {WORDS}",
        f"11:02:31.123 {WORDS}",
        f"3/4/2025 11:02:31 AM node7 kernel: {WORDS}",
        f"04.03.2025 11:02:31 node7 kernel: {WORDS}",
        f"<4>1 2025-03-04T11:02:31.123456+01:00 node7 kernel - - - {WORDS}",
        f'<4>1 - node7 kernel - - [meta sequenceId="12"] {WORDS}',
        f"node7 | [  402.456138] {WORDS}",
        f"node7: Mar  4 11:02:31 node7 kernel: {WORDS}",
        f"node7: [mar. août  4 11:02:31 2025] {WORDS}",
        f"kern.log.2.gz:1234:Mar  4 11:02:31 node7 kernel: {WORDS}",
        f"/var/log/messages-20250304:2025-03-04T11:02:31+01:00 node7 kernel: {WORDS}",
        f"\x00\x00[  402.456138] {WORDS}",
    ],
)
def test_it_does_not_matter_what_stands_before_the_kernels_words(line: str) -> None:
    assert said(line) == [("kernel", "retest", "0000:41:00.0")]


@pytest.mark.parametrize(
    "line",
    [
        "Nov 30 20:26:01 node7 monitor[812]: NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus.",
        "2026-11-30T20:26:01+0100 node7 python3[812]: BUG: unable to open",
        "Nov 30 20:26:01 node7 sshd: Kernel panic - not syncing: no",
        "Mär 04 11:02:31 node7 monitor[812]: NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus.",
        "11月 15 14:15:47 node7 monitor: NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus.",
        "11:02:31 node7 monitor[812]: vfio-pci 0000:41:00.0: not ready 65535ms after FLR; giving up",
        "<14>1 2025-03-04T11:02:31Z node7 monitor 812 - - NVRM: Xid (PCI:0000:41:00): 79, GPU lost",
        'monitor: read "NVRM: Xid (PCI:0000:41:00): 79, GPU has fallen off the bus."',
        "audit: type=1400 comm='BUG: scheduling while atomic'",
        "cron[1]: (root) CMD (grep -c 'pcieport 0000:40:00.0: DPC: containment event' /var/log/kern.log)",
    ],
)
def test_what_only_quotes_a_kernel_is_no_event(line: str) -> None:
    assert said(line) == []


def test_a_times_stamp_is_told_where_it_counts_from_the_boot() -> None:
    for line, at in (
        (f"[   12.345678][  T812] {WORDS}", 12.345678),
        (f"Nov 30 20:26:01 node7 kernel: [   12.345678] {WORDS}", 12.345678),
        (f"[Sun Feb 23 16:24:18 2025] {WORDS}", None),
    ):
        assert read(line)[0].event.at == at


def test_a_device_that_came_back_was_only_slow() -> None:
    slow = [f"nvme 0000:41:00.0: not ready {ms}ms after bus reset; waiting" for ms in (1023, 2047, 4095)]
    assert said(*slow, "nvme 0000:41:00.0: ready 8191ms after bus reset") == []
    assert said(*slow, "nvme 0000:42:00.0: ready 8191ms after bus reset") == [
        ("kernel", "retest", "0000:41:00.0")
    ]
    (told,) = read("usb 1-1: x", *slow, "nvme 0000:41:00.0: not ready 65535ms after bus reset; giving up")
    assert (told.first, told.last) == (2, 5)
    (told,) = read(*slow, "usb 1-1: new high-speed USB device")
    assert (told.first, told.last, told.event.ruling) == (1, 3, Ruling.RETEST)
    assert "does not show that it came back" in told.event.meaning


def test_what_says_more_of_a_pcie_error_belongs_to_it() -> None:
    told = read(
        "pcieport 0000:00:1c.1: AER: Uncorrectable (Non-Fatal) error message received from 0000:03:00.1",
        "vfio-pci 0000:03:00.0: PCIe Bus Error: severity=Uncorrectable (Non-Fatal), type=Transaction Layer",
        "vfio-pci 0000:03:00.0:   device [1002:73ef] error status/mask=00100000/00000000",
        "vfio-pci 0000:03:00.0:    [20] UnsupReq               (First)",
        "vfio-pci 0000:03:00.0: AER:   TLP Header: 60001004 000000ff 0000007d fe7eb000",
        "vfio-pci 0000:03:00.0: AER:   Error of this Agent is reported first",
        "pcieport 0000:02:00.0: AER: device recovery successful",
    )
    assert [(each.first, each.last, str(each.event.device)) for each in told] == [
        (1, 1, "0000:03:00.1"),
        (2, 6, "0000:03:00.0"),
    ]


OPEN_MODULES = (
    "NVRM: The NVIDIA GPU 0000:05:00.0 (PCI ID: 10de:2b85)",
    "NVRM: installed in this system requires use of the NVIDIA open kernel modules.",
)


@pytest.mark.parametrize(
    "lines",
    [
        OPEN_MODULES,
        (r"NVRM: The NVIDIA GPU 0000:05:00.0 (PCI ID: 10de:2b85)\x0a" + OPEN_MODULES[1],),
        (
            "NVRM: The NVIDIA GPU 0000:05:00.0 (PCI ID: 10de:2b85) installed in this system requires",
            "NVRM: use of the NVIDIA open kernel modules.",
        ),
        (f"[    5.5] {OPEN_MODULES[0]}", f"               {OPEN_MODULES[1]}"),
        (
            "NVRM: The NVIDIA GPU 0000:05:00.0",
            "NVRM: (PCI ID: 10de:1c03) installed in this system is",
            "NVRM: not supported by the NVIDIA 390.157 driver release.",
        ),
    ],
)  # fmt: skip
def test_a_sentence_over_several_lines_is_one_event_and_names_its_gpu(lines: tuple[str, ...]) -> None:
    (told,) = read(*lines)
    assert (told.first, told.last) == (1, len(lines))
    event = told.event
    assert (event.ruling, event.action, str(event.device)) == (
        Ruling.CONFIG,
        Action.FIX_CONFIG,
        "0000:05:00.0",
    )


INIT = "NVRM: GPU 0000:{}:00.0: RmInitAdapter failed! (0x22:0x56:1017)"


def test_what_follows_from_a_wrong_setting_accuses_no_card_and_nothing_else_is_excused() -> None:
    config, retest, stop = "config", "retest", "stop"
    later = ("NVRM: Xid (PCI:0000:05:00): 79, pid=1, GPU has fallen off the bus.",)
    loaded = "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.86"
    for lines, right in (
        ((*OPEN_MODULES, INIT.format("05")), [config, config]),
        ((*OPEN_MODULES, "nvidia: probe of 0000:05:00.0 failed with error -1"), [config, config]),
        ((*OPEN_MODULES, INIT.format("06")), [config, retest]),
        ((*OPEN_MODULES, *later), [config, stop]),
        ((*OPEN_MODULES, loaded, INIT.format("05")), [config, retest]),
        ((*OPEN_MODULES, "Linux version 6.8.0", INIT.format("05")), [config, retest]),
        (("Lockdown: modprobe: unsigned module loading is restricted", INIT.format("05")), [config, retest]),
        ((INIT.format("05"), *OPEN_MODULES), [retest, config]),
    ):
        assert [told.event.ruling.value for told in read(*lines)] == right


def test_vt_d_names_the_requester_by_its_number() -> None:
    (told,) = read("DMAR: VT-d detected Invalidation Time-out Error: SID c1fb")
    assert told.event.device == PciAddress(0, 0xC1, 0x1F, 3)
