"""An answer is whole, or it is refused with the reason; no content passes for a frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, ParseError
from harness.scripts.protocol import GrowingAnswer, new_nonce, read_answer, require_nonce
from tests.fakes.scripts import NONCE, framed

OTHER = "f" * 32


def test_frames_come_back_byte_for_byte() -> None:
    frames = {"a": b"\x00\xff\n", "b c": b"no line break at its end", "empty": b""}
    answer = read_answer(framed("q", frames), "q", NONCE)
    assert answer.contents() == frames
    assert (answer.status, answer.nonce, answer.parts) == (0, NONCE, ())
    assert answer.raw == framed("q", frames)


def test_a_login_message_before_the_answer_does_no_harm() -> None:
    greeting = f"Welcome!\nshakedown 1 q {OTHER}\nshakedown-facts 1 {OTHER}\n".encode()
    assert read_answer(greeting + framed("q", {"a": "x"}), "q", NONCE).content("a") == b"x"


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"Last login: today\n$ ", b"shakedown 1 q 00\n"])
def test_what_is_no_answer_is_told_as_that(raw: bytes) -> None:
    with pytest.raises(ParseError, match="no answer: its first line"):
        read_answer(raw, "q")


@pytest.mark.parametrize("script", ["q", "other"])
def test_an_answer_to_another_question_is_refused(script: str) -> None:
    nonce = OTHER if script == "q" else NONCE
    with pytest.raises(ParseError, match="another request"):
        read_answer(framed(script, {"a": "x"}, nonce=nonce), "q", NONCE)


@pytest.mark.parametrize(
    "first",
    [
        f"shakedown 2 q {NONCE}",
        f"shakedown-facts 1 {NONCE}",
        f"shakedown-placement 1 host {NONCE}",
        f"shakedown-host 2 {NONCE}",
    ],
)
def test_an_answer_of_another_version_is_refused_in_words(first: str) -> None:
    raw = framed("q", {"a": "x"}).replace(f"shakedown 1 q {NONCE}".encode(), first.encode())
    with pytest.raises(ParseError, match="another version of Shakedown"):
        read_answer(raw, "q")
    with pytest.raises(ParseError, match="another version of Shakedown"):
        GrowingAnswer("q").take(first)


def test_wherever_an_answer_is_cut_off_it_says_so() -> None:
    whole = framed("q", {"first": "one\n", "second": "two\n"})
    begun = len(f"shakedown 1 q {NONCE}\n")
    for length in range(begun, len(whole) - 1):
        with pytest.raises(ParseError, match=r"breaks off|belongs to no frame"):
            read_answer(whole[:length], "q", NONCE)
    with pytest.raises(ParseError, match="breaks off in 'second'"):
        read_answer(whole[: whole.index(b"two")], "q")


def test_a_lost_frame_is_noticed() -> None:
    whole = framed("q", {"a": "x", "b": "y"})
    with pytest.raises(ParseError, match="has 2 frames by its own count, 1 are there"):
        read_answer(whole.replace(f"\n{NONCE} b\n".encode(), b"\n"), "q")


def test_a_lost_frame_of_a_part_is_noticed() -> None:
    inside = f"shakedown 1 q {NONCE}\n\n{NONCE} a\nx\n{NONCE} part one 1\n\n{NONCE} exit 0 0\n".encode()
    answer = read_answer(inside, "q")
    assert (answer.parts, len(answer.frames)) == (("one",), 1)
    with pytest.raises(ParseError, match="part one has 1 frames by its own count, 0 are there"):
        read_answer(inside.replace(f"\n{NONCE} a\nx".encode(), b""), "q")


def test_nothing_may_follow_the_end() -> None:
    whole = framed("q", {"a": "x"})
    for more in (b"more\n", f"\n{NONCE} b\ny".encode(), f"\n{NONCE} exit 0 0\n".encode()):
        with pytest.raises(ParseError, match="continues after its end"):
            read_answer(whole + more, "q")


def test_content_cannot_forge_a_frame() -> None:
    """Not without the nonce, which is new for each question."""
    hostile = f"Debian\n{OTHER} b\nevil\n{OTHER} exit 0 9\nshakedown 1 q {OTHER}\n".encode()
    assert read_answer(framed("q", {"a": hostile}), "q", NONCE).contents() == {"a": hostile}


def test_a_script_says_itself_that_it_failed() -> None:
    answer = read_answer(framed("q", {"failed": "no flock\nhere\n"}, status=3), "q")
    assert (answer.status, answer.failure) == (3, "no flock here")


def test_rows_and_lines() -> None:
    answer = read_answer(framed("q", {"a": "1\t2\n\n3\n"}), "q")
    assert (answer.lines("a"), answer.rows("a")) == (["1\t2", "3"], [("1", "2"), ("3",)])
    with pytest.raises(ParseError, match="'b' is missing from the answer"):
        answer.content("b")
    twice = framed("q", {"a": "1", "b": "2"}).replace(b" b\n", b" a\n")
    with pytest.raises(ParseError, match="'a' is there twice in the answer"):
        read_answer(twice, "q").content("a")
    with pytest.raises(ParseError, match="'a' is there twice in the answer"):
        read_answer(twice, "q").contents()


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_content_comes_back_as_it_was(first: bytes, second: bytes) -> None:
    answer = read_answer(framed("q", {"a": first, "b": second}), "q", NONCE)
    assert answer.contents() == {"a": first, "b": second}


@given(st.binary(max_size=300))
def test_whatever_is_read_gives_an_answer_or_an_error_of_ours(raw: bytes) -> None:
    for text in (raw, framed("q", {"a": "x"})[:40] + raw):
        try:
            read_answer(text, "q")
        except HarnessError:
            continue


def test_an_answer_that_grows_tells_its_marks() -> None:
    answer = GrowingAnswer("q", NONCE)
    lines = [
        ("Welcome!", None),
        (f"{NONCE} early", None),
        (f"shakedown 1 q {OTHER}", None),
        (f"shakedown 1 other {NONCE}", None),
        (f"shakedown 1 q {NONCE}", ""),
        ("text", None),
        (f"{OTHER} mark", None),
        (f"{NONCE} sample 7", "sample 7"),
        (f"{NONCE} exit 3 0", ""),
    ]
    assert [answer.take(line) for line, _ in lines] == [mark for _, mark in lines]
    assert (answer.begun, answer.status) == (True, 3)
    answer.take(f"shakedown 1 q {NONCE}")
    assert answer.status is None, "started again"


def test_a_nonce_is_checked_before_it_is_sent() -> None:
    assert require_nonce(new_nonce()) != new_nonce()
    for wrong in ("", "0" * 15, "0" * 65, "G" * 16, "0123456789abcdef "):
        with pytest.raises(ValueError, match="nonce"):
            require_nonce(wrong)
