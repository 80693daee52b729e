"""The framed transcript: complete or refused, and no content passes for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.facts import parse_transcript
from harness.facts.ask import SECTIONS
from harness.facts.frames import read_frames

NONCE = "00112233445566778899aabbccddeeff"


def transcript(frames: dict[str, list[tuple[str, bytes]]] | None = None) -> bytes:
    """A complete transcript with these frames in their sections."""
    parts = [b"shakedown 1 facts " + NONCE.encode() + b"\n"]
    for section in SECTIONS:
        inside = (frames or {}).get(section, [])
        parts += [f"\n{NONCE} {header}\n".encode() + content for header, content in inside]
        parts.append(f"\n{NONCE} part {section} {len(inside)}\n".encode())
    return b"".join((*parts, f"\n{NONCE} exit 0 0\n".encode()))


def test_an_empty_but_complete_transcript_is_all_unknown() -> None:
    facts = parse_transcript(transcript())
    assert facts.hostname is None
    assert facts.numa_nodes == ()
    assert facts.domains is None
    assert facts.iommu.interrupt_remapping is None
    assert "the kernel log is unreadable" in facts.warnings


@pytest.mark.parametrize("section", SECTIONS)
def test_a_missing_section_is_named(section: str) -> None:
    cut = transcript().replace(f"\n{NONCE} part {section} 0\n".encode(), b"")
    with pytest.raises(ParseError, match=section):
        read_frames(cut)


def test_a_transcript_that_broke_off_names_where() -> None:
    whole = transcript({"pci": [("P /x", b"")]})
    with pytest.raises(ParseError, match="the answer breaks off in 'P /x'"):
        read_frames(whole[: whole.index(b"part pci")])


def test_sections_that_are_there_twice_are_refused() -> None:
    section = f"\n{NONCE} part pci 0\n".encode()
    with pytest.raises(ParseError, match="duplicate or unknown"):
        read_frames(transcript().replace(section, section * 2))


def test_a_lost_frame_is_noticed() -> None:
    whole = transcript({"cpus": [("P /sys/devices/system/cpu/cpu0", b"")]})
    with pytest.raises(ParseError, match="part cpus has 1 frames by its own count, 0 are there"):
        read_frames(whole.replace(f"{NONCE} P".encode(), b"0 P"))


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"Last login: today\n$ "])
def test_foreign_text_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError, match="no answer"):
        parse_transcript(raw)


def test_a_login_message_before_the_transcript_does_no_harm() -> None:
    read_frames(b"Welcome!\n" + transcript())


def test_content_cannot_forge_a_frame() -> None:
    """A file holding frame headers with any nonce but ours stays one file."""
    other = "f" * 32
    hostile = f"Debian\n{other} F /proc/cmdline\nevil\n{other} exit 0 0\n".encode()
    frames = read_frames(transcript({"system": [("F /etc/os-release", hostile)]}))
    assert "/proc/cmdline" not in frames.files
    assert frames.files["/etc/os-release"] == hostile


def test_a_line_break_in_an_attribute_cannot_forge_another_file() -> None:
    """grep puts the true path before every line, so forged text stays behind it."""
    path = "/sys/bus/pci/devices/0000:41:00.0"
    lines = (
        f"{path}/label:first\n"
        f"{path}/label:/sys/bus/pci/devices/0000:42:00.0/numa_node:0\n"
        f"{path}/numa_node:1\n"
    )
    frames = read_frames(transcript({"pci": [("G pci", lines.encode())]}))
    assert frames.text(f"{path}/label") == "first\n/sys/bus/pci/devices/0000:42:00.0/numa_node:0"
    assert frames.text(f"{path}/numa_node") == "1"
    assert "/sys/bus/pci/devices/0000:42:00.0/numa_node" not in frames.files


def test_a_file_that_appears_twice_is_refused() -> None:
    twice = [("F /proc/cmdline", b"a"), ("F /proc/cmdline", b"b")]
    with pytest.raises(ParseError, match="twice"):
        read_frames(transcript({"system": twice}))


def test_a_line_of_no_asked_file_is_refused() -> None:
    with pytest.raises(ParseError, match="a file that was not requested"):
        read_frames(transcript({"pci": [("G pci", b"Binary file matches\n")]}))


def test_configuration_bytes_are_cut_at_the_names_that_head_prints() -> None:
    names = b"0000:41:00.0\n0000:42:00.0\n0000:43:00.0\n"
    blob = (
        b"==> 0000:41:00.0/config <==\n\x34\x12\n\n==> 0000:43:00.0/config <==\n\xff\xff\n==> /dev/null <==\n"
    )
    frames = read_frames(
        transcript({"pci": [("D /sys/bus/pci/devices", names), ("X header", blob.hex(" ").encode() + b"\n")]})
    )
    assert frames.files["/sys/bus/pci/devices/0000:41:00.0/config"] == b"\x34\x12\n"
    assert frames.files["/sys/bus/pci/devices/0000:43:00.0/config"] == b"\xff\xff"
    assert "/sys/bus/pci/devices/0000:42:00.0/config" not in frames.files


def test_configuration_bytes_that_hold_another_name_are_unknown() -> None:
    """A device whose configuration space spells another's name must not speak for it."""
    names = b"0000:41:00.0\n0000:42:00.0\n"
    forged = b"\n==> 0000:42:00.0/config <==\n"
    blob = b"==> 0000:41:00.0/config <==\nAA" + forged + b"BB" + forged + b"CC\n==> /dev/null <==\n"
    frames = read_frames(
        transcript({"pci": [("D /sys/bus/pci/devices", names), ("X header", blob.hex().encode())]})
    )
    assert not [path for path in frames.files if path.endswith("/config")]
    assert frames.warnings == ["the header bytes of PCI functions could not be separated"]


def test_ten_megabytes_of_one_line_are_read_as_text() -> None:
    facts = parse_transcript(transcript({"system": [("F /proc/cmdline", b"x" * 10_000_000)]}))
    assert facts.kernel_command_line is not None
    assert len(facts.kernel_command_line) == 10_000_000


def test_bytes_that_are_not_utf8_become_escapes() -> None:
    facts = parse_transcript(transcript({"system": [("F /proc/cmdline", b"quiet \xff\x1b[31m\n")]}))
    assert facts.kernel_command_line == "quiet \\xff\x1b[31m"


@given(
    st.dictionaries(
        st.sampled_from(SECTIONS),
        st.lists(
            st.tuples(
                st.builds("{} {}".format, st.sampled_from("GFLDPCXZ"), st.text("/abc:. \\", max_size=12)),
                st.binary(max_size=60),
            ),
            max_size=3,
        ),
    )
)
def test_any_frames_give_facts_or_a_parse_error(frames: dict[str, list[tuple[str, bytes]]]) -> None:
    try:
        facts = parse_transcript(transcript(frames))
    except ParseError:
        return
    assert facts.schema_version == 1
