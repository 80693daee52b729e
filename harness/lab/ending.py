"""How a lab's QEMU ended: what its keeper wrote down (``harness.lab.qemu_keeper``) and its last words."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cleanups import undone_if_broken
from harness.identity import ProcessId, is_running
from harness.lab.process import end_file, keeper_of
from harness.lab.state import LabDirectory
from harness.ports import HostEnd
from harness.regular import MOST_TEXT, open_regular, read_regular
from harness.serial import strict_json

_KEEPER_SECONDS = 3.0
"""So soon a keeper has written down what it waited for, on a busy computer."""
_POLL_SECONDS = 0.02
_KEPT_BYTES = 64 * 1024
"""Of each log: more than a kernel's oops or an assertion with its backtrace."""
_LINES, _LONGEST = 2, 160
"""What of it stands in one sentence, which stands behind every check that it left open."""
_SUFFIX = ".ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How one QEMU ended; what nobody saw is None or empty."""

    exit: int | None = None
    signal: str = ""
    """``SIGSEGV``; empty for an exit of its own."""
    core: bool = False
    at: str = ""
    seconds: float | None = None
    peak_mib: int | None = None
    cpu_seconds: float | None = None
    oom_kills: int | None = None
    """What this machine's kernel killed for want of memory while the QEMU ran, whoever that was."""

    @property
    def how(self) -> str:
        """``exit 1``, ``signal SEGV, core dumped``."""
        if self.signal:
            dumped = ", core dumped" if self.core else ""
            return f"signal {self.signal.removeprefix('SIG')}{dumped}"
        return "how is not known" if self.exit is None else f"exit {self.exit}"

    @property
    def hint(self) -> str:
        """What such an end mostly means; empty where there is nothing to add."""
        if self.signal == "SIGKILL" and self.oom_kills:
            return (
                "this machine's kernel killed processes because memory ran out: free memory, and see `dmesg`"
            )
        if self.signal == "SIGKILL":
            return "someone killed it: this machine did not run out of memory meanwhile"
        if self.signal:
            return "a bug in that QEMU: set SHAKEDOWN_QEMU to use another one"
        if self.exit == 0:
            return "it was told to quit, or the lab host reset or powered itself off: read its console"
        return ""


def read_end(directory: LabDirectory, process: ProcessId) -> End | None:
    """How that machine ended; None while it runs. What nobody wrote down in time is an ``End()``."""
    if is_running(process):
        return None
    keeper = keeper_of(directory.monitor)
    deadline = time.monotonic() + _KEEPER_SECONDS
    while (found := _parse(end_file(directory.monitor), process)) is None:
        # Once more when it has gone: it may have written between our two looks.
        if keeper is None or time.monotonic() > deadline:
            return End()
        if not is_running(keeper):
            keeper = None
        time.sleep(_POLL_SECONDS)
    return found


def _parse(file: Path, process: ProcessId) -> End | None:
    try:
        data = strict_json(read_regular(file, MOST_TEXT))
        if not isinstance(data, dict) or data.pop("pid", None) != process.pid:
            return None
        return End(**data)
    except (OSError, ValueError, TypeError):
        return None


def told(directory: LabDirectory, end: End, *, kept: Path) -> HostEnd:
    """The end in words, with the last ones of QEMU and of the lab host's console. ``kept`` is where those lie
    for as long as no later machine ends by itself."""
    lasted = f" after {end.seconds:.0f} s" if end.seconds is not None else ""
    words = [f"the lab's QEMU ended ({end.how}){lasted}"]
    for whose, file in (("its", directory.log), ("the console's", directory.serial_log)):
        lines = _last_lines(file)
        words.append(f"{whose} last lines: {' | '.join(lines)}" if lines else f"{whose} log is empty")
    said = "".join(f"==> {file.name} <==\n{_tail(file)}\n" for file in (directory.log, directory.serial_log))
    again = "run again: the lab starts again"
    return HostEnd(
        message="; ".join(words),
        remedy="; ".join(part for part in (end.hint, again, f"its output is kept in {kept}") if part),
        log=f"{end}\n{said}".encode("utf-8", "backslashreplace"),
    )


def _last_lines(file: Path) -> Sequence[str]:
    lines = [line.strip() for line in _tail(file).splitlines() if line.strip()]
    return [line[:_LONGEST] for line in lines[-_LINES:]]


def _tail(file: Path) -> str:
    try:
        with open_regular(file) as stream:
            stream.seek(max(0, file.stat().st_size - _KEPT_BYTES))
            return stream.read(_KEPT_BYTES).decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def kept_in(directory: LabDirectory) -> Path:
    """Where the words of the last machine that ended by itself are kept, beside the lab's directory."""
    return directory.path.with_name(f"{directory.path.name}{_SUFFIX}")


def keep_words(directory: LabDirectory, end: HostEnd) -> Path:
    """Keep what a machine said before its directory is cleared; returns where. Never raises: a full disk must
    not keep a lab from being started again."""
    kept = kept_in(directory)
    with contextlib.suppress(OSError):
        draft = kept.with_name(f"{kept.name}.new")
        with undone_if_broken(lambda: draft.unlink(missing_ok=True)):
            draft.touch(mode=0o600)
            draft.write_bytes(f"{end.message}\n\n".encode("utf-8", "backslashreplace") + end.log)
            if kept.is_dir():
                shutil.rmtree(kept)
            draft.rename(kept)
    return kept
