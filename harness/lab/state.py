"""Where labs live on disk and what is written about them: ``<state>/shakedown/labs/<name>-<instance>/``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.identity import ProcessId, is_running
from harness.images.locks import locked
from harness.lab.access import LabKeys, keys_in
from harness.regular import MOST_TEXT, read_regular
from harness.serial import strict_json

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,40}\Z")
_FORMAT = 2


def labs_root() -> Path:
    """``$XDG_STATE_HOME/shakedown/labs``, else ``~/.local/state/shakedown/labs``."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state").absolute() / "shakedown/labs"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabState:
    """A lab that was started; only a running process makes it true."""

    name: str
    instance: int
    snapshot: str
    """Hash of image, command line and QEMU: which machine this is."""
    process: ProcessId
    port: int
    accelerator: str
    reason: str
    """Why this accelerator."""
    qemu: str
    """Version and where it came from: ``11.1.3 (Debian trixie-backports)``."""
    limits: tuple[str, ...]
    started_at: str
    ready: bool = False
    """False until it answered once; whoever finds it so under the lock knows that its starter died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabDirectory:
    """The files of one lab; only its owner may enter."""

    path: Path

    @property
    def state_file(self) -> Path:
        """What was started."""
        return self.path / "state.json"

    @property
    def monitor(self) -> Path:
        """QMP socket."""
        return self.path / "qmp.sock"

    @property
    def disk(self) -> Path:
        """Overlay on the snapshot's disk."""
        return self.path / "disk.qcow2"

    @property
    def log(self) -> Path:
        """What QEMU printed."""
        return self.path / "qemu.log"

    @property
    def serial_log(self) -> Path:
        """The lab host's serial console."""
        return self.path / "serial.log"

    @property
    def known_hosts(self) -> Path:
        """The pinned host key."""
        return self.path / "known_hosts"

    @property
    def keys(self) -> LabKeys:
        """SSH keys of this lab."""
        return keys_in(self.path)

    def nvme(self, number: int) -> Path:
        """Backing file of an NVMe device."""
        return self.path / f"nvme{number}.img"


def lab_directory(name: str, instance: int, *, root: Path | None = None) -> LabDirectory:
    """The directory of one lab, which may not exist yet. ConfigError for a name that is no plain word."""
    if not _NAME.match(name) or instance < 0:
        raise ConfigError(
            f"{name!r} instance {instance} is no lab name", remedy="use lower-case letters, digits, - _ ."
        )
    return LabDirectory(path=(root or labs_root()) / f"{name}-{instance}")


def list_labs(*, root: Path | None = None) -> tuple[tuple[str, int], ...]:
    """Name and instance of every lab that has a directory, running or not."""
    base = root or labs_root()
    found = []
    if base.is_dir():
        for entry in sorted(base.iterdir()):
            name, _, number = entry.name.rpartition("-")
            if entry.is_dir() and number.isdigit() and _NAME.match(name):
                found.append((name, int(number)))
    return tuple(found)


@contextlib.contextmanager
def lab_lock(directory: LabDirectory, progress: Callable[[str], None]) -> Iterator[None]:
    """Hold this lab: up, down and reset exclude one another, also between processes."""

    def waiting(seconds: float) -> None:
        progress(f"waiting for another process that starts or stops {directory.path.name} ({seconds:.0f} s)")

    directory.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(directory.path.with_name(f"{directory.path.name}.lock"), waiting):
        yield


def write_state(directory: LabDirectory, state: LabState) -> None:
    """Write the state whole or not at all."""
    text = json.dumps({"format": _FORMAT, **asdict(state)}, indent=1)
    descriptor, draft = tempfile.mkstemp(dir=directory.path, prefix="state.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(draft).rename(directory.state_file)


def read_state(directory: LabDirectory) -> LabState | None:
    """What was started; None when nothing was, or when the file is damaged or of another version."""
    try:
        data = strict_json(read_regular(directory.state_file, MOST_TEXT))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
        return None
    return _parse(data)


def _parse(data: dict[str, Any]) -> LabState | None:
    try:
        process = ProcessId(**data.pop("process"))
        limits = tuple(str(limit) for limit in data.pop("limits"))
        return LabState(process=process, limits=limits, **data)
    except (TypeError, KeyError, ValueError):
        return None


def running_state(directory: LabDirectory) -> LabState | None:
    """The state of a lab whose process still runs; None otherwise."""
    state = read_state(directory)
    return state if state is not None and is_running(state.process) else None
