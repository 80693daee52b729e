"""Help: every command explains itself with an example that its own parser accepts."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.cli.commands import Said, command_names, options_of, shakedown, summaries

COMMANDS = command_names()
EXPECTED = {
    ("qualify",),
    ("facts",),
    ("plan",),
    ("judge",),
    ("report",),
    ("note",),
    ("test",),
    ("pytest",),
    *(("lab", word) for word in ("up", "down", "status", "ssh", "reset")),
    *(("inventory", word) for word in ("list", "check")),
}


def test_the_commands_that_outsiders_rely_on_are_there() -> None:
    assert set(COMMANDS) >= EXPECTED


def _examples(said: Said) -> list[list[str]]:
    lines = re.findall(r"^ +(shakedown .+)$", said.out, re.MULTILINE)
    return [shlex.split(line.partition(" > ")[0])[1:] for line in lines]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_shows_an_example_made_of_options_that_exist(words, tmp_path) -> None:
    said = shakedown(*words, "--help", cwd=tmp_path)
    assert said.status == 0
    examples = _examples(said)
    assert examples, said.out
    for example in examples:
        assert tuple(example[: len(words)]) == words
        own = example[: example.index("--")] if "--" in example else example
        given = {word for word in own if word.startswith("--")}
        if words not in (("test",), ("pytest",)):  # what follows belongs to tox or pytest
            assert given <= options_of(words)


def test_help_goes_to_standard_output_without_colour(tmp_path) -> None:
    said = shakedown("--help", cwd=tmp_path, FORCE_COLOR="1")
    assert said.status == 0
    assert said.err == ""
    assert "\x1b" not in said.out
    assert said.out.startswith("Usage: shakedown ")


def test_no_word_at_all_shows_the_help(tmp_path) -> None:
    said = shakedown(cwd=tmp_path)
    assert said.status == 2
    assert "qualify" in said.out + said.err


def test_the_version_is_the_packages_own(tmp_path) -> None:
    from importlib.metadata import version

    assert shakedown("--version", cwd=tmp_path).out == f"shakedown {version('shakedown')}\n"


@pytest.mark.parametrize("columns", ["40", "80", "200"])
@pytest.mark.parametrize("words", [(), ("lab",), ("inventory",), ("rules",)], ids=" ".join)
def test_the_list_of_commands_says_of_each_its_whole_first_sentence(words, columns, tmp_path) -> None:
    said = shakedown(*words, "--help", cwd=tmp_path, COLUMNS=columns)
    shown = " ".join(said.out.partition("Commands:")[2].split())
    assert "..." not in shown
    for name, summary in summaries(words).items():
        assert summary.endswith((".", "?", ")"))
        assert f"{name} {summary}" in shown
