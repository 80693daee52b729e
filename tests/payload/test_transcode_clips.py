"""Clips on GPUs and on the CPU: the payload as it runs, with cards that are wrong in every way we know."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ParseError
from harness.model.evidence import Answer
from harness.model.pci import PciAddress
from harness.vendors.nvidia.payload import driver as gpu_driver
from harness.vendors.nvidia.payload import video as gpu_video
from harness.workloads.base import GuestDevice, Job, Parsed, Place
from harness.workloads.registry import workload
from harness.workloads.transcode.payload import clips as beside
from tests.native import fake
from tests.packed import packed

CASES = Path(__file__).parents[1] / "workloads" / "cases"
TRANSCODE = workload("transcode")
FFMPEG = shutil.which("ffmpeg")
pytestmark = pytest.mark.skipif(not FFMPEG, reason="ffmpeg is not installed here")


GPUS = tuple(
    GuestDevice(address=PciAddress.parse(a), vendor="10de", device="26b9", host=PciAddress.parse(a))
    for a in ("0000:41:00.0", "0000:81:00.0")
)
SMALL: dict[str, Any] = {
    "sizes": "192x144", "clip_frames": 6, "rate_frames": 20, "stream_seconds": 1, "max_streams": 1,
    "codecs": "h264", "bits_per_pixel": 0.6,
}  # fmt: skip
FRAME = 192 * 144 * 3 // 2


class Bench:
    """One run of the payload after another, each with its own card."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = Path(__file__).parents[1] / "fakes" / "ffmpeg.py"
        (folder / "bin").mkdir()
        (folder / "bin" / "ffmpeg").write_text(f"#!{sys.executable} -IS\n" + source.read_text())
        (folder / "bin" / "ffmpeg").chmod(0o755)
        self.cards: tuple[str, ...] = ("0000:81:00.0", "0000:01:00.0", "0000:41:00.0")
        """As CUDA counts them, which need not be the order of their addresses."""
        self.cuda = folder / "cuda"
        self.cuda.mkdir()

    def run(
        self, devices: tuple[GuestDevice, ...] = GPUS[:1], card: dict[str, Any] | None = None, **more: Any
    ) -> tuple[int, bytes, Job]:
        """Exit status, output and job."""
        (self.folder / "bin" / "ffmpeg.json").write_text(
            json.dumps({"real": FFMPEG, "lists": str(CASES), **(card or {})})
        )
        job = Job(
            key="k1", guest="g1", tenant="t", vcpus=2, devices=devices, parameters={**SMALL, **more},
            place=Place(python=sys.executable, payload=str(packed()), work=str(self.folder / "work")),
        )  # fmt: skip
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            TRANSCODE.prepare(job), capture_output=True, check=False, timeout=120,
            env={**fake.environment(self.cuda, fake.machine(*self.cards)), "PATH": path},
        )  # fmt: skip
        assert done.stderr == b""
        return done.returncode, done.stdout, job

    def parsed(self, **how: Any) -> Parsed:
        """A run that came to an end."""
        status, stdout, job = self.run(**how)
        assert status == 0, stdout
        return TRANSCODE.parse(job, stdout)


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if fake.compiler() is None:
        pytest.skip("no C compiler here")
    return fake.build(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def bench(tmp_path: Path, cuda: Path) -> Bench:
    made = Bench(tmp_path)
    shutil.copy(cuda / "libcuda.so.1", made.cuda)
    return made


def wrong(parsed: Parsed) -> list[Answer]:
    return [a for a in parsed.answers if not a.ok]


def test_every_gpu_encodes_and_decodes_at_its_own_address(bench: Bench) -> None:
    parsed = bench.parsed(devices=GPUS, max_streams=1)
    assert wrong(parsed) == []
    assert parsed.engine == "nvenc+nvdec"
    # engine, devices; for each GPU and codec: two references, eight of the clip, streams
    assert len(parsed.answers) == 2 + 2 * (2 + 7 + 1)
    values = {(m.name, m.subject): m.value for m in parsed.measurements}
    assert len(values) == 2 * 3
    assert values["transcode.h264.streams", "0000:81:00.0"] == 1
    assert values["transcode.h264.encode_rate", "0000:41:00.0"] == 100
    # the third and the first of CUDA's GPUs, by their addresses
    named = (bench.folder / "bin" / "ffmpeg.log").read_text().split()
    assert list(dict.fromkeys(named)) == [f"GPU-00000000-0000-0000-0000-00000000000{n}" for n in (3, 1)]
    assert list((bench.folder / "work" / "k1").iterdir()) == []


def test_a_gpu_without_encoders_decodes_what_the_processor_encoded(bench: Bench) -> None:
    parsed = bench.parsed(card={"refuse": "No capable devices found"}, encoder="cpu")
    assert wrong(parsed) == []
    assert parsed.engine == "nvdec"
    assert [m.name for m in parsed.measurements] == ["transcode.h264.decode_rate"]


def spoil(bench: Bench, runs: int) -> None:
    """Runs in which one bit of one frame comes wrong out of the card: each is found, with its frame."""

    @settings(max_examples=runs, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 5), st.integers(0, FRAME * 8 - 1))
    def every(frame: int, bit: int) -> None:
        parsed = bench.parsed(card={"flip": ["clip.mkv", frame, bit]}, encoder="cpu")
        (answer,) = wrong(parsed)
        assert answer.name == "h264 192x144 on 0000:41:00.0: NVDEC against software"
        assert answer.got == f"first differing frame: {frame}"
        assert answer.detail == "1 wrong of 6, 6 came"

    every()


