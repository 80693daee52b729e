"""Starting one tool and reading all it says, with only what every Python process has loaded anyway.

``subprocess`` would do; importing it costs an emulated guest about a second.
"""

from __future__ import annotations

import os


class MissingTool(Exception):
    """A program that the workload needs is not installed here."""


def find(name: str) -> str:
    """The program's path on PATH (or in the sbin directories). Raises MissingTool."""
    for folder in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/usr/bin", "/sbin", "/bin"):
        path = os.path.join(folder, name)
        if folder and os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise MissingTool(f"{name} is not installed here")


def run(
    argv: list[str], folder: str, environment: dict[str, str] | None = None, stdin: int | None = None
) -> tuple[int, str]:
    """Run a program to its end, reading ``stdin`` (default: nothing).

    Returns its exit status (128 + n for signal n) and what it wrote to stdout and stderr together.
    """
    log = os.path.join(folder, "tool.log")
    return finish(start(argv, log, environment, stdin), log)


def start(
    argv: list[str], log: str, environment: dict[str, str] | None = None, stdin: int | None = None
) -> int:
    """Start a program that reads ``stdin`` (default: nothing) and writes all it says to the file ``log``.

    Returns its pid, for ``finish``.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        if stdin is None
        else (os.POSIX_SPAWN_DUP2, stdin, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    variables = {**os.environ, "LC_ALL": "C", **(environment or {})}
    return os.posix_spawn(argv[0], argv, variables, file_actions=actions)


def finish(pid: int, log: str) -> tuple[int, str]:
    """Wait for a started program: its exit status (128 + n for signal n) and what it wrote."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(log, encoding="utf-8", errors="backslashreplace") as stream:
        return (status if status >= 0 else 128 - status), stream.read()


def clear(folder: str) -> None:
    """Make ``folder`` exist, and empty. A link in it is removed, not followed."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for above, folders, names in os.walk(folder, topdown=False):
        for name in names:
            os.unlink(os.path.join(above, name))
        for name in folders:
            path = os.path.join(above, name)
            (os.unlink if os.path.islink(path) else os.rmdir)(path)
