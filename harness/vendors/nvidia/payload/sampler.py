"""Samples every NVIDIA GPU that this machine sees, and follows its kernel log, into an append-only spool.

Usage: ``main(JSON)`` with ``spool`` (path, made new), ``fast_hz``, ``slow_hz``, ``deadline`` (seconds
that one NVML call may take), ``start_deadline`` (the same while NVML starts), ``library`` (path of
``libnvidia-ml.so.1``, or "" for the system's), ``pynvml`` (folder that holds ``pynvml.py``, or ""), ``kmsg``
(path), ``jobs`` (folder of keyed jobs: processes of their sessions, and what these started, are ours, all
others foreign) and ``seconds`` (end by itself after; 0: only by SIGTERM or SIGINT). All but ``spool`` have
defaults. When it ends it prints one line of strict JSON: ``{"payload": "sampler", "spool", "reason"}``.

**The spool** is strict JSON, one object a line, each line written by one write(2) and on disk within a
second. A machine that dies tears at most the last line and loses at most the last second. ``mono`` is
CLOCK_BOOTTIME in seconds, ``wall`` CLOCK_REALTIME in seconds, ``gpu`` NVML's index. ``start`` comes first;
several processes write, so other lines are in order of time only for one gpu. A reader skips types that it
does not know.

``start``        format (1), boot_id, mono, wall, pid, fast_hz, slow_hz, deadline, kmsg (path)
``nvml``         mono, source ("nvml", or "" when NVML cannot be asked; ``detail`` says why), standin (name of
                 the scenario when the library is Shakedown's stand-in, else ""), driver, nvml (version),
                 library (path it was loaded from), gpus (how many), detail. Missing: NVML never answered, see
                 ``hung``.
``gpu``          mono, gpu, uuid, name, address ("0000:17:00.0"), pci_id ("10de:2335"), subsystem (the same
                 form), serial, vbios, memory_bytes, properties (names and units of the sensors in
                 harness.telemetry.gpu.series; null: not offered), fast, slow and settings (names of the
                 values in those lines), not_offered (names of sensors that the card says it does not have:
                 they are in neither). Text fields: "" when not offered. Before it, a gpu has no lines but
                 hung, returned, lost and died
``fast``         mono (before the first read), gpu, values: in the order of ``fast``, null where a read
                 failed. Units are those of harness.telemetry.gpu.series (W, J, degC, MHz, %); ``reasons`` is
                 NVML's bit mask of clock events.
``slow``         the same, in the order of ``slow``. Errors that NVML counts by link are asked in turns, those
                 of each link every four rounds; all of them in the first round and in the last.
``settings``     mono, gpu, values: properties, identity and driver again, in the order of ``settings``, every
5 s and at the end; null: not offered, or it could not be read
``event``        mono, gpu, name, old, new: a value of a slow line, other than memory_used, changed
``processes``    mono, gpu, list of {pid, name, bytes (null: unknown), ours}: at first, and when it changed
``error``        mono, gpu, name (of a sensor, or a call), error (NVML's word, "NVMLError_NoPermission"): a
                 read failed, told when the error of this sensor is a new one; each failed read is a null
``lost``         mono, gpu, call (or sensor), error: the GPU is gone (GPU_IS_LOST, GPU_NOT_FOUND) or cannot
                 be used any more (RESET_REQUIRED); it is not asked again
``hung``         mono, gpu (null: while NVML itself started), call, seconds (so far), pid: a call is over its
                 deadline. This GPU has no samples until it comes back; the others do
``returned``     mono, gpu, call, seconds: it did come back
``died``         mono, gpu, status (exit status, or -signal): the process that asked this GPU is gone; it is
                 not asked again
``kmsg``         seq, t (seconds since boot), level (0-7), facility (0: the kernel's own; 1: written by a
                 program, which the stand-in is), text. The log is read from its beginning, so old lines come
                 first. A line that is not of the form of /dev/kmsg has null for all but text.
``kmsg_start``   mono, seq (the first that was still there; null: none yet) or error (it could not be opened
                 or read: not followed from then on)
``kmsg_dropped`` mono, lines: the kernel overwrote these before they were read
``usage``        mono, wall, cpu_seconds (of this sampler so far, all its processes), every 10 s
``end``          mono, wall, cpu_seconds, reason ("SIGTERM", "SIGINT", "seconds", or what went wrong), left
                 (pids of processes that hang in the driver and could not be ended)

Each GPU is asked by a process of its own, since a call that hangs in the driver can neither be interrupted
nor killed, and a process holding such a thread never ends. The process that writes ``end`` never calls NVML.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import time

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

DEFAULTS = {
    "fast_hz": 10.0, "slow_hz": 1.0, "deadline": 2.0, "start_deadline": 30.0, "library": "", "binding": "",
    "kmsg": "/dev/kmsg", "jobs": "/run/shakedown/jobs", "seconds": 0.0,
}  # fmt: skip
LOOK_SECONDS = 0.2
"""How often the parent reads the kernel log and looks whether a call hangs."""
SYNC_SECONDS = 0.6
USAGE_SECONDS = 10.0
GRACE_SECONDS = 1.5
"""How long the processes of the GPUs have to end by themselves."""
MOST_GPUS = 64
NAME_BYTES = 48
COUNT, STOP, FIRST = 0, 1, 2
"""Places on the board: how many GPUs there are (-1: not known yet), whether to stop, where workers begin."""
PER_WORKER = 2
"""Since when it is in a call (0: in none), and the processor time it has used."""


def now() -> float:
    """Seconds since boot, time asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Spool:
    """The file, opened for appending by every process: a line is one write."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )

    def put(self, kind: str, **values: Any) -> None:
        """Append a line of that type, with the time now unless it is given."""
        line = {"type": kind, "mono": round(now(), 3), **values}
        os.write(self.descriptor, json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n")


class Board:
    """Memory shared with the processes of the GPUs: what call each is in since when, and what it has used."""

    name_bytes = NAME_BYTES
    now = staticmethod(now)

    def __init__(self) -> None:
        self.names = 8 * (FIRST + MOST_GPUS * PER_WORKER)
        self.memory = mmap.mmap(-1, self.names + MOST_GPUS * NAME_BYTES)
        self.numbers = memoryview(self.memory)[: self.names].cast("d")
        self.numbers[COUNT] = -1

    def place(self, worker: int) -> tuple[int, int]:
        """Index of a worker's numbers, and offset of its call's name."""
        return FIRST + worker * PER_WORKER, self.names + worker * NAME_BYTES

    def call(self, worker: int) -> tuple[float, str]:
        """Since when a worker is in which call; 0.0 when it is in none."""
        numbers, name = self.place(worker)
        return self.numbers[numbers], self.memory[name : name + NAME_BYTES].rstrip(b"\0").decode()

    def publish(self, count: int) -> None:
        """Tell the parent how many GPUs there are."""
        self.numbers[COUNT] = count

    def stopping(self) -> bool:
        """Whether all workers are to end."""
        return bool(self.numbers[STOP])


class KernelLog:
    """/dev/kmsg (one record a read), or a file or pipe with such lines, from its beginning."""

    reads = 2000
    """At most so many in one go."""

    def __init__(self, path: str, spool: Spool) -> None:
        self.spool, self.rest, self.next = spool, b"", -1
        self.told = False
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            spool.put("kmsg_start", error=f"{type(error).__name__}: {error}")

    def follow(self, *, to_the_end: bool = False) -> None:
        """Copy what is new; some thousand lines, so that a flood cannot hold up everything else, or
        ``to_the_end``: some ten thousand, all that the kernel's buffer can hold.
        """
        for _ in range(20 if to_the_end else 1):
            if not self.read():
                break
        if self.descriptor >= 0 and not self.told:
            self.told = True
            self.spool.put("kmsg_start", seq=None)

    def read(self) -> bool:
        """Copy what is there; returns whether there may be more."""
        if self.descriptor < 0:
            return False
        for _ in range(self.reads):
            try:
                data = os.read(self.descriptor, 16384)
            except BlockingIOError:
                return False
            except BrokenPipeError:
                continue  # overwritten before it was read: the next record's number tells how many
            except OSError as error:
                self.spool.put("kmsg_start", error=f"{type(error).__name__}: {error}")
                self.descriptor = -1
                return False
            if not data:
                return False
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                if line and line[:1] != b" ":  # such are the record's dictionary
                    self.copy(line)
        return True

    def copy(self, line: bytes) -> None:
        """One record: ``priority,sequence,microseconds,flags;text`` (Documentation/ABI/testing/dev-kmsg)."""
        head, _, text = line.decode("utf-8", "backslashreplace").partition(";")
        fields = head.split(",")
        if len(fields) < 3 or not all(field.isascii() and field.isdigit() for field in fields[:3]):
            said = line.decode("utf-8", "backslashreplace")
            self.spool.put("kmsg", seq=None, t=None, level=None, facility=None, text=said)
            return
        priority, sequence, micros = map(int, fields[:3])
        if not self.told:
            self.told = True
            self.spool.put("kmsg_start", seq=sequence)
        elif 0 <= self.next < sequence:
            self.spool.put("kmsg_dropped", lines=sequence - self.next)
        self.next = sequence + 1
        seconds, level, facility = micros / 1e6, priority & 7, priority >> 3
        self.spool.put("kmsg", seq=sequence, t=seconds, level=level, facility=facility, text=text)


class Watch:
    """The processes of the GPUs, as their parent sees them."""

    def __init__(self, job: dict[str, Any], spool: Spool, board: Board) -> None:
        self.job, self.spool, self.board = job, spool, board
        self.pids: dict[int, int] = {}
        self.calls: dict[int, tuple[float, float]] = {}
        """GPU to the start of the call it is in, and for how long it was watched there."""
        self.hung: dict[int, tuple[float, str, int | None]] = {}
        """GPU to the start and the name of the call that hangs, and the ``gpu`` that its line has."""

    def fork(self, gpu: int, nvml: Any) -> None:
        """Start the process of one GPU."""
        pid = os.fork()
        if pid:
            self.pids[gpu] = pid
            return
        status = 1
        try:
            from harness.vendors.nvidia.payload import sampler_gpu

            sampler_gpu.work(self.job, self.spool, self.board, gpu, nvml)
            status = 0
        except BaseException:  # raised again
            sys.excepthook(*sys.exc_info())
            raise
        finally:
            os._exit(status)

    def look(self, passed: float) -> None:
        """Say which calls are over their deadline, or came back. ``passed``: seconds since the last look.

        Only time for which this process was awake counts: a machine that stood still makes no call hang.
        """
        for gpu in self.pids:
            since, name = self.board.call(gpu)
            began, watched = self.calls.get(gpu, (0.0, 0.0))
            if gpu in self.hung and since != self.hung[gpu][0]:
                old, call, told = self.hung.pop(gpu)
                self.spool.put("returned", gpu=told, call=call, seconds=round(now() - old, 3))
            watched = watched + min(passed, 2 * LOOK_SECONDS) if since and since == began else 0.0
            self.calls[gpu] = (since, watched)
            starting = not self.board.numbers[self.board.place(gpu)[0] + 1]
            limit = self.job["start_deadline" if starting else "deadline"]
            if since and watched >= limit and gpu not in self.hung:
                self.hung[gpu] = (since, name, told := self.shown(gpu))
                seconds, pid = round(now() - since, 3), self.pids[gpu]
                self.spool.put("hung", gpu=told, call=name, seconds=seconds, pid=pid)

    def shown(self, gpu: int) -> int | None:
        """None while it is the library that starts, not yet a GPU that is asked."""
        return None if self.board.numbers[COUNT] < 0 else gpu

    def reap(self) -> None:
        """Take note of processes that ended; one that did not end well is told."""
        for gpu, pid in list(self.pids.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.pids[gpu]
                code = os.waitstatus_to_exitcode(status)
                if code:
                    self.spool.put("died", gpu=gpu, status=code)

    def end(self) -> list[int]:
        """Stop all; those that hang are killed. Returns the pids of what even that does not end."""
        self.board.numbers[STOP] = 1
        killed = now() + GRACE_SECONDS
        while self.pids and now() < killed + 0.5:
            self.reap()
            hang_only = all(gpu in self.hung for gpu in self.pids)
            if self.pids and (hang_only or now() >= killed):
                for pid in self.pids.values():
                    os.kill(pid, signal.SIGKILL)
                self.pids, left = {}, self.pids
                return self.bury(left)
            time.sleep(0.02)
        return []

    @staticmethod
    def bury(killed: dict[int, int]) -> list[int]:
        """Wait a moment for killed processes; those in the middle of a driver's call stay."""
        left = list(killed.values())
        until = now() + 0.5
        while left and now() < until:
            left = [pid for pid in left if not os.waitpid(pid, os.WNOHANG)[0]]
            time.sleep(0.02)
        return left

    def cpu(self) -> float:
        """Processor seconds used by this process and those of the GPUs, the dead included."""
        spent = sum(os.times()[:4])
        return round(spent + sum(self.board.numbers[self.board.place(gpu)[0] + 1] for gpu in self.pids), 3)