def test_a_single_wrong_bit_of_a_decoded_frame_is_found_with_its_frame(bench: Bench) -> None:
    spoil(bench, 3)


@pytest.mark.slow
def test_a_hundred_single_wrong_bits_are_found(bench: Bench) -> None:
    spoil(bench, 100)


@pytest.mark.parametrize(
    ("card", "names"),
    [
        ({"flip": ["transcode-h264.mkv", 11, 5]}, ["h264 reference on 0000:41:00.0: NVDEC"]),
        (
            {"lose": True},
            ["h264 reference on 0000:41:00.0: NVDEC", "h264 192x144 on 0000:41:00.0: NVDEC against software"],
        ),
        (
            {"bitrate": 0.05},
            [
                "h264 192x144 on 0000:41:00.0: PSNR of the worst frame",
                "h264 192x144 on 0000:41:00.0: SSIM of the worst frame",
            ],
        ),
        ({"bitrate": 20}, ["h264 192x144 on 0000:41:00.0: bits over those allowed"]),
    ],
)
def test_a_card_that_is_wrong_is_named(card: dict[str, Any], names: list[str], bench: Bench) -> None:
    assert [a.name for a in wrong(bench.parsed(card=card))] == names


FULL = {"full": "GPU-00000000-0000-0000-0000-000000000003"}
"""0000:41:00.0, the third of CUDA's GPUs."""


def test_what_one_gpu_lacks_hides_no_wrong_answer(bench: Bench) -> None:
    """Neither its own before, nor another GPU's after."""
    names = [f"h264 reference on {gpu.address}: NVDEC" for gpu in GPUS]
    parsed = bench.parsed(devices=GPUS, card={**FULL, "flip": ["transcode-h264.mkv", 3, 5]})
    assert [a.name for a in wrong(parsed)] == names


def test_right_answers_do_not_stand_for_those_that_are_lacking(bench: Bench) -> None:
    with pytest.raises(ParseError, match=r"the card's memory is in use. decoding h264 on the GPU on 0000:41"):
        bench.parsed(devices=GPUS, card=FULL)


def test_streams_are_counted_until_they_fall_behind_or_are_refused(bench: Bench) -> None:
    parsed = bench.parsed(card={"capacity": 5, "sessions": 3}, min_streams=4, max_streams=6)
    assert {m.name: m.value for m in parsed.measurements}["transcode.h264.streams"] == 3
    assert [a.name for a in wrong(parsed)] == ["h264 on 0000:41:00.0: streams in real time"]


def test_a_stream_that_the_card_no_longer_decodes_does_not_count(bench: Bench) -> None:
    parsed = bench.parsed(card={"decoders": 2}, max_streams=4)
    assert {m.name: m.value for m in parsed.measurements}["transcode.h264.streams"] == 2


def test_a_rate_of_decoding_in_software_is_no_rate_of_the_card(bench: Bench) -> None:
    status, stdout, _ = bench.run(card={"decoders": 0})
    assert status == 4
    assert "decoded in software: Failed setup for format cuda" in json.loads(stdout)["error"]


