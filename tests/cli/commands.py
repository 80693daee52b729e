"""The command line as its users meet it: one process a call."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command

from harness.cli.app import app


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one call answered."""

    status: int
    out: str
    err: str


def shakedown(*arguments: str, cwd: Path, **environment: str) -> Said:
    """Run ``shakedown ARGUMENTS`` in ``cwd`` without a terminal and without a person's own settings."""
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("SHAKEDOWN_")}
    # Labs and caches of the person who runs the tests are not ours to see.
    cleared |= {"XDG_STATE_HOME": str(cwd / "state"), "XDG_CACHE_HOME": str(cwd / "cache"), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness", *arguments],
        cwd=cwd,
        env={**cleared, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(status=done.returncode, out=done.stdout, err=done.stderr)


def command_names() -> list[tuple[str, ...]]:
    """Every command that does something, as the words that call it."""
    return _below(get_command(app), ())


def options_of(words: tuple[str, ...]) -> set[str]:
    """The options that a command takes, ``--help`` included."""
    command = get_command(app)
    for word in words:
        command = command.commands[word]
    return {"--help", *(text for each in command.params for text in each.opts)}


def summaries(words: tuple[str, ...]) -> dict[str, str]:
    """The commands of a group, each with the first sentence of its help, in one line."""
    group = get_command(app)
    for word in words:
        group = group.commands[word]
    first = {
        name: " ".join((each.help or "").split("\n\n")[0].split()) for name, each in group.commands.items()
    }
    return {name: text.partition(". ")[0] + ("." if ". " in text else "") for name, text in first.items()}


def _below(command: object, words: tuple[str, ...]) -> list[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [words]
    return [found for name, child in children.items() for found in _below(child, (*words, name))]
