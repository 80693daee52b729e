"""Clips in codecs and sizes: the first wrong frame is named, and no number that cannot be is read."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.registry import workload
from harness.workloads.transcode.golden import REFERENCES, source_hashes
from harness.workloads.transcode.payload import source as drawn

PAYLOAD = Path(drawn.__file__).parent
TRANSCODE = workload("transcode")
RECORDED = (Path(__file__).parent / "cases" / "transcode-clips-cpu.json").read_bytes()
"""ffmpeg 5.1.9 (Debian 12) on a processor, as the payload handed it over."""
JOB = Job(
    key="k1",
    guest="g1",
    tenant="t",
    vcpus=2,
    parameters={
        "codecs": "h264,hevc10,av110",
        "sizes": "320x180,192x144",
        "clip_frames": 8,
        "rate_frames": 50,
        "max_streams": 2,
        "stream_seconds": 1,
    },
)
GPUS = tuple(
    GuestDevice(address=PciAddress.parse(a), vendor="10de", device="26b9", host=PciAddress.parse(a))
    for a in ("0000:81:00.0", "0000:01:00.0")
)


def changed(*way: str | int, to: Any, engine: str = "cpu") -> bytes:
    """The recorded line with one value replaced."""
    whole = json.loads(RECORDED)
    at = whole["observed"]["devices"][0] if way[0] != "observed" else whole
    for step in way[:-1]:
        at = at[step]
    at[way[-1]] = to
    return (json.dumps({**whole, "engine": engine}) + "\n").encode()


def recorded(*way: str | int) -> Any:
    at = json.loads(RECORDED)["observed"]["devices"][0]
    for step in way:
        at = at[step]
    return at


def wrong(stdout: bytes) -> list[str]:
    return [a.name for a in TRANSCODE.parse(JOB, stdout).answers if not a.ok]


def test_what_was_recorded_is_right() -> None:
    parsed = TRANSCODE.parse(JOB, RECORDED)
    assert [a for a in parsed.answers if not a.ok] == []
    assert len(parsed.answers) == 6 + 1 + 3 * 2 + 6 * 7 + 3
    rates = {m.name: m for m in parsed.measurements}
    assert rates["transcode.hevc10.decode_rate"].unit == "1/s"
    assert rates["transcode.h264.streams"].unit == "1"


@pytest.mark.parametrize("size", [(192, 144, 8), (192, 144, 10), (334, 190, 8), (1920, 1080, 10)])
def test_payload_and_controller_draw_the_same_frames(size: tuple[int, int, int]) -> None:
    width, height, bits = size
    theirs = drawn.frames(width, height, bits, 2, 9)
    assert source_hashes(width, height, bits, 2, 9) == tuple(
        hashlib.md5(frame, usedforsecurity=False).hexdigest() for frame in theirs
    )
    # 1.5 samples a pixel, and no picture like another
    assert len(next(drawn.frames(width, height, bits, 1, 9))) == width * height * 3 // 2 * (
        2 if bits == 10 else 1
    )
    assert len(set(source_hashes(width, height, bits, 2, 9))) == 2


def test_ten_bits_are_used() -> None:
    import array

    samples = array.array("H", next(drawn.frames(192, 144, 10, 1, 9)))
    assert 255 < max(samples) < 1024
    assert any(value % 4 for value in samples)


def test_a_picture_in_its_neighbours_place_falls_below_the_floor_and_a_poor_right_one_does_not() -> None:
    """All three planes together, as ffmpeg's psnr_avg; 25.65 dB was a right encoder's worst frame."""
    frames = [np.frombuffer(frame, np.uint8).astype(float) for frame in drawn.frames(640, 360, 8, 6, 7)]
    errors = [((one - other) ** 2).mean() for one, other in itertools.pairwise(frames)]
    floor = float(TRANSCODE.spec.defaults["min_clip_psnr_db"])
    assert 10 * math.log10(255**2 / min(errors)) < floor - 1
    assert floor < 25.65 - 1


def test_each_codec_has_a_reference_beside_the_payload() -> None:
    for codec, frames in REFERENCES.items():
        assert (PAYLOAD / f"transcode-{codec}.mkv").stat().st_size < 20_000
        assert len(set(frames)) == len(frames) == 12


@pytest.mark.parametrize(
    ("way", "to", "name"),
    [
        (("references", 0, "software", 3), "0" * 32, "h264 reference: software decoder"),
        (("references", 2, "decoded", 11), "0" * 32, "av110 reference: second decoder"),
        (("cells", 0, "source", 0), "0" * 32, "h264 320x180: source"),
        (("cells", 3, "decoded", 7), "0" * 32, "hevc10 192x144: second decoder against software"),
        (("cells", 3, "decoded"), [], "hevc10 192x144: second decoder against software"),
        (("cells", 1, "psnr", 4), 23.9, "h264 192x144: PSNR of the worst frame"),
        (("cells", 1, "ssim", 4), 0.909, "h264 192x144: SSIM of the worst frame"),
        (("cells", 1, "psnr"), [], "h264 192x144: frames compared"),
        (("cells", 1, "bytes"), 10**6, "h264 192x144: bits over those allowed"),
        (
            ("rates", 0, "tries"),
            [{"streams": 1, "results": [[25, 1.001]]}],
            "h264: streams in real time",
        ),
        (("rates", 0, "tries"), [{"streams": 1, "results": ["status 1"]}], "h264: streams in real time"),
        (("address",), "0000:01:00.0", "devices"),
    ],
)
def test_a_wrong_answer_is_named(way: tuple[str | int, ...], to: Any, name: str) -> None:
    assert name in wrong(changed(*way, to=to))


def test_frames_missing_from_both_decoders_are_missed() -> None:
    whole = json.loads(RECORDED)
    cell = whole["observed"]["devices"][0]["cells"][0]
    cell["software"].pop()
    cell["decoded"].pop()
    assert wrong((json.dumps(whole) + "\n").encode()) == ["h264 320x180: frames decoded"]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 5), st.integers(0, 7), st.integers(0, 31), st.integers(1, 15))
def test_any_changed_digit_of_any_hash_is_found_with_its_frame(
    cell: int, frame: int, digit: int, by: int
) -> None:
    right = recorded("cells", cell, "decoded", frame)
    spoilt = right[:digit] + format(int(right[digit], 16) ^ by, "x") + right[digit + 1 :]
    parsed = TRANSCODE.parse(JOB, changed("cells", cell, "decoded", frame, to=spoilt))
    (answer,) = (a for a in parsed.answers if not a.ok)
    assert answer.got == f"first differing frame: {frame}"
    assert answer.detail == "1 wrong of 8, 8 came"


@pytest.mark.parametrize(
    ("way", "to"),
    [
        (("cells", 0, "psnr", 0), 101.0),
        (("cells", 0, "psnr", 0), "33.1"),
        (("cells", 0, "psnr", 0), True),
        (("cells", 0, "ssim", 0), 1.01),
        (("cells", 0, "bytes"), -1),
        (("cells", 0, "width"), 640),
        (("cells", 0, "codec"), "hevc10"),
        (("cells", 0, "decoded", 0), "0"),
        (("cells", 0, "decoded"), "0" * 32),
        (("cells",), []),
        (("references",), []),
        (("rates",), []),
        (("rates", 0, "decode"), [50, -1]),
        (("rates", 0, "decode"), [49, 1.0]),
        (("rates", 0, "decode"), [50, 0.0]),
        (("rates", 0, "encode"), [50, 0]),
        (("rates", 0, "tries"), [{"streams": 1, "results": [[25, 0.0]]}]),
        (("rates", 0, "decode"), "status 1"),
        (("rates", 0, "encode"), None),
        (("rates", 0, "tries"), []),
        (("rates", 0, "tries"), [{"streams": 2, "results": [[25, 0.1]]}]),
        (("rates", 0, "tries"), [{"streams": 1, "results": [[25, 0.1]]}]),
        (("rates", 0, "tries"), [{"streams": 3, "results": [[25, 0.1]] * 3}]),
        (("rates", 0, "tries"), [{"streams": 2, "results": [[24, 0.1]] * 2}]),
    ],
)
def test_what_cannot_be_is_not_read(way: tuple[str | int, ...], to: Any) -> None:
    with pytest.raises(ParseError):
        TRANSCODE.parse(JOB, changed(*way, to=to))


def test_the_processor_is_not_taken_for_a_gpu() -> None:
    parsed = TRANSCODE.parse(replace(JOB, devices=GPUS), RECORDED)
    assert [(a.name, a.ok) for a in parsed.answers] == [("engine", False), ("devices", False)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_spoilt_report_is_refused_or_read(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RECORDED) - 1))
    cut = data.draw(st.integers(0, 40))
    with contextlib.suppress(ParseError):
        TRANSCODE.parse(JOB, RECORDED[:at] + data.draw(st.binary(max_size=20)) + RECORDED[at + cut :])


def told(**more: Any) -> dict[str, Any]:
    job = replace(JOB, devices=GPUS, parameters=more)
    return dict(json.loads(TRANSCODE.prepare(job)[-1]))


def test_a_gpu_means_its_engines_in_the_order_of_addresses_and_no_small_clip() -> None:
    asked = told()
    assert "small" not in asked
    clips = asked["clips"]
    assert (clips["engine"], clips["encoder"]) == ("gpu", "gpu")
    assert clips["addresses"] == ["0000:01:00.0", "0000:81:00.0"]
    assert [(c["codec"], c["bits"], c["width"], c["bitrate"]) for c in clips["cells"]] == [
        ("h264", 8, 1920, 10_368_000),
        ("hevc", 8, 1920, 10_368_000),
    ]
    assert clips["references"] == "/opt/shakedown/payload"
    assert told(encoder="cpu", codecs="hevc10")["clips"]["encoder"] == "cpu"
    assert "small" in told(engine="cpu")


@pytest.mark.parametrize(
    "parameters",
    [
        {"codecs": "h265"}, {"codecs": ""}, {"codecs": "h264,h264"}, {"codecs": "h264", "sizes": "1920"},
        {"sizes": "1921x1080"}, {"sizes": "7680x4320"}, {"sizes": "128x96"}, {"sizes": "1920x1080,1920x1080"},
        {"sizes": "-192x144"}, {"encoder": "vaapi"}, {"engine": "cpu", "codecs": "h264", "encoder": "gpu"},
        {"engine": "nvenc"}, {"clip_frames": 0}, {"clip_frames": 9000}, {"rate_frames": 0},
        {"max_streams": 0}, {"max_streams": 5000}, {"clip_frames": 2900}, {"stream_seconds": 0},
        {"bits_per_pixel": 0.0}, {"bits_per_pixel": 9},
    ],
)  # fmt: skip
def test_parameters_that_no_clip_can_have_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        told(**parameters)
