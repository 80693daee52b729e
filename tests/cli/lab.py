"""A lab of a test's own, and commands against it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HARNESS = (sys.executable, "-P", "-m", "harness")
PYTEST = (sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--import-mode=importlib")


@contextmanager
def own_lab() -> Iterator[dict[str, str]]:
    """The environment of a lab beside any that runs; images and snapshots are shared through the cache."""
    # Short, because a UNIX socket lies below it.
    with tempfile.TemporaryDirectory(prefix="shk") as state:
        chosen = {**os.environ, "XDG_STATE_HOME": state, "PYTEST_ADDOPTS": ""}
        yield chosen
        call(*HARNESS, "lab", "down", "--all", environment=chosen, cwd=Path(state))


def call(
    *command: str, environment: dict[str, str], cwd: Path, deadline: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """Run a command; its progress goes where pytest shows it with -s, its answer alone is captured."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=deadline,
        check=False,
    )
