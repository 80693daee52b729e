"""A hardware-error record of several lines is one event, told by its own lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.files import load_kernel_codes
from harness.model.kernel_codes import KernelCodes
from harness.telemetry.kernel.log import Told, tell

CODES = load_kernel_codes()


def read(text: str) -> list[Told]:
    lines = [line.strip() for line in text.strip().splitlines()]
    return list(tell(((None, line) for line in lines), CODES))


def said(text: str) -> list[tuple[int, int, str, str, str]]:
    return [
        (
            told.first,
            told.last,
            told.event.family.value,
            told.event.ruling.value,
            "-" if told.event.device is None else str(told.event.device),
        )
        for told in read(text)
    ]


def firmware(severity: str, *section: str, number: int = 7) -> str:
    lines = (
        "Hardware error from APEI Generic Hardware Error Source: 4",
        *(["It has been corrected by h/w and requires no further action"] if severity == "corrected" else []),
        f"event severity: {severity}",
        f" Error 0, type: {severity}",
        *section,
    )
    return "\n".join(f"[ 99.1] {{{number}}}[Hardware Error]: {line}" for line in lines)


PCIE = (
    "  section_type: PCIe error",
    "  port_type: 4, root port",
    "  command: 0x0547, status: 0x0010",
    "  device_id: 0001:41:00.0",
    "  slot: 0",
    "  vendor_id: 0x10de, device_id: 0x2330",
    "  aer_uncor_status: 0x00040000, aer_uncor_mask: 0x00000000",
)
MEMORY = ("  section_type: memory error", "  error_type: 2, single-bit ECC", "  DIMM location: P1_DIMMA1")
PROCESSOR = ("  section_type: general processor error", "  processor_type: 0, IA32/X64")


@pytest.mark.parametrize(
    ("record", "family", "ruling", "device"),
    [
        (firmware("fatal", *PCIE), "aer", "stop", "0001:41:00.0"),
        (firmware("recoverable", *PCIE), "aer", "retest", "0001:41:00.0"),
        (firmware("corrected", *PCIE), "aer", "note", "0001:41:00.0"),
        (firmware("info", *PCIE), "aer", "note", "0001:41:00.0"),
        (firmware("corrected", *MEMORY), "mce", "retest", "-"),
        (firmware("recoverable", *MEMORY), "mce", "stop", "-"),
        (firmware("fatal", *MEMORY), "mce", "stop", "-"),
        (firmware("fatal", *PROCESSOR), "mce", "stop", "-"),
        (firmware("info", *PROCESSOR), "mce", "note", "-"),
        (firmware("recoverable"), "mce", "stop", "-"),
    ],
)
def test_firmware_tells_severity_section_and_device(
    record: str, family: str, ruling: str, device: str
) -> None:
    assert said(record) == [(1, len(record.splitlines()), family, ruling, device)]


def test_records_end_where_the_next_one_begins_and_other_lines_do_not_end_them() -> None:
    first, second = firmware("corrected", *PCIE), firmware("fatal", *MEMORY, number=8)
    lines = first.splitlines()
    mixed = "\n".join([*lines[:3], "usb 1-1: new device", *lines[3:], second])
    assert [each[2:] for each in said(mixed)] == [
        ("aer", "note", "0001:41:00.0"),
        ("mce", "stop", "-"),
    ]
    assert [each[0] for each in said(mixed)] == [1, len(lines) + 2]
    assert len(said("\n".join([first, first]))) == 2


def test_the_record_of_an_earlier_boot_is_read_as_well() -> None:
    text = """
        BERT: Error records from previous boot:
        [Hardware Error]: event severity: fatal
        [Hardware Error]:  Error 0, type: fatal
        [Hardware Error]:   section_type: PCIe error
        [Hardware Error]:   device_id: 0000:c1:00.0
    """
    assert said(text) == [(2, 5, "aer", "stop", "0000:c1:00.0")]


@pytest.mark.parametrize(
    ("text", "ruling"),
    [
        (
            """
            mce: [Hardware Error]: Machine check events logged
            [Hardware Error]: Corrected error, no action required.
            [Hardware Error]: CPU:2 (17:31:0) MC17_STATUS[Over|CE|MiscV|-|-|-|SyndV|CECC]: 0x9c2040000000011b
            [Hardware Error]: Error Addr: 0x000000017ea3ffc0
            [Hardware Error]: Unified Memory Controller Ext. Error Code: 0, DRAM ECC error.
            [Hardware Error]: cache level: L3/GEN, tx: GEN, mem-tx: RD
            """,
            "retest",
        ),
        (
            """
            mce: [Hardware Error]: Machine check events logged
            [Hardware Error]: Uncorrected, software restartable error.
            [Hardware Error]: CPU:2 (19:11:1) MC21_STATUS[-|UE|MiscV|-|-|-|SyndV|UECC]: 0xbc2040000000011b
            [Hardware Error]: cache level: L3/GEN, tx: GEN, mem-tx: RD
            """,
            "stop",
        ),
        (
            """
            [Hardware Error]: Deferred error, no action required.
            [Hardware Error]: CPU:0 (19:1:1) MC18_STATUS[-|-|-|AddrV|-|-|UECC|Deferred]: 0x8420300000000118
            """,
            "retest",
        ),
        (
            """
            mce: [Hardware Error]: CPU 4: Machine Check: 0 Bank 7: 8c00004000010091
            mce: [Hardware Error]: TSC 0 ADDR 17ea3ffc0 MISC 140
            mce: [Hardware Error]: PROCESSOR 0:50654 TIME 1732999999 SOCKET 0 APIC 8 microcode 2006e05
            """,
            "retest",
        ),
        (
            """
            mce: [Hardware Error]: CPU 4: Machine Check Exception: 5 Bank 7: bd80000000100134
            mce: [Hardware Error]: RIP 33:<00007f0000000000>
            mce: [Hardware Error]: TSC 0 ADDR 17ea3ffc0 MISC 86
            mce: [Hardware Error]: Run the above through 'mcelog --ascii'
            """,
            "stop",
        ),
    ],
)
def test_a_machine_check_is_one_event_by_its_status(text: str, ruling: str) -> None:
    count = len(text.strip().splitlines())
    assert said(text) == [(1, count, "mce", ruling, "-")]


def test_two_machine_checks_are_two_events() -> None:
    mark = "mce: [Hardware Error]:"
    one = f"{mark} CPU 4: Machine Check: 0 Bank 7: 8c00004000010091\n{mark} TSC 0"
    assert [each[:2] for each in said(f"{one}\n{one}")] == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("status", "ruling"),
    [
        ("0xbaa000000000080b", "stop"),
        ("0xb000000000000137", "stop"),
        ("0x9c2041000000011b", "note"),
        ("0x9c2049000000011b", "retest"),
        ("0x9c2051000000011b", "retest"),
    ],
)
@pytest.mark.parametrize("name", ["aca entry[00].STATUS", "ACA[01/01].STATUS"])
@pytest.mark.parametrize("number", ["", "{1}"])
def test_a_gpus_own_record_names_it_and_its_status_decides(
    status: str, ruling: str, name: str, number: str
) -> None:
    text = f"""
        amdgpu 0000:1b:00.0: {number}[Hardware Error]: Accelerator Check Architecture events logged
        amdgpu 0000:1b:00.0: {number}[Hardware Error]: {name}={status}
        amdgpu 0000:1b:00.0: {number}[Hardware Error]: {name.replace("STATUS", "ADDR")}=0x0000000000000000
        amdgpu 0000:1b:00.0: {number}[Hardware Error]: {name.replace("STATUS", "IPID")}=0x0001d02e1f007900
    """
    (told,) = read(text)
    assert said(text) == [(1, 4, "kernel", ruling, "0000:1b:00.0")]
    assert "GPU" in told.event.meaning


def test_the_records_of_two_gpus_do_not_mix() -> None:
    lines = [
        f"amdgpu 0000:{bus}:00.0: {{1}}[Hardware Error]: {words}"
        for words in ("Accelerator Check Architecture events logged", "ACA[01/01].STATUS=0xbaa000000000080b")
        for bus in ("1b", "3d")
    ]
    assert [each[4] for each in said("\n".join(lines))] == ["0000:1b:00.0", "0000:3d:00.0"]


PIECES = (
    "{1}[Hardware Error]: ",
    "[Hardware Error]: ",
    "mce: ",
    "amdgpu 0000:1b:00.0: ",
    "event severity: corrected",
    "section_type: PCIe error",
    "device_id: 0000:20:03.1",
    "Machine check events logged",
    "STATUS[-|UE|]: 0x",
    "NVRM: The NVIDIA GPU 0000:05:00.0",
    "NVRM: requires use of the NVIDIA open",
    "not ready 1ms after x; waiting",
    "ready 2ms after ",
    "\r",
    "\x1b[",
    "\\x0a",
    "[   12.0] ",
)


@given(
    st.lists(
        st.lists(st.one_of(st.text(max_size=8), st.sampled_from(PIECES)), max_size=5).map("".join),
        max_size=30,
    )
)
def test_no_log_is_too_hostile_and_events_come_in_order(lines: list[str]) -> None:
    told = list(tell(((None, line) for line in lines), KernelCodes()))
    assert [each.first for each in told] == sorted(each.first for each in told)
    assert all(1 <= each.first <= each.last <= len(lines) for each in told)


def test_many_open_records_take_bounded_memory() -> None:
    lines = (f"{{{n}}}[Hardware Error]: event severity: corrected" for n in range(20_000))
    told = list(tell(((float(n), line) for n, line in enumerate(lines)), KernelCodes()))
    assert len(told) == 20_000
