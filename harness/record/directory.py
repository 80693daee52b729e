"""The run directory ``runs/<host>/<run-id>/``: created once, never overwritten."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, RecordError
from harness.record.files import check_name, make_folders
from harness.regular import open_regular

EVENTS = "events.jsonl"
RECORD = "run.json"
TRANSCRIPTS = "transcripts"
DOMAIN = "domain"
_RUN_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)


def new_run_id(now: str) -> str:
    """A run id that sorts by time: ``20260310T120000Z-3f9a1c`` for ``now`` (UTC, ISO 8601)."""
    stamp = "".join(c for c in now.split(".", maxsplit=1)[0].rstrip("Z") if c.isalnum())
    return f"{stamp}Z-{secrets.token_hex(3)}"


def is_run_id(name: str) -> bool:
    """Whether ``new_run_id`` makes names of this form."""
    return _RUN_ID.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where one run keeps everything it learned.

    Who may read it is decided once, by the umask when it is made: every folder and file in it is as open as
    the directory itself (``harness.regular.mode_beside``), so that all who judge it see the same.
    """

    path: Path
    """Absolute, as ``create`` and ``open`` make it: a test may change the working directory."""

    @classmethod
    def create(cls, root: Path, host: str, run_id: str) -> RunDirectory:
        """Make ``root/host/run_id`` with its folders. Raises RecordError when it exists or cannot be made."""
        path = root / check_name(host, "host") / check_name(run_id, "run")
        try:
            path = path.absolute()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
            path.chmod(path.stat().st_mode & 0o755 | 0o700)
            for folder in (TRANSCRIPTS, DOMAIN):
                make_folders(path / folder, like=path)
        except FileExistsError as error:
            raise RecordError(
                f"{path} already exists, and a run directory is never overwritten",
                remedy="choose another --runs directory",
            ) from error
        except OSError as error:
            raise RecordError(
                f"{path} could not be created: {error}", remedy="choose a directory you may write to"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory. Raises ConfigError when ``path`` is not one."""
        try:
            open_regular(path / EVENTS).close()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(
                f"{path} is not a run directory: it has no {EVENTS}",
                remedy="give a directory like runs/<host>/<run-id>",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{path} is not a readable run directory: {EVENTS}: {error.strerror or error}",
                remedy="give a directory like runs/<host>/<run-id> that you may read",
            ) from error
        try:
            return cls(path.absolute())
        except OSError as error:  # the working directory itself is gone
            raise ConfigError(f"{path}: {error}", remedy="give its full path") from error

    def require_ours(self) -> None:
        """Raise ConfigError unless the directory and its events are the caller's, and nobody else's to write.

        A run that goes on acts by what it reads there.
        """
        for path in (self.path, self.events):
            found = path.lstat()
            if found.st_uid != os.geteuid() or found.st_mode & 0o022:
                raise ConfigError(
                    f"{path} belongs to another user, or others may write to it",
                    remedy="resume a run as the user who started it, and let only that user write to its "
                    "directory",
                )

    @property
    def events(self) -> Path:
        """``events.jsonl``, the source of truth."""
        return self.path / EVENTS

    @property
    def record(self) -> Path:
        """``run.json``."""
        return self.path / RECORD

    def file(self, relative: str) -> Path:
        """The path of a recorded file. Raises RecordError for a name that leaves the run directory."""
        path = self.path / relative
        try:
            inside = bool(relative) and path.resolve().is_relative_to(self.path.resolve())
        except (OSError, ValueError, RuntimeError) as error:  # links in a circle, a NUL in the name
            raise RecordError(f"{relative[:200]!r} cannot be resolved: {str(error)[:200]}") from error
        if not inside:
            raise RecordError(f"{relative[:200]!r} is not inside the run directory")
        return path
