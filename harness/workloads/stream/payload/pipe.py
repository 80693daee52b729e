"""The two ffmpeg processes of ``stream.py``: one encodes and sends RTP, one receives and decodes.

Both speak over 127.0.0.1 only. The codec is named on each side, so ffmpeg cannot fall back to another one.
"""

from __future__ import annotations

import os
import re
import signal
import time

from harness.vendors.payload.names import H264_CODER

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    from typing import Any

_PIPE_BYTES, _SET_PIPE_SIZE = 1 << 20, 1031
"""The most that every user may have, and Linux's F_SETPIPE_SZ."""
_PACKET = 1200
"""Bytes of one packet: what fits through most networks, as game streaming does."""
PATIENCE = 3.0
"""Seconds that an ffmpeg that was told to end may take."""


def free_port() -> int:
    """An even UDP port of 127.0.0.1 that is free together with the next one (RFC 3550, section 11).

    Raises OSError. Leaves ``port-NUMBER`` in the working directory.
    """
    import _socket

    for _ in range(200):
        one = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        other = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        try:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1]) & ~1
            if port == one.getsockname()[1]:
                other.bind(("127.0.0.1", port + 1))
                # Streams of other GPUs look at the same time: a file in their common folder makes it ours.
                os.close(os.open(f"port-{port}", os.O_CREAT | os.O_EXCL, 0o600))
                return port
        except OSError:
            continue
        finally:
            one.close()
            other.close()
    raise OSError("no two neighbouring UDP ports are free")


def bound(port: int) -> bool:
    """Whether somebody listens on that UDP port."""
    wanted = f":{port:04X}"
    with open("/proc/net/udp", encoding="ascii") as stream:
        return any(line.split()[1].endswith(wanted) for line in stream if ":" in line)


def unheard(port: int, table: str = "/proc/net/udp") -> int:
    """Packets that the kernel threw away since the listener on that UDP port did not fetch them in time."""
    with open(table, encoding="ascii") as stream:
        rows = [line.split() for line in stream]
    mine = [row[-1] for row in rows[1:] if row[1].endswith(f":{port:04X}")]
    return sum(int(drops) for drops in mine if drops.isdigit())


def describe(path: str, port: int) -> None:
    """Write the session description (RFC 4566) that the receiver reads."""
    lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
             f"m=video {port} RTP/AVP 96", "a=rtpmap:96 H264/90000", "a=fmtp:96 packetization-mode=1",
             "")  # fmt: skip
    with open(path, "w", encoding="ascii", newline="") as stream:
        stream.write("\r\n".join(lines))


def _passing(version: str) -> list[str]:
    """No frame is doubled or left out to keep a rate. The option's name changed with ffmpeg 5.1, and 9.0 does
    not know the old one any more; versions without numbers are snapshots, of late."""
    told = re.match(r"n?([0-9]{1,3})\.([0-9]{1,3})", version)
    old = told is not None and (int(told[1]), int(told[2])) < (5, 1)
    return ["-vsync", "0"] if old else ["-fps_mode", "passthrough"]


def encoder(ffmpeg: str, job: dict[str, Any], pixel_format: str, port: int, version: str) -> list[str]:
    """Raw pictures on stdin, RTP to that port."""
    rate, kbps = job["rate"], job["kbps"]
    if job["gpus"]:
        codec = [H264_CODER, "-preset", "p1", "-tune", "ull", "-zerolatency", "1", "-delay", "0",
                 "-rc", "cbr", "-bf", "0"]  # fmt: skip
    else:
        codec = ["libx264", "-preset", "ultrafast", "-tune", "zerolatency",
                 "-threads", str(job["threads"])]  # fmt: skip
    return [
        ffmpeg, "-nostdin", "-nostats", "-hide_banner", "-v", "warning",
        "-probesize", "32", "-f", "rawvideo", "-pix_fmt", pixel_format,
        "-s", f"{job['width']}x{job['height']}", "-r", str(rate), "-i", "pipe:0",
        *_passing(version), "-pix_fmt", "yuv420p", "-c:v", *codec, "-g", str(2 * rate),
        "-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{max(1, kbps * 4 // rate)}k",
        "-payload_type", "96", "-rtpflags", "skip_rtcp", "-flush_packets", "1",
        "-f", "rtp", f"rtp://127.0.0.1:{port}?pkt_size={_PACKET}",
    ]  # fmt: skip


def decoder(ffmpeg: str, job: dict[str, Any], session: str, version: str) -> list[str]:
    """RTP as the session describes it, raw yuv420p pictures on stdout.

    One thread writes them: with more, ffmpeg's encoder of raw video holds pictures back. ``nobuffer`` is left
    out on both sides: ffmpeg then throws the first picture away that it looked at, which is the key frame.
    """
    return [
        ffmpeg, "-nostdin", "-nostats", "-hide_banner", "-v", "warning",
        "-protocol_whitelist", "file,rtp,udp", "-flags", "low_delay",
        "-probesize", "32", "-analyzeduration", "0", "-reorder_queue_size", "0", "-buffer_size", "4194304",
        "-localaddr", "127.0.0.1", "-c:v", "h264_cuvid" if job["gpus"] else "h264",
        "-threads", str(job["threads"]), "-thread_type", "slice", "-f", "sdp", "-i", session,
        "-map", "0:v", *_passing(version), "-threads", "1", "-pix_fmt", "yuv420p", "-flush_packets", "1",
        "-f", "rawvideo", "pipe:1",
    ]  # fmt: skip


def wide_pipe() -> tuple[int, int]:
    """A pipe that holds as much as the kernel grants: whole pictures, not 64 KiB of one."""
    import fcntl

    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
    except OSError:
        return reading, writing  # fewer bytes cost some wake-ups only
    return reading, writing


class Tool:
    """One ffmpeg with its log. It ends at the latest when this process does (setpriv, util-linux)."""

    def __init__(self, argv: list[str], setpriv: str, log: str, *, stdin: int = -1, stdout: int = -1) -> None:
        actions: list[Any] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
            if stdin < 0
            else (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, stdout if stdout >= 0 else 2, 1),
        ]
        whole = [setpriv, "--pdeathsig", "KILL", *argv]
        self._log = log
        self.status: int | None = None
        variables = {**os.environ, "LC_ALL": "C"}
        self.pid = os.posix_spawn(whole[0], whole, variables, file_actions=actions)
        for descriptor in (stdin, stdout):
            if descriptor >= 0:
                os.close(descriptor)

    def running(self) -> bool:
        """Whether it still runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def end(self, *, by: int | None = signal.SIGTERM) -> None:
        """End it: by that signal (None: it is about to end by itself), after PATIENCE by SIGKILL."""
        if not self.running():
            return
        if by is not None:
            os.kill(self.pid, by)
        deadline = time.monotonic() + PATIENCE
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def said(self) -> str:
        """The end of its log."""
        try:
            with open(self._log, encoding="utf-8", errors="backslashreplace") as stream:
                return stream.read()[-1500:].strip()
        except OSError:
            return ""
