"""Work that may hang for good, each piece in a process of its own: the parent waits, kills and reports.

A call into a driver whose card is gone may never return and may not even die of a signal. So nothing here
waits for such a process: it is killed, given a moment, and left behind.

What becomes of a piece of work is its *outcome*, a dictionary with ``kind``:

- ``done``: ``observed`` is what it returned;
- ``unable``: nothing is known about the card, since software is missing or does not fit, this machine has not
  the memory or the files (OSError), the kernel killed it for want of memory, or the test itself is defective;
  ``error`` says what;
- ``broken``: it never got as far as ``note(..., ready=True)``, so the engine does not work at all;
- ``failed``: it ended with an error after that; ``hung``: it said nothing for too long; ``died``: a signal or
  an exit ended it. ``at`` is what it was doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Note = Callable[..., None]
    Work = Callable[[Note], dict[str, Any]]
    Outcome = dict[str, Any]

LAST_WORDS_SECONDS = 10.0
"""How long an ended process may take to go away (the driver gives back all its memory) before it is left."""


class Unable(Exception):
    """Software is missing or does not fit: nothing can be said about the device."""


class Failure(Exception):
    """The device, or the engine on it, does not do what was asked."""


def together(works: list[Work], stall: float) -> list[Outcome]:
    """Run all at once; the outcomes in the same order. ``stall``: seconds one may go without a note."""
    children = [_Child(work) for work in works]
    poll = select.poll()
    for child in children:
        poll.register(child.pipe, select.POLLIN)
    while any(child.outcome is None for child in children):
        poll.poll(200)
        now = time.monotonic()
        for child in children:
            if child.outcome is None:
                child.look(now, stall, poll)
    return [child.outcome or {} for child in children]


def alone(work: Work, stall: float) -> Outcome:
    """Run one."""
    return together([work], stall)[0]


class _Child:
    def __init__(self, work: Work) -> None:
        sys.stdout.flush()
        self.pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _perform(work, writing)
        os.close(writing)
        os.set_blocking(self.pipe, False)
        self.said, self.at, self.ready = b"", "starting", False
        self.heard = time.monotonic()
        self.outcome: Outcome | None = None

    def look(self, now: float, stall: float, poll: select.poll) -> None:
        ended = False
        try:
            chunk = os.read(self.pipe, 1 << 16)
            self.said += chunk
            ended = not chunk
            if chunk:
                self.heard = now
        except BlockingIOError:
            pass
        while b"\n" in self.said:
            line, _, self.said = self.said.partition(b"\n")
            word, _, rest = line.decode("utf-8", "backslashreplace").partition(" ")
            if word == "at":
                self.at = rest
            elif word == "ready":
                self.ready = True
            elif word == "outcome":
                self.outcome = {"at": self.at, **json.loads(rest)}
        if self.outcome is None and not ended and now - self.heard > stall:
            self._kill()
            self._end("hung", f"no progress for {stall:.0f} s")
        elif self.outcome is None and ended:
            status = _reap(self.pid)
            if status == -signal.SIGKILL:
                # No fault of a device ends a process so: the kernel does, where memory runs out.
                words = f"{_ending(status)}, as the kernel does when memory runs out"
                self.outcome = {"kind": "unable", "at": self.at, "error": words}
            else:
                self._end("died", _ending(status))
        if self.outcome is not None:
            if self.outcome["kind"] == "failed" and not self.ready:
                self.outcome["kind"] = "broken"
            poll.unregister(self.pipe)
            os.close(self.pipe)
            _reap(self.pid)

    def _end(self, kind: str, error: str) -> None:
        self.outcome = {"kind": kind if self.ready else "broken", "at": self.at, "error": error}

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _perform(work: Work, writing: int) -> None:
    """The child's whole life."""

    def say(word: str, text: str) -> None:
        data = f"{word} {text}\n".encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(writing, data) :]

    def note(text: str, *, ready: bool = False) -> None:
        say("at", " ".join(text.split()))
        if ready:
            say("ready", "")

    status = 1
    try:
        try:
            outcome = {"kind": "done", "observed": work(note)}
        except Unable as error:
            outcome = {"kind": "unable", "error": str(error)}
        except Failure as error:
            outcome = {"kind": "failed", "error": str(error)}
        except (OSError, MemoryError) as error:  # of this machine: what a driver refuses is a Failure
            outcome = {"kind": "unable", "error": f"{type(error).__name__}: {error}"}
        say("outcome", json.dumps(outcome, allow_nan=False))
        status = 0
    except BrokenPipeError:
        pass  # the parent is gone, and nobody asks any more
    finally:
        kind, defect, trace = sys.exc_info()
        if kind is not None and defect is not None:  # any other exception: a defect of ours accuses no device
            sys.excepthook(kind, defect, trace)
            words = f"a bug in this test: {kind.__name__}: {defect}"
            with contextlib.suppress(OSError):
                say("outcome", json.dumps({"kind": "unable", "error": words}))
        sys.stderr.flush()
        os._exit(status)


def _reap(pid: int) -> int | None:
    """The exit status of a process that is ending; None for one that does not end."""
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while time.monotonic() < deadline:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return None
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _ending(status: int | None) -> str:
    if status is None:
        return "it closed its output but did not end"
    return f"signal {-status} ended it" if status < 0 else f"it ended with status {status} and no result"


def conclude(payload: str, engine: str, outcomes: dict[str, Outcome], **more: Any) -> None:
    """Print the payload's one line, and end with its status.

    0 when anything was learned of any device: the others' outcomes stand beside it. Else 4 when an engine
    does not work; else 3: software is missing, and nothing is known.
    """
    kinds = {outcome["kind"] for outcome in outcomes.values()}
    if not kinds & {"done", "failed", "hung", "died"}:
        said = "; ".join(f"{name}: {o['error']} ({o['at']})" for name, o in outcomes.items())
        print(json.dumps({"payload": payload, "error": said[:4000]}), flush=True)
        sys.exit(4 if "broken" in kinds else 3)
    entries = [
        {
            "name": name,
            "kind": o["kind"],
            "at": o["at"],
            "error": o.get("error"),
            "observed": o.get("observed"),
        }
        for name, o in outcomes.items()
    ]
    versions = {"python": sys.version.split()[0], "kernel": os.uname().release, **more.pop("versions", {})}
    observed = {"entries": entries, **more}
    result = {"payload": payload, "engine": engine, "observed": observed, "versions": versions}
    print(json.dumps(result, allow_nan=False), flush=True)
