"""Real ffmpeg on both ends: a clean stream passes, and what is spoilt under way is found and told apart.

Faults are put in by an ``ffmpeg`` of our own, first on PATH, that runs the real one: it spoils packets on
their way to the receiver, or decoded pictures on their way to the reader.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.model.evidence import WorkloadResult
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job, Place
from harness.workloads.judge import judge
from harness.workloads.registry import workload
from harness.workloads.render import golden as render_golden
from harness.workloads.runs import collect, start, stop, wait
from harness.workloads.stream import golden as stream_golden
from harness.workloads.stream.payload import picture, pipe
from tests.native import fake
from tests.packed import packed

FFMPEG = shutil.which("ffmpeg")
SMALL = {
    "width": 128,
    "height": 96,
    "rate": 60,
    "frames": 16,
    "samples": 2,
    "kbps": 1000,
    "min_rate_share": 0.0,
}
"""The rate is not asked for: these tests share their machine with others."""
needs_ffmpeg = pytest.mark.skipif(
    not FFMPEG or not shutil.which("setpriv"), reason="ffmpeg or setpriv (util-linux) is not installed here"
)

WRAPPER = """#!{python}
import os, subprocess, sys
sys.path.insert(0, {payload!r})
from harness.workloads.stream.payload import picture as p
argv = [{real!r}, *sys.argv[1:]]
target = argv[-1]
SIZE = 128 * 96 * 3 // 2
def pictures():
    inner = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    while len(frame := inner.stdout.read(SIZE)) == SIZE:
        number = p.read_number(frame, 128, 8)
        for out in spoil(number, bytearray(frame)):
            sys.stdout.buffer.write(out)
        sys.stdout.buffer.flush()
def packets(lose):
    import re, socket
    port = int(re.search(r"127.0.0.1:(\\d+)", target)[1])
    ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ours.bind(("127.0.0.1", 0))
    if os.fork():
        argv[-1] = target.replace(str(port), str(ours.getsockname()[1]))
        os.execv(argv[0], argv)
    ours.settimeout(0.2)
    parent, stamps = os.getppid(), []
    while os.getppid() == parent:
        try:
            packet = ours.recv(4096)
        except TimeoutError:
            continue
        if packet[4:8] not in stamps[-1:]:
            stamps.append(packet[4:8])
        if not lose(len(stamps)):
            ours.sendto(packet, ("127.0.0.1", port))
def paint(frame, number):
    for row, cells in enumerate(p.cell_rows(number, 8, bytes([16]), bytes([235]))):
        for y in range(row * 8, row * 8 + 8):
            frame[y * 128 : y * 128 + 64] = cells
    return frame
