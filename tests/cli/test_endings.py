"""How commands end: the exit status by kind of error, and words that are safe on a terminal."""

from __future__ import annotations

import pytest
import typer

from harness.cli.status import ends
from harness.errors import ClaimError, ConfigError, HarnessError, ParseError, TransportError


def _refuse(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("no such profile"), 2),
        (ParseError("not a transcript"), 2),
        (ClaimError("held by another run"), 3),
        (TransportError("no route to host"), 4),
        (OSError("disk full"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_error_has_its_status(error: BaseException, status: int) -> None:
    with pytest.raises(typer.Exit) as left:
        ends(lambda: _refuse(error))()
    assert left.value.exit_code == status


@pytest.mark.parametrize("kind", [ConfigError, ClaimError, TransportError])
def test_what_a_host_says_in_an_error_never_reaches_the_terminal_as_it_is(
    kind: type[HarnessError], capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = kind("the host said \x1b[2J\x07\u202e" + "x" * 10_000_000, remedy="look \x1b]0;owned\x07")
    with pytest.raises(typer.Exit):
        ends(lambda: _refuse(hostile))()
    shown = capsys.readouterr().err
    assert "\\x1b[2J\\x07\\u202e" in shown
    assert "\n  remedy: look \\x1b]0;owned\\x07\n" in shown
    assert len(shown) < 5000
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
