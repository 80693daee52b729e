"""What the watch over guests prints is read as it comes, and whatever a guest or host writes stays small."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from harness.telemetry.guest.vitals import MOST_CONSOLE, VitalsReader
from tests.fakes.scripts import NONCE


def console(guest: int, text: str) -> str:
    return f"console {guest} 9 {base64.b64encode(text.encode()).decode()}"


def read(*lines: str, guests: int = 2) -> VitalsReader:
    reader = VitalsReader(guests, NONCE)
    for line in (f"shakedown 1 pulse {NONCE}", *(f"{NONCE} {line}" for line in lines)):
        reader.take(line)
    return reader


def test_each_guest_has_its_own() -> None:
    lines = ["uptime 10.50", "pid 0 4711", "pid 1 4712", "state 0 running booted", "cpu 0 100", "cpu 1 5"]
    reader = read(*lines, console(1, "[ 1.0] hello\n"), "uptime 30.50", "cpu 0 4100", "gone 1 4712")
    one, other = reader.guests
    assert (reader.uptime, reader.strange) == (30.5, 0)
    assert (one.pid, one.gone, one.state, one.console) == (4711, False, "running booted", "")
    assert (other.pid, other.gone, other.console) == (4712, True, "[ 1.0] hello\n")
    assert one.busy(20.0) == 200.0
    assert other.busy(20.0) is None


def test_a_state_of_several_words_is_one_and_none_keeps_the_last() -> None:
    assert read("state 0 paused from snapshot", "state 0").guests[0].state == "paused from snapshot"


def test_the_end_of_another_process_is_not_the_guests() -> None:
    assert not read("pid 0 7", "gone 0 6").guests[0].gone
    assert not read("pid 0 7", "gone 0 7", "pid 0 8").guests[0].gone


def test_kernels_that_began_are_counted_also_when_the_console_has_scrolled() -> None:
    began = "[    0.000000] Linux version 6.1.0\n"
    reader = read(
        console(0, began), console(0, "x\n" * MOST_CONSOLE), console(0, "shakedown-guest: init 1.2\n")
    )
    assert reader.guests[0].begun == 2


def test_no_guest_can_print_a_mark_and_no_line_breaks_the_reader() -> None:
    reader = read(
        console(0, "gone 1 4712\npid 1 1\n"), "pid 9 1", "console 0 9 $(x)", "console 0 1 QQ", "gone"
    )
    assert reader.guests[1].pid is None
    assert reader.strange == 4
    reader.take("gone 0 1")
    assert reader.strange == 5, "no mark: it is not the script's"


@given(st.lists(st.text(max_size=60)))
def test_any_lines_are_read(lines: list[str]) -> None:
    reader = read(*lines)
    for line in lines:
        reader.take(line)


def test_a_console_without_end_is_kept_short() -> None:
    reader = read(*[console(0, "y" * 2048)] * 50)
    assert len(reader.guests[0].console) == MOST_CONSOLE