held = []
{body}
"""


@pytest.fixture
def spoilt(tmp_path: Path) -> Callable[[str], str]:
    """A PATH whose ffmpeg does that."""

    def make(body: str) -> str:
        folder = tmp_path / "bin"
        folder.mkdir()
        text = WRAPPER.replace("{python}", sys.executable).replace("{payload!r}", repr(str(packed())))
        script = folder / "ffmpeg"
        script.write_text(text.replace("{real!r}", repr(FFMPEG)).replace("{body}", body))
        script.chmod(0o755)
        return f"{folder}:{os.environ['PATH']}"

    return make


def spoil(rule: str) -> str:
    """A wrapper that spoils decoded pictures: ``rule`` makes of number ``n`` and frame ``f`` a list."""
    run = "if '-encoders' in argv or target != 'pipe:1': os.execv(argv[0], argv)\npictures()"
    return f"def spoil(n, f):\n    return {rule}\n{run}"


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Job]:
    def make(*gpus: str, python: str = sys.executable, **parameters: Any) -> Job:
        place = Place(
            python=python, payload=str(packed()), jobs=str(tmp_path / "jobs"), work=str(tmp_path / "work")
        )
        cards = tuple(
            GuestDevice(address=p, vendor="10de", device="26b5", host=p)
            for p in (PciAddress.parse(text) for text in gpus)
        )
        given = {**SMALL, **parameters}
        return Job(key="k1", guest="g1", tenant="t", vcpus=2, parameters=given, place=place, devices=cards)

    return make


def ran(job: Job, path: str | None = None) -> WorkloadResult:
    environment = {**os.environ, **({"PATH": path} if path else {})}
    for argv in (start(job, workload("stream").prepare(job)), wait(job, 60)):
        subprocess.run(argv, check=True, capture_output=True, timeout=90, env=environment)
    raw = subprocess.run(collect(job), check=True, capture_output=True, timeout=60).stdout
    return judge(workload("stream"), job, raw)


def wrong(result: WorkloadResult) -> list[str]:
    assert (result.status, result.detail) == ("done", "")
    return [a.name.removesuffix(" on cpu") for a in result.answers if not a.ok]


@needs_ffmpeg
def test_a_clean_stream_brings_every_picture_in_order_and_in_time(made: Callable[..., Job]) -> None:
    result = ran(made())
    assert wrong(result) == []
    assert len(result.answers) == 10
    values = {m.name: m.value for m in result.measurements}
    assert (values["stream.dropped"], values["stream.duplicated"]) == (0.0, 0.0)
    assert 0 < float(values["stream.latency_p50"] or 0) <= float(values["stream.latency_p99"] or 0) < 5000
    assert result.engine == "cpu"
    assert result.versions["ffmpeg"][0].isdigit()


@needs_ffmpeg
@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("[f, f] if n == 5 else [f]", ["share of pictures that arrived twice"]),
        ("[] if n == 5 else [f]", ["share of pictures that never arrived"]),
        ("[held.append(f)][:0] if n == 5 else [f, *held] * (n == 6) or [f]", ["pictures out of order"]),
        (
            "[f[:2048] + bytes(1024) + f[3072:]] if n == 5 else [f]",
            ["pictures whose counter is corrupt", "share of pictures that never arrived"],
        ),
        (
            "[paint(f, 3000)] if n == 5 else [f]",
            ["counters that were never sent", "share of pictures that never arrived"],
        ),
        (
            "[paint(bytearray([128]) * len(f), n)] if n == 8 else [f]",
            ["PSNR of the worst sampled picture"],
        ),
    ],
    ids=["doubled", "dropped", "disordered", "corrupt", "stray", "grey"],
)
def test_what_goes_wrong_with_pictures_is_told_apart(
    rule: str, names: list[str], made: Callable[..., Job], spoilt: Callable[[str], str]
) -> None:
    assert wrong(ran(made(), spoilt(spoil(rule)))) == names


@needs_ffmpeg
def test_lost_packets_are_lost_pictures(made: Callable[..., Job], spoilt: Callable[[str], str]) -> None:
    body = (
        "if '-encoders' in argv or target == 'pipe:1': os.execv(argv[0], argv)\n"
        "packets(lambda stamp: stamp > 8 and stamp % 7 == 0)"
    )
    assert "share of pictures that never arrived" in wrong(ran(made(frames=30), spoilt(body)))


@needs_ffmpeg
def test_a_receiver_that_ends_under_way_is_a_wrong_answer(
    made: Callable[..., Job], spoilt: Callable[[str], str]
) -> None:
    result = ran(made(), spoilt(spoil("sys.exit(7) if n == 5 else [f]")))
    assert wrong(result) == ["cpu to the end"]
    assert "the decoder ended with status 7" in result.answers[0].detail


@needs_ffmpeg
def test_an_encoder_that_ends_at_once_is_missing_evidence(
    made: Callable[..., Job], spoilt: Callable[[str], str]
) -> None:
    body = "if '-encoders' in argv or target == 'pipe:1': os.execv(argv[0], argv)\nsys.exit('no such filter')"
    result = ran(made(), spoilt(body))
    assert result.status == "lost"
    assert "no such filter" in result.detail


@needs_ffmpeg
def test_silence_ends_by_itself(made: Callable[..., Job], spoilt: Callable[[str], str]) -> None:
    body = (
        "if '-encoders' in argv or target == 'pipe:1': os.execv(argv[0], argv)\npackets(lambda stamp: True)"
    )
    result = ran(made(start_seconds=1.0), spoilt(body))
    assert result.status == "lost"
    assert "no picture came through within 1 s" in result.detail


@needs_ffmpeg
def test_without_the_encoder_nothing_is_known(made: Callable[..., Job], spoilt: Callable[[str], str]) -> None:
    result = ran(made(), spoilt("print('ffmpeg version 5.1 Encoders: none')"))
    assert result.status == "lost"
    assert "no libx264" in result.detail


@needs_ffmpeg
def test_the_processor_never_encodes_for_a_gpu(
    made: Callable[..., Job], spoilt: Callable[[str], str]
) -> None:
    result = ran(made("0000:41:00.0", width=192, height=160))
    assert result.status in ("lost", "failed")
    assert result.answers == ()


@needs_ffmpeg
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("OpenEncodeSessionEx failed: unsupported device (2): (no details)", 3),
        ("InitializeEncoder failed: generic error (20): ", 4),
    ],
)
def test_an_encoder_of_a_gpu_that_does_not_start_says_whose_fault_it_is(
    words: str, status: int, made: Callable[..., Job], spoilt: Callable[[str], str], tmp_path: Path
) -> None:
    if fake.compiler() is None:
        pytest.skip("no C compiler here")
    cuda = fake.build(tmp_path) / "libcuda.so.1"
    for name in ("libnvidia-encode.so.1", "libnvcuvid.so.1"):
        shutil.copy(cuda, tmp_path / name)
    path = spoilt(
        "if '-encoders' in argv: sys.exit(print('ffmpeg version 5.1 h264_nvenc '))\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == 'GPU-00000000-0000-0000-0000-000000000002'\n"
        "if target == 'pipe:1': __import__('time').sleep(30)\n"
        f"sys.exit({words!r})"
    )
    machine = fake.environment(tmp_path, fake.machine("0000:81:00.0", "0000:41:00.0"))
    argv = workload("stream").prepare(made("0000:41:00.0", width=192, height=160))
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60, env={**machine, "PATH": path})
    error = json.loads(done.stdout)["error"]
    assert done.returncode == status
    assert words.strip() in error
    assert ("has no NVENC here" in error) == (status == 3)


def inside(folder: Path) -> Iterator[int]:
    """Processes that work below that folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink().is_relative_to(folder):
                    yield int(entry.name)
            except OSError:
                continue


