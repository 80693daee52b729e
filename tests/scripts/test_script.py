"""Scripts really run, in each shell that a machine may have."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.errors import ClaimError, ParseError, TransportError
from harness.scripts.protocol import read_answer
from harness.scripts.script import Script, ask, first_mark
from tests.fakes import FakeHost, FakeTransport
from tests.fakes.scripts import NONCE, answering, framed

SHELLS = [("sh",), ("dash",), ("bash", "--posix"), ("busybox", "sh")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(Script):
    """A script whose body is written here."""

    code: str = "return 0"
    name: str = "q"
    package: str = ""
    file: str = ""
    needs: str = "a shell with flock"

    def body(self) -> str:
        return self.code


def run(shell: tuple[str, ...], code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    text = Written(code=code).text().encode()
    return subprocess.run(
        (*shell, "-s", "--", NONCE, *arguments), input=text, capture_output=True, timeout=30, check=False
    )


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_frames_parts_and_status_come_out_of_every_shell(shell: tuple[str, ...]) -> None:
    code = """
    frame arguments
    printf '<%s>' "$@"
    part first
    { frame slow; echo late; part behind; } | {
        frame quick
        echo soon
        part before
        cat
    }
    frame input
    cat
    return 3
    """
    done = run(shell, code, "a b", "", "*")
    answer = read_answer(done.stdout, "q", NONCE)
    assert done.returncode == answer.status == 3
    assert answer.parts == ("first", "before", "behind")
    assert [frame.title for frame in answer.frames] == ["arguments", "quick", "slow", "input"]
    assert answer.content("arguments") == b"<a b><><*>"
    assert answer.content("input") == b"", "the shell reads the script from there"


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    "death", ["kill -9 $$", "kill $$", "exit 0", "set -u; echo $nobody_said", "exec true"]
)
def test_a_script_that_died_did_not_answer(shell: tuple[str, ...], death: str) -> None:
    done = run(shell, f"frame a\n{death}\nframe b")
    with pytest.raises(ParseError, match="breaks off in 'a'"):
        read_answer(done.stdout, "q", NONCE)


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])
def test_a_script_that_arrives_cut_off_does_nothing(shell: tuple[str, ...], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = Written(code=f"echo > '{mark}'\nframe a\nreturn 0").text()
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    end = text.rindex("run q")
    for length in (*range(text.index("answer()"), end, 17), *range(end - 8, end + 6)):
        subprocess.run(
            (*shell, "-s", "--", NONCE),
            input=text[:length].encode(),
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert not mark.exists()


def test_a_question_is_answered_in_one_round_trip() -> None:
    answer, result = ask(LocalTransport(), Written(code='frame said\necho "$1"'), "x; y")
    assert answer.lines("said") == ["x; y"]
    assert result.stdout == answer.raw


def test_a_script_that_fails_raises_its_own_error_with_its_words() -> None:
    script = Written(code="fail no flock here", error=ClaimError)
    with pytest.raises(ClaimError, match="q failed with status 1: no flock here") as caught:
        ask(LocalTransport(), script)
    assert caught.value.remedy == "the machine needs a shell with flock"


def test_a_machine_that_cannot_run_it_is_told_apart_from_a_cut_answer() -> None:
    host = FakeHost()
    host.on("q", b"", status=127, stderr=b"sh: not found")
    with pytest.raises(TransportError, match="q ended with status 127: sh: not found"):
        ask(FakeTransport(host), Written())

    def cut(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, framed("q", {"a": "x"}, nonce=argv[3])[:-8], b""

    host.on("q", cut)
    with pytest.raises(ParseError, match=r"on fake: q: the answer breaks off in 'a'"):
        ask(FakeTransport(host), Written())
    host.on("q", framed("q", {"a": "x"}))
    with pytest.raises(ParseError, match="another request"):
        ask(FakeTransport(host), Written())
    host.on("q", answering("q", {"a": "x"}))
    assert ask(FakeTransport(host), Written())[0].lines("a") == ["x"]


def test_a_held_script_reads_its_own_input_and_its_first_mark_is_found_behind_a_greeting() -> None:
    script = Written(code='mark holding "$1"\ncat >/dev/null')
    with_greeting = ("sh", "-c", 'echo Welcome; shift; exec "$@"', "sh", "x")
    held = LocalTransport().hold((*with_greeting, *script.held(NONCE, "me")))
    try:
        assert first_mark(script, NONCE, lambda: held.read_line(10)) == "holding me"
        assert held.alive
    finally:
        held.close()
    assert first_mark(script, NONCE, lambda: "") == ""
    assert first_mark(script, NONCE, lambda: "noise") == "", "noise without end"