def test_refused_streams_say_why_once(bench: Bench) -> None:
    _, stdout, _ = bench.run(card={"sessions": 1}, max_streams=4)
    tries = json.loads(stdout)["observed"]["devices"][0]["rates"][0]["tries"]
    (two,) = (one["results"] for one in tries if one["streams"] == 2)
    assert "OpenEncodeSessionEx failed" in two[1]
    assert len(two[1]) < 350
    four = [one["results"] for one in tries if one["streams"] == 4]
    assert [result for results in four for result in results[2:]] == ["status 1"] * 2 * len(four)


@given(st.integers(1, 200), st.integers(0, 250))
def test_the_search_finds_the_last_number_that_keeps_up(most: int, able: int) -> None:
    class Counted(beside.Clips):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.job = {"rate": 25, "stream_seconds": 4, "max_streams": most}

        def played(self, cell: Any, count: int, *, coding: bool, streams: int = 1) -> list[Any]:
            assert coding
            return [[count, 4.0] if n < able else "refused" for n in range(streams)]

    tries = [t["streams"] for t in Counted().search({})]
    assert len(tries) == len(set(tries)) <= 2 * most.bit_length() + 1
    kept = [n for n in tries if n <= able]
    assert max(kept, default=0) == min(able, most)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"refuse": "No capable devices found"}, "one second of h264_nvenc on 0000:41:00.0 ended"),
        ({"refuse": "InitializeEncoder failed: generic error (20): "}, "generic error (20)"),
        ({"broken": True}, "decoding h264 on the GPU on 0000:41:00.0 ended with status 1"),
    ],
)
def test_a_card_that_does_not_work_is_a_broken_engine(card: dict[str, Any], words: str, bench: Bench) -> None:
    status, stdout, _ = bench.run(card=card)
    assert status == 4
    assert words in json.loads(stdout)["error"]


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("Cannot load libnvidia-encode.so.1", "is missing here. one second of h264_nvenc on 0000:41:00.0"),
        (
            "Driver does not support the required nvenc API version. Required: 13.0 Found: 12.1",
            "the driver is older than this ffmpeg's NVENC needs",
        ),
        # An A100's and an H100's words: github.com/kijai/ComfyUI-CogVideoXWrapper/issues/20
        (
            "OpenEncodeSessionEx failed: unsupported device (2): (no details)\nNo capable devices found",
            "must say engines: {nvenc: 0}",
        ),
        ("Codec not supported\nNo capable devices found", "does not encode this codec"),
        ("10 bit encode not supported\nNo capable devices found", "does not encode 10 bit"),
        # github.com/keylase/nvidia-patch/issues/987
        (
            "OpenEncodeSessionEx failed: incompatible client key (21): (no details)",
            "no more encoding sessions",
        ),
        # github.com/NVIDIA/open-gpu-kernel-modules/issues/415
        ("OpenEncodeSessionEx failed: out of memory (10): (no details)", "no more encoding sessions"),
        ("InitializeEncoder failed: invalid param (8): Invalid Level.", "use another ffmpeg or driver"),
    ],
)
def test_words_that_accuse_no_card_leave_it_unknown(words: str, meaning: str, bench: Bench) -> None:
    status, stdout, _ = bench.run(card={"refuse": words})
    assert status == 3
    error = json.loads(stdout)["error"]
    assert meaning in error
    assert words.splitlines()[0] in error


def test_a_codec_that_the_decoder_lacks_accuses_no_card(bench: Bench) -> None:
    status, stdout, _ = bench.run(card={"broken": "Hardware is lacking required capabilities"}, encoder="cpu")
    assert status == 3
    assert "NVDEC of this GPU does not decode this" in json.loads(stdout)["error"]


def test_a_stream_refused_for_what_is_no_fault_keeps_the_words_that_say_so(bench: Bench) -> None:
    words = "OpenEncodeSessionEx failed: out of memory (10): (no details)\n" + "And so on. " * 100
    assert gpu_video.telling(words, 300) == words.splitlines()[0]
    assert gpu_video.telling("It broke. " * 100, 30).endswith("It broke.")
    assert not gpu_video.no_fault("CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_UNKNOWN, map failed (16)")


