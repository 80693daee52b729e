"""``shakedown pytest``: the pytest of Shakedown's own environment, by which a run is a test session."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import harness

_ROOTS = ("--rootdir", "-c", "--config-file")


def run(arguments: Sequence[str] = ()) -> int:
    """Replace this process by pytest, in the folder where it was called; its exit status becomes ours.

    Inside a checkout of Shakedown its root is pytest's, whatever folder was named; elsewhere, with tests of
    one's own, pytest finds its root and settings as it always does.
    """
    sys.stdout.flush()
    command = (sys.executable, "-P", "-m", "pytest", *_root(arguments), *arguments)
    os.execv(command[0], command)  # noqa: S606  handing over, arguments as a list, is the purpose


def _root(arguments: Sequence[str]) -> tuple[str, ...]:
    project = Path(harness.__file__).resolve().parents[1]
    named = any(each.partition("=")[0] in _ROOTS for each in arguments)
    inside = Path.cwd().resolve().is_relative_to(project) and (project / "pyproject.toml").is_file()
    return (
        (f"--rootdir={project}", f"--config-file={project / 'pyproject.toml'}")
        if inside and not named
        else ()
    )
