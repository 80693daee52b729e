"""Progress: plain lines where nobody watches, few of them, and no control characters from a host."""

from __future__ import annotations

import io
import re
import time

import pytest

from harness.progress import Progress, step
from tests.alone import alone


def lines(stream: io.StringIO) -> list[str]:
    """What was printed, without the clock."""
    return [re.sub(r"^\[\d+:\d\d\] ", "", line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_each_line_says_the_time_and_the_stage(stream) -> None:
    progress = Progress(stream)
    progress("before any stage")
    progress.stage("discover")
    progress("connecting")
    assert re.fullmatch(r"\[0:00\] before any stage", stream.getvalue().splitlines()[0])
    assert lines(stream) == ["before any stage", "discover ...", "discover: connecting"]


def test_waiting_is_not_repeated_for_each_second(stream) -> None:
    progress = Progress(stream)
    progress.stage("boot")
    for second in range(50):
        progress(f"waiting for g1 to boot: {second} s of at most 600 s")
    assert lines(stream) == ["boot ...", "boot: waiting for g1 to boot: 0 s of at most 600 s"]


def test_another_message_is_never_held_back(stream) -> None:
    progress = Progress(stream)
    for text in ("copying a", "copying b", "copying a"):
        progress(text)
    assert lines(stream) == ["copying a", "copying b", "copying a"]


def test_the_same_waiting_in_another_stage_is_said_again(stream) -> None:
    progress = Progress(stream)
    for name in ("g1: boot", "g2: boot"):
        progress.stage(name)
        progress("waiting: 1 s")
    assert lines(stream).count("g2: boot: waiting: 1 s") == 1


def test_hostile_text_cannot_reach_the_terminal(stream) -> None:
    progress = Progress(stream)
    progress("\x1b[2J\x1b]0;owned\x07 all\nlines\rare \x9b one " + "x" * 10_000)
    (line,) = lines(stream)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)
    assert len(line) <= 300


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_keeps_what_happened_and_shows_markup_as_text() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.stage("host")
    progress("copying [bold]image[/bold]")
    progress("waiting for g1: 3 s")
    progress.done()
    progress.done()
    assert "copying [bold]image[/bold]" in stream.getvalue()


def test_text_that_would_turn_a_line_round_is_shown_as_blanks(stream) -> None:
    Progress(stream)("guest said \x1b[2J\u202eOG\udc80 and more\n[0:00] GO")
    assert lines(stream) == ["guest said  [2J OG  and more [0:00] GO"]


class Broken(io.StringIO):
    """A stream that refuses what is written to it."""

    def __init__(self, error: Exception, *, terminal: bool = False) -> None:
        super().__init__()
        self.error, self.terminal, self.asked = error, terminal, 0

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str, /) -> int:
        self.asked += 1
        raise self.error


def speak(progress: Progress) -> None:
    progress.stage("host")
    progress("connecting")
    progress("waiting: 3 s")
    progress.stage("boot")
    progress.done()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "gone"), ValueError("closed file")])
def test_a_broken_stream_is_written_to_no_more_and_breaks_nothing(error: Exception, terminal: bool) -> None:
    stream = Broken(error, terminal=terminal)
    speak(Progress(stream))
    assert stream.asked == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_a_closed_stream_breaks_nothing(terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    progress = Progress(stream)
    stream.close()
    speak(progress)
    speak(Progress(stream))


def test_a_line_in_the_middle_of_another_is_lost_alone() -> None:
    stream = Broken(RuntimeError("reentrant call"))
    speak(Progress(stream))
    assert stream.asked > 1


def test_a_stream_of_few_characters_shows_the_others_as_escapes() -> None:
    data = io.BytesIO()
    progress = Progress(io.TextIOWrapper(data, encoding="ascii"))
    progress("café")
    progress("more")
    assert [line[7:] for line in data.getvalue().splitlines()] == [rb"caf\xe9", b"more"]


def test_nobody_reads_any_more_and_the_signal_for_it_would_end_us() -> None:
    code = """
from harness.progress import Progress, step
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
reading, writing = os.pipe()
progress = Progress(os.fdopen(writing, "w"))
os.close(reading)
progress("nobody hears")
progress("me")
print("lives", flush=True)
os._exit(0)
"""
    assert alone(code) == "lives\n"


def test_a_closed_descriptor_below_the_stream_breaks_nothing() -> None:
    code = """
from harness.progress import Progress, step
progress = Progress(open("/dev/null", "w"))
close_all()
progress("nobody hears")
progress("me")
print("lives", flush=True)
os._exit(0)
"""
    assert alone(code) == "lives\n"


@pytest.mark.parametrize("said", ["", "waiting for g1", "[not markup] 0 s"])
def test_the_clock_of_the_line_moves_while_nobody_says_anything(said, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    progress = Progress(stream)
    progress.stage("burn")
    if said:
        progress(said)
    time.sleep(1.3)
    progress.done()
    assert f"[0:01] burn (1 s) {said}".strip() in stream.getvalue()


def test_a_work_of_several_steps_says_how_far_it_is(stream) -> None:
    progress = Progress(stream)
    step(progress, 2, 4)("unpacking: 20 s")
    assert lines(stream) == ["step 2 of 4: unpacking: 20 s"]
