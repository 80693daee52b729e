"""Transcoding: frames known here, and a judgement that no wrong frame and no missing one gets past."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, ParseError
from harness.workloads.base import Job
from harness.workloads.registry import workload
from harness.workloads.transcode.answers import frame_hashes

GOLDEN = (Path(__file__).parent / "cases" / "transcode-default.framemd5").read_text().split()
TRANSCODE = workload("transcode")
Line = Callable[..., bytes]


def seen(**changes: Any) -> dict[str, Any]:
    return {
        "frames": 25, "decoded_md5": list(GOLDEN), "source_differs": [], "source_frames": 25,
        "compared_frames": [25, 25], "psnr_min_db": 34.29, "psnr_mean_db": 35.7, "ssim_min": 0.977,
        "lossless_bytes": 862559, "lossy_bytes": 16402, "encode_seconds": 0.25,
        "decode_seconds": 0.125, **changes,
    }  # fmt: skip


def test_the_clip_is_the_one_that_was_checked_in() -> None:
    assert frame_hashes(320, 180, 25, 7) == tuple(GOLDEN)


def test_right_frames_and_quality_pass(job: Job, line: Line) -> None:
    parsed = TRANSCODE.parse(job, line("transcode", seen()))
    assert [a.ok for a in parsed.answers] == [True] * 6
    values = {m.name: m.value for m in parsed.measurements}
    assert values["transcode.encode_rate"] == 100.0
    assert values["transcode.decode_rate"] == 200.0


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"decoded_md5": [*GOLDEN[:24], "0" * 32]}, "frame hashes"),
        ({"decoded_md5": GOLDEN[:24]}, "frames"),
        ({"decoded_md5": []}, "frames"),
        ({"decoded_md5": [*GOLDEN[:24], None]}, "frame hashes"),
        ({"psnr_min_db": 29.99}, "PSNR of the worst frame"),
        ({"psnr_min_db": None}, "PSNR of the worst frame"),
        ({"ssim_min": 0.9}, "SSIM of the worst frame"),
        ({"ssim_min": None}, "SSIM of the worst frame"),
        ({"compared_frames": [25, 24]}, "frames compared"),
        ({"compared_frames": [0, 0]}, "frames compared"),
    ],
)
def test_a_wrong_answer_is_named(changes: dict[str, Any], wrong: str, job: Job, line: Line) -> None:
    parsed = TRANSCODE.parse(job, line("transcode", seen(**changes)))
    assert wrong in [a.name for a in parsed.answers if not a.ok]


@pytest.mark.parametrize("source", [[], [3]])
def test_a_wrong_frame_says_where_it_went_wrong(source: list[int], job: Job, line: Line) -> None:
    bad = [*GOLDEN[:3], "f" * 32, *GOLDEN[4:]]
    parsed = TRANSCODE.parse(job, line("transcode", seen(decoded_md5=bad, source_differs=source)))
    (answer,) = (a for a in parsed.answers if not a.ok)
    assert answer.detail.startswith(f"first wrong frame: 3, {GOLDEN[3]} became fff")
    assert ("decoding changed it" if source else "the source already differed") in answer.detail


@pytest.mark.parametrize(
    "changes",
    [{"psnr_min_db": 101.0}, {"psnr_min_db": -1.0}, {"ssim_min": 1.5}, {"ssim_min": "0,977"},
     {"encode_seconds": -1.0}, {"psnr_min_db": True}, {"compared_frames": None}, {"decoded_md5": "x"}],
)  # fmt: skip
def test_numbers_that_cannot_be_are_not_read(changes: dict[str, Any], job: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        TRANSCODE.parse(job, line("transcode", seen(**changes)))


@pytest.mark.parametrize("parameters", [{"width": 321}, {"height": 0}, {"frames": 0}, {"rate": 0}])
def test_sizes_that_cannot_be_are_refused(parameters: dict[str, int], job: Job) -> None:
    with pytest.raises(ConfigError):
        TRANSCODE.prepare(replace(job, parameters=parameters))


def test_the_payload_is_told_sizes_threads_and_its_own_folder(job: Job) -> None:
    told = json.loads(TRANSCODE.prepare(replace(job, parameters={"frames": 50}))[-1])
    assert told["small"]["frames"] == 50
    assert told["small"]["threads"] == 2
    assert "clips" not in told
    assert told["folder"] == "/run/shakedown/work/k1"
    assert "min_psnr_db" not in told["small"]