def follow(job: dict[str, Any], spool: Spool) -> str:
    """Sample until told to stop; returns why it ended."""
    said = {key: job[key] for key in ("fast_hz", "slow_hz", "deadline", "kmsg")}
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    spool.put("start", format=1, boot_id=boot, wall=round(time.time(), 3), pid=os.getpid(), **said)
    job["parent"] = os.getpid()
    log, board = KernelLog(job["kmsg"], spool), Board()
    log.follow()
    watch = Watch(job, spool, board)
    nvml = bring(job, spool)
    if nvml is not None:
        watch.fork(0, nvml)
    began = last = synced = now()
    told, reason, started = began, "", 1
    while not reason:
        time.sleep(LOOK_SECONDS)
        # Blocked and asked for: sigtimedwait of Python 3.11 invents a signal after SIGSTOP and SIGCONT.
        told_to_end = signal.sigpending() & set(ENDING)
        at = now()
        log.follow()
        watch.look(at - last)
        watch.reap()
        while nvml is not None and started < min(board.numbers[COUNT], MOST_GPUS):
            watch.fork(started, nvml)
            started += 1
        if at - synced >= SYNC_SECONDS:
            os.fdatasync(spool.descriptor)
            synced = at
        if at - told >= USAGE_SECONDS:
            spool.put("usage", wall=round(time.time(), 3), cpu_seconds=watch.cpu())
            told = at
        last = at
        if told_to_end:
            reason = signal.Signals(min(told_to_end)).name
        elif os.fstat(spool.descriptor).st_nlink == 0:
            # Whoever cleared the work folder cannot stop us by our key any more.
            reason = "the samples file was removed"
        elif job["seconds"] and at - began >= job["seconds"]:
            reason = "seconds"
    left = watch.end()
    log.follow(to_the_end=True)
    ended = {"wall": round(time.time(), 3), "cpu_seconds": watch.cpu()}
    spool.put("end", **ended, reason=reason, left=left)
    os.fdatasync(spool.descriptor)
    return reason


ENDING = (signal.SIGTERM, signal.SIGINT)


def bring(job: dict[str, Any], spool: Spool) -> Any:
    """pynvml; None, with an ``nvml`` line that says so, when it is not here."""
    if job["binding"]:
        sys.path.insert(1, job["binding"])
    try:
        import pynvml
    except ImportError as error:
        none = dict.fromkeys(("source", "standin", "driver", "nvml", "library"), "")
        spool.put("nvml", **none, gpus=0, detail=f"pynvml is not installed: {error}")
        return None
    return pynvml


def main(argument: str) -> None:
    """Run with the parameters in ``argument`` (JSON)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    job = {**DEFAULTS, **json.loads(argument)}
    try:
        reason = follow(job, Spool(job["spool"]))
    except OSError as error:
        print(json.dumps({"payload": "sampler", "error": f"{type(error).__name__}: {error}"}), flush=True)
        sys.exit(3)
    print(json.dumps({"payload": "sampler", "spool": job["spool"], "reason": reason}), flush=True)
