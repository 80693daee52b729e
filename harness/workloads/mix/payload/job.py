"""Several loads at once, over and over, while their share of the machine is stepped: silent corruption shows
at steps of voltage and temperature.

Usage: ``job.main(JSON)`` with ``loads`` (name, argv, steady), ``phases`` (kind, seconds), ``pulse_seconds``,
``grace_seconds`` and ``folder``. Prints one line of strict JSON: every run of every load, with its output.

Phases: ``ramp`` starts the loads one after the other, ``soak`` lets all run, ``pulse`` stops and continues
all of them together (SIGSTOP, SIGCONT to their process groups), so that the machine goes from idle to full
load and back. A steady load (one that keeps time itself) is never stopped. Each load runs in a process group
of its own and begins again as soon as it ends; runs that have begun are let finish, for ``grace_seconds``.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import select
import signal
import sys
import time

from harness.payload import processes as tools

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

TOO_MUCH = 500_000
"""Bytes of all outputs together, packed, after which no further run begins: what comes back from a job is
limited to 1 MiB, base64 takes a third, and runs that are on will still add theirs."""
LONGEST = 1 << 20
"""Bytes of one run's output."""
_TICK = 0.05
_TRACE = b"Traceback (most recent call last):"
"""What Python says first of an exception that nobody caught: judging needs it, however long the trace is."""


def now() -> float:
    """Seconds since boot, the clock of telemetry."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Outputs:
    """What all runs printed, one after the other in one stream, packed as it grows: runs of one load repeat
    most of each other (their pictures), which a dictionary of megabytes sees."""

    def __init__(self) -> None:
        self.packer = lzma.LZMACompressor(preset=1)
        self.packed = bytearray()
        self.count = 0

    def add(self, output: bytes) -> int:
        """Append one output; returns its length."""
        self.count += 1
        self.packed += self.packer.compress(output)
        return len(output)

    def close(self) -> str:
        """The whole stream as base64."""
        self.packed += self.packer.flush()
        return base64.b64encode(self.packed).decode("ascii")


class Load:
    """One load: its command, the run that is on, and all that are over."""

    def __init__(self, entry: dict[str, Any], folder: str, outputs: Outputs, setpriv: str) -> None:
        self.name, self.argv, self.steady = entry["name"], entry["argv"], entry["steady"]
        self.folder, self.outputs, self.setpriv = folder, outputs, setpriv
        self.pid = 0
        self.began = 0.0
        self.runs: list[dict[str, Any]] = []

    def _path(self, stream: str) -> str:
        return os.path.join(self.folder, f"{self.name}.{stream}")

    def start(self) -> None:
        """Begin a run in a session of its own."""
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, self._path("out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, self._path("err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        self.began = now()
        # A session of its own, so that its children stop and go on with it; it ends at the latest when we do.
        argv = [self.setpriv, "--pdeathsig", "KILL", *self.argv]
        self.pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)

    def ended(self) -> bool:
        """Whether its run is over; then it is written down."""
        if not self.pid:
            return True
        if not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        self._write_down(self._collect(), cut=False)
        return True

    def _collect(self) -> int:
        """End what an ended run left behind in its session, and take its status. In this order: until it is
        taken, the number is that of this run's group and of no other."""
        self.signal(signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def _write_down(self, code: int, *, cut: bool) -> None:
        out = _read(self._path("out"), LONGEST)
        errors = b"" if code == 0 else _read(self._path("err"), LONGEST)
        said = errors[-500:]
        if _TRACE in errors and _TRACE not in said:
            said = _TRACE + b" ... " + said
        self.runs.append(
            {
                "load": self.name,
                "status": code if code >= 0 else 128 - code,
                "cut": cut,
                "started": self.began,
                "ended": now(),
                "bytes": self.outputs.add(out),
                "number": self.outputs.count,
                "said": said.decode("utf-8", "backslashreplace"),
            }
        )

    def signal(self, number: int) -> None:
        """Send a signal to its whole process group."""
        if self.pid:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return  # nobody of the group is left

    def cut(self) -> None:
        """End a run that did not finish in time; it counts as cut, not as an answer."""
        if self.pid:
            self.signal(signal.SIGCONT)
            self._collect()
            self._write_down(0, cut=True)


def _read(path: str, most: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(most)


class Mix:
    """All loads, and the phase they are in."""

    def __init__(self, loads: list[Load], outputs: Outputs) -> None:
        self.loads, self.outputs = loads, outputs
        self.stopped = False
        self.ending = False

    @property
    def full(self) -> bool:
        """Whether more output would no longer come back whole."""
        return len(self.outputs.packed) > TOO_MUCH

    def tick(self, active: int) -> None:
        """Let the first ``active`` loads run, begin again what ended, wait a moment."""
        for load in self.loads[:active]:
            if load.ended() and not (self.ending or self.full or (self.stopped and not load.steady)):
                load.start()
        select.select((), (), (), _TICK)

    def stop(self, stopped: bool) -> None:
        """Stop all loads that may be stopped, or let them go on."""
        if stopped != self.stopped:
            self.stopped = stopped
            for load in self.loads:
                if not load.steady:
                    load.signal(signal.SIGSTOP if stopped else signal.SIGCONT)

    def phase(self, kind: str, seconds: float, pulse: float) -> dict[str, Any]:
        """Run one phase; returns when it was and how often it stopped the loads."""
        began, stops = now(), 0
        while now() - began < seconds and not self.ending:
            spent = now() - began
            if kind == "pulse":
                stop = int(spent / pulse) % 2 == 1
                stops += stop and not self.stopped
                self.stop(stop)
            share = min(1.0, spent / seconds + 1.0 / len(self.loads)) if kind == "ramp" else 1.0
            self.tick(max(1, int(share * len(self.loads))))
        self.stop(False)
        return {"kind": kind, "started": began, "ended": now(), "stops": stops}

    def finish(self, grace: float) -> None:
        """Let runs that have begun end by themselves, and cut them after ``grace`` seconds."""
        self.ending = True
        until = now() + grace
        while now() < until and sum(not load.ended() for load in self.loads):
            select.select((), (), (), _TICK)
        for load in self.loads:
            load.cut()


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON) and print the observation."""
    job = json.loads(argument)
    tools.clear(job["folder"])
    outputs = Outputs()
    try:
        setpriv = tools.find("setpriv")
    except tools.MissingTool as error:
        print(json.dumps({"payload": "mix", "error": str(error)}), flush=True)
        sys.exit(3)
    mix = Mix([Load(entry, job["folder"], outputs, setpriv) for entry in job["loads"]], outputs)

    def end(_number: int, _frame: Any) -> None:
        mix.ending = True

    signal.signal(signal.SIGTERM, end)
    phases = []
    try:
        for entry in job["phases"]:
            phases.append(mix.phase(entry["kind"], entry["seconds"], job["pulse_seconds"]))
        asked_to_end = mix.ending
        mix.finish(0.0 if asked_to_end else job["grace_seconds"])
    except OSError as error:
        for load in mix.loads:
            load.cut()
        print(json.dumps({"payload": "mix", "error": f"the loads could not be started: {error}"}), flush=True)
        sys.exit(3)
    observed = {
        "phases": phases,
        "runs": sorted((run for load in mix.loads for run in load.runs), key=lambda run: run["number"]),
        "full": mix.full,
        "outputs": outputs.close(),
    }
    versions = {"python": sys.version.split()[0]}
    print(
        json.dumps({"payload": "mix", "engine": "mix", "observed": observed, "versions": versions}),
        flush=True,
    )
    tools.clear(job["folder"])
