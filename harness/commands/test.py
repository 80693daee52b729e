"""``shakedown test``: the project's own tests, by way of tox."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import harness
from harness.errors import ConfigError


def run(arguments: Sequence[str] = ()) -> int:
    """Replace this process by tox in the project's directory; its exit status becomes ours.

    Raises ConfigError for an installed copy, which has no tests with it.
    """
    project = Path(harness.__file__).resolve().parents[1]
    if not (project / "tox.ini").is_file():
        raise ConfigError(
            f"{project} has no tox.ini: this is an installed copy of Shakedown",
            remedy="run ./shakedown test in a source checkout",
        )
    os.chdir(project)
    scripts = Path(sys.executable).parent
    # tox-uv calls the uv of this environment; nothing may fetch an interpreter behind the user's back.
    environment = {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    command = (sys.executable, "-P", "-m", "tox", *arguments)
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606  handing over, arguments as a list, is the purpose
