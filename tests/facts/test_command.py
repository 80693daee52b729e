"""``shakedown facts``: what it prints, and what it refuses."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands.facts import ranges, run, show
from harness.errors import ConfigError, ParseError
from harness.facts import parse_transcript

CASE = Path(__file__).parent / "cases" / "emulated-host.txt"


def call(
    *,
    sysroot: Path | None = None,
    transcript: Path | None = None,
    host: str | None = None,
    save: Path | None = None,
    json_output: bool = True,
) -> int:
    return run(host=host, sysroot=sysroot, transcript=transcript, json_output=json_output, save=save)


def test_json_goes_to_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(transcript=CASE) == 0
    out = capsys.readouterr()
    assert json.loads(out.out)["hostname"] == "labhost"
    assert out.err == ""


def test_a_captured_tree_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/hostname").write_text("captured\n")
    assert call(sysroot=tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["hostname"] == "captured"


def test_people_see_nodes_cards_and_iommu(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(transcript=CASE, json_output=False) == 0
    text = capsys.readouterr().out
    for words in (
        "0:10 1:21",
        "0000:81:00.0",
        "1234:11e8",
        "interrupt remapping",
        "dmar0",
        "32/32 of 2048 kB",
    ):
        assert words in text


def test_hostile_text_is_printed_as_escapes_and_never_as_markup() -> None:
    facts = replace(
        parse_transcript(CASE.read_bytes()),
        hostname="[red]x\x1b[2J\x07\ny\udcff",
        warnings=("evil \x1b]0;title\x07" + "z" * 10_000_000,),
    )
    out = io.StringIO()
    show(facts, Console(file=out, width=120))
    text = out.getvalue()
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x\\x1b[2J\\x07\\ny\\udcff" in text
    assert len(text) < 40_000


@pytest.mark.parametrize(
    "sources",
    [{}, {"host": "lab", "sysroot": Path("/")}, {"sysroot": Path("/"), "save": Path("x")}],
)
def test_a_wrong_combination_is_refused(sources: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        call(**sources)  # type: ignore[arg-type]


def test_a_missing_or_foreign_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        call(transcript=tmp_path / "none")
    (tmp_path / "foreign").write_bytes(b"\x00\x01")
    with pytest.raises(ParseError, match="no answer"):
        call(transcript=tmp_path / "foreign")


def test_ranges_are_written_as_the_kernel_does() -> None:
    assert ranges((0, 1, 2, 3, 8, 10, 11)) == "0-3,8,10-11"
    assert ranges(()) == ""