def test_words_that_accuse_the_card_are_not_outdone_by_those_that_accuse_none() -> None:
    harmless = "[h264 @ 0x1] Using more than 32 (40) decode surfaces might cause nvdec to fail."
    broken = "cu->cuCtxCreate failed -> CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered"
    assert gpu_video.no_fault(f"{harmless}\ncuvidCreateDecoder failed -> CUDA_ERROR_INVALID_VALUE")
    assert gpu_video.no_fault(f"{harmless}\n{broken}") == ""
    assert gpu_video.telling(f"{harmless}\n{broken}", 300) == broken
    for said in (
        "[hevc @ 0x1] No decoder surfaces left",
        "CUDA_ERROR_MPS_SERVER_NOT_READY",
        "Unknown encoder 'x'",
    ):
        assert gpu_video.no_fault(said)


def test_the_drivers_software_is_told_by_the_same_words_everywhere() -> None:
    source = Path(gpu_driver.__file__).read_text(encoding="utf-8")
    said = gpu_video.no_fault("CUDA_ERROR_SYSTEM_NOT_READY")
    assert said in " ".join("".join(re.split(r'"\n\s*"', source)).split())


@pytest.mark.parametrize("codec", ["hevc10", "av110"])
def test_ten_bits_and_av1_go_the_way_a_card_can_go(codec: str, bench: Bench) -> None:
    parsed = bench.parsed(codecs=codec, max_streams=1)
    assert wrong(parsed) == []
    assert len(parsed.answers) == 2 + 2 + 7 + 1


def test_the_stand_in_refuses_in_the_real_words(bench: Bench) -> None:
    _, stdout, _ = bench.run(card={"refuse": "Cannot load libcuda.so.1"})
    words = (CASES / "ffmpeg-nvenc-no-driver.txt").read_text()
    for line in words.splitlines():
        assert (line.partition("] ")[2] or line) in json.loads(stdout)["error"]


def test_an_encoder_that_this_ffmpeg_lacks_is_named(bench: Bench) -> None:
    status, stdout, _ = bench.run(card={"missing": ["av1_nvenc"]}, codecs="h264,av1")
    assert status == 3
    assert json.loads(stdout)["error"] == (
        "this ffmpeg has no encoder av1_nvenc (ffmpeg 6.0 added it: use that, or choose other codecs)"
    )


def test_a_gpu_that_cuda_does_not_have_is_a_broken_engine(bench: Bench) -> None:
    bench.cards = ("0000:01:00.0", "0000:81:00.0")
    status, stdout, _ = bench.run()
    assert status == 4
    assert json.loads(stdout)["error"].startswith("0000:41:00.0: cuDeviceGetByPCIBusId: ")
    (bench.cuda / "libcuda.so.1").write_bytes(b"not a library")
    status, stdout, _ = bench.run()
    assert status == 3
    assert "libcuda.so.1 cannot be loaded" in json.loads(stdout)["error"]


def test_a_driver_that_tells_no_uuid_is_software(bench: Bench) -> None:
    library = bench.cuda / "libcuda.so.1"
    library.write_bytes(library.read_bytes().replace(b"cuDeviceGetUuid\0", b"cuDeviceGotUuid\0"))
    status, stdout, _ = bench.run()
    assert status == 3
    assert "the driver is too old" in json.loads(stdout)["error"]


def test_the_card_is_really_refused_by_the_ffmpeg_of_this_machine(bench: Bench) -> None:
    """No stand-in: where there is no driver, the real ffmpeg's own words come back."""
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver")
    (bench.folder / "bin" / "ffmpeg").unlink()
    status, stdout, _ = bench.run()
    # The stand-in of libcuda lacks what NVENC needs of it, and ffmpeg says so.
    assert status == 3
    assert "this ffmpeg has no" in (error := json.loads(stdout)["error"]) or "Cannot load " in error


def test_the_processor_does_the_same_work_with_two_decoders(bench: Bench) -> None:
    (bench.folder / "bin" / "ffmpeg").unlink()
    parsed = bench.parsed(devices=(), max_streams=1, min_streams=0)
    assert wrong(parsed) == []
    assert parsed.engine == "cpu"
    assert len(parsed.answers) == 6 + 1 + 2 + 7 + 1
    names = {m.name for m in parsed.measurements}
    assert {"transcode.h264.streams", "transcode.h264.encode_rate", "transcode.psnr_min"} <= names