def gone(folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while list(inside(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not list(inside(folder))


@needs_ffmpeg
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_nothing_is_left_running(how: str, made: Callable[..., Job], tmp_path: Path) -> None:
    job = made(frames=5000)
    subprocess.run(start(job, workload("stream").prepare(job)), check=True, capture_output=True)
    deadline = time.monotonic() + 10
    while len(list(inside(tmp_path / "work"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    running = sorted(inside(tmp_path / "work"))
    assert len(running) == 5  # the payload, its stream, the reader, two ffmpeg
    if how == "stopped":
        subprocess.run(stop(job), check=True, capture_output=True)
    else:
        os.kill(running[0], signal.SIGKILL)
    assert gone(tmp_path / "work")


@pytest.mark.parametrize(("width", "height"), [(64, 48), (128, 96), (642, 360)])
def test_pictures_are_drawn_alike_on_both_sides(width: int, height: int) -> None:
    source = picture.Drawn({"width": width, "height": height, "seed": 7})
    for number in (0, 1, 59, 30_000):
        whole = np.frombuffer(source.picture(number, number), np.uint8)
        assert len(whole) == width * height * 3 // 2
        luma = whole[: width * height].reshape(height, width)
        planes = stream_golden.drawn(width, height, 7, number)
        assert (luma == planes[0]).all()
        assert whole.tobytes() == b"".join(plane.tobytes() for plane in planes)
        sampled = picture.sample(memoryview(whole.tobytes()), width, height, 5)
        assert sampled == b"".join(plane[::5, ::5].tobytes() for plane in planes)


@pytest.mark.parametrize("number", [0, 1, 5461, (1 << 24) - 1, 1 << 23])
def test_a_counter_survives_coding_and_no_single_cell_may_change(number: int) -> None:
    luma = stream_golden.drawn(128, 96, 7, 3)[0].astype(np.int64)
    for n, cells in enumerate(picture.cell_rows(number, 8, b"\x10", b"\xeb")):
        luma[n * 8 : n * 8 + 8, :64] = np.frombuffer(cells, np.uint8)
    noisy = np.clip(luma + np.random.default_rng(1).normal(0, 40, luma.shape), 0, 255).astype(np.uint8)
    assert picture.read_number(noisy.tobytes(), 128, 8) == number
    for cell in range(40):
        y, x = cell // 8 * 8, cell % 8 * 8
        one = noisy.copy()
        one[y : y + 8, x : x + 8] = 255 - one[y : y + 8, x : x + 8]
        assert picture.read_number(one.tobytes(), 128, 8) == picture.CORRUPT


def test_the_gpu_codecs_are_named_and_no_other_can_stand_in() -> None:
    job = {"gpus": ["x"], "rate": 60, "kbps": 15000, "width": 1280, "height": 720, "threads": 2}
    encoder = pipe.encoder("ffmpeg", job, "rgba", 5004, "5.1.9-0+deb12u1")
    decoder = pipe.decoder("ffmpeg", job, "s.sdp", "5.1.9-0+deb12u1")
    assert encoder[encoder.index("-c:v") + 1] == "h264_nvenc"
    assert decoder[decoder.index("-c:v") + 1] == "h264_cuvid"
    assert not {"libx264", "h264"} & {*encoder, *decoder[: decoder.index("-i")]}


@needs_ffmpeg
def test_this_ffmpeg_knows_every_option_that_nvenc_is_given() -> None:
    said = subprocess.run(
        [str(FFMPEG), "-hide_banner", "-h", "encoder=h264_nvenc"], capture_output=True, text=True, check=True
    ).stdout
    if "NVENC" not in said:
        pytest.skip("this ffmpeg was built without NVENC")
    job = {"gpus": ["x"], "rate": 60, "kbps": 15000, "width": 1280, "height": 720, "threads": 2}
    argv = pipe.encoder("ffmpeg", job, "rgba", 5004, "5.1.9")
    for name, value in itertools.pairwise(argv):
        if name in ("-preset", "-tune", "-zerolatency", "-delay", "-rc"):
            assert f"  {name} " in said
            assert value.isdigit() or f" {value} " in said


@pytest.mark.parametrize(
    ("version", "option"),
    [("5.1.9-0+deb12u1", "-fps_mode"), ("4.4.2-0ubuntu", "-vsync"), ("7.0", "-fps_mode"),
     ("n6.1", "-fps_mode"), ("n4.4.1", "-vsync"), ("9.0.1", "-fps_mode"),
     ("N-125875-g5d4d3bdc61", "-fps_mode"), ("2026-07-10-git-82aeee3c19", "-fps_mode"),
     ("unknown", "-fps_mode"), ("", "-fps_mode")],
)  # fmt: skip
def test_old_and_new_ffmpeg_pass_pictures_through(version: str, option: str) -> None:
    assert pipe._passing(version)[0] == option


def test_packets_that_nobody_fetched_in_time_are_counted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert pipe.unheard(port) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(50):
                sender.sendto(bytes(1200), ("127.0.0.1", port))
        assert 0 < pipe.unheard(port) < 50
    assert pipe.unheard(port) == 0
    (tmp_path / "udp").write_text("  sl  local_address\n 1: 0100007F:1394 00000000:0000 07 strange\n")
    assert pipe.unheard(0x1394, str(tmp_path / "udp")) == 0


RENDERS = subprocess.run(
    ["/usr/bin/python3", "-c", "import moderngl, ctypes; ctypes.CDLL('libEGL.so.1')"],
    capture_output=True,
    check=False,
).returncode


@needs_ffmpeg
@pytest.mark.skipif(bool(RENDERS), reason="python3-moderngl or libegl1 is not installed here")
def test_rendered_pictures_are_streamed_too(made: Callable[..., Job]) -> None:
    result = ran(made(source="render", driver="softpipe", cubes=6, rate=20, python="/usr/bin/python3"))
    assert wrong(result) == []
    assert result.engine == "opengl:softpipe+cpu"
    one, again = (stream_golden.rendered(128, 96, 7, 6, number) for number in (3, 1024 + 3))
    assert (one[0] == again[0])[40:].all()
    assert render_golden.shaded(128, 96, 7, 6, 3).shape == (96, 128, 3)
