"""Rendering: golden pictures drawn here, and a judgement that no wrong bit and no wrong block gets past."""

from __future__ import annotations

import base64
import contextlib
import json
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.registry import workload
from harness.workloads.render import golden as render_golden

RENDER = workload("render")
SMALL = {"width": 64, "height": 48, "frames": 4, "rounds": 3, "golden": 2, "cubes": 8, "work": 5}
SHADED = [render_golden.shaded(64, 48, 7, 8, n) for n in (0, 2)]
EXACT = [f"{zlib.crc32(render_golden.exact(64, 48, 7, 5, n).tobytes()):08x}" for n in range(4)]
Line = Callable[..., bytes]


def packed(picture: Any) -> str:
    return base64.b64encode(zlib.compress(picture.astype(np.uint8).tobytes())).decode()


def entry(name: str = "cpu", **changes: Any) -> dict[str, Any]:
    seen = {
        "engine": "opengl:llvmpipe" if name == "cpu" else "opengl:nvidia",
        "renderer": "llvmpipe (LLVM 15.0.6, 256 bits)", "version": "4.5", "rounds": 3,
        "shaded": [[[f"{n:08x}", 3, 0]] for n in range(4)], "exact": [[[crc, 3, 0]] for crc in EXACT],
        "views": {"0": packed(SHADED[0]), "2": packed(SHADED[1])},
        "start_seconds": 0.5, "draw_seconds": 0.25, "slowest_seconds": 0.05, "seconds": 1.0, **changes,
    }  # fmt: skip
    return {"name": name, "kind": "done", "at": "round 2, frame 3", "error": None, "observed": seen}


def wrong(job: Job, *entries: dict[str, Any], line: Line) -> list[str]:
    raw = line("render", {"entries": list(entries)}, engine="opengl:llvmpipe")
    return [a.name for a in RENDER.parse(job, raw).answers if not a.ok]


@pytest.fixture
def small(job: Job) -> Job:
    return replace(job, parameters=SMALL)


@pytest.fixture
def gpus(job: Job) -> Job:
    places = (PciAddress.parse("0000:01:00.0"), PciAddress.parse("0000:02:00.0"))
    cards = tuple(GuestDevice(address=p, vendor="10de", device="26b5", host=p) for p in places)
    return replace(job, parameters=SMALL, devices=cards)


def test_right_pictures_pass_and_the_rate_counts_warm_rounds_alone(small: Job, line: Line) -> None:
    parsed = RENDER.parse(small, line("render", {"entries": [entry()]}, engine="opengl:llvmpipe"))
    assert [a.ok for a in parsed.answers] == [True] * 7
    values = {m.name: (m.value, m.subject) for m in parsed.measurements}
    assert values["render.rate"] == (2 * 4 / 0.25, "")
    assert values["render.checked_rate"] == (3 * 4 / 1.0, "")


def other(picture: Any, left: int, low: int, made: Callable[[Any], Any]) -> str:
    spoilt = picture.copy()
    place = np.s_[low : low + 8, left : left + 8]
    spoilt[place] = made(spoilt[place])
    return packed(spoilt)


def test_frames_that_were_never_drawn_are_like_each_other(small: Job, line: Line) -> None:
    blank = [[[f"{min(n, 2):08x}", 3, 0]] for n in range(4)]
    parsed = RENDER.parse(small, line("render", {"entries": [entry(shaded=blank)]}))
    (answer,) = (a for a in parsed.answers if not a.ok)
    assert answer.name == "shaded frames swapped with another on cpu"
    assert answer.detail == "first: frame 3 came out as frame 2 did"


def test_frames_in_which_nothing_moves_may_be_alike(small: Job, line: Line) -> None:
    still = replace(small, parameters={**SMALL, "cubes": 0})
    same = [[["00000001", 3, 0]]] * 4
    view = packed(render_golden.shaded(64, 48, 7, 0, 0))
    raw = line("render", {"entries": [entry(shaded=same, views={"0": view, "2": view})]})
    assert [a.name for a in RENDER.parse(still, raw).answers if not a.ok] == []


@pytest.mark.parametrize("left", [0, 13, 56])
@pytest.mark.parametrize("low", [0, 21, 40])
@pytest.mark.parametrize(
    "made",
    [lambda b: b * 0, lambda b: 255 - b, lambda b: b[::-1, ::-1] ^ 64, lambda b: b[..., ::-1] ^ 32],
    ids=["black", "inverted", "turned", "other"],
)
def test_a_wrong_block_of_8_by_8_is_found_and_its_place_is_named(
    left: int, low: int, made: Any, small: Job, line: Line
) -> None:
    views = {"0": packed(SHADED[0]), "2": other(SHADED[1], left, low, made)}
    raw = line("render", {"entries": [entry(views=views)]}, engine="opengl:llvmpipe")
    bad = [a for a in RENDER.parse(small, raw).answers if not a.ok]
    assert "levels apart in the worst block on cpu" in [a.name for a in bad]
    assert bad[-1].detail.startswith(f"frame 2, at column {left}, row {low} ")


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"views": {"0": packed(SHADED[0][..., ::-1]), "2": packed(SHADED[1])}}, ["SSIM", "levels"]),
        ({"views": {"0": packed(SHADED[1]), "2": packed(SHADED[0])}}, ["SSIM", "levels"]),
        ({"views": {"0": packed(SHADED[0][::-1]), "2": packed(SHADED[1])}}, ["SSIM", "levels"]),
        ({"views": {"0": packed(SHADED[0] * 0), "2": packed(SHADED[1])}}, ["SSIM", "levels"]),
        ({"shaded": [[["a", 3, 0]], [["b", 2, 0], ["c", 1, 2]], [["d", 3, 0]], [["e", 3, 0]]]}, ["shaded"]),
        ({"exact": [[["00000000", 3, 0]], *([[crc, 3, 0]] for crc in EXACT[1:])]}, ["exact"]),
        ({"exact": [[[EXACT[0], 2, 0], ["0", 1, 1]], *([[c, 3, 0]] for c in EXACT[1:])]}, ["exact"]),
        ({"exact": [[[EXACT[n], 3, 0]] for n in (0, 2, 1, 3)]}, ["exact"]),
        ({"engine": "opengl:softpipe"}, ["renderer"]),
        ({"engine": "opengl:nvidia"}, ["renderer"]),
    ],
)
def test_a_wrong_answer_is_named(changes: dict[str, Any], names: list[str], small: Job, line: Line) -> None:
    assert [name.split(" ")[0] for name in wrong(small, entry(**changes), line=line)] == names


def test_the_first_wrong_frame_is_told(small: Job, line: Line) -> None:
    shaded = [[["a", 3, 0]], [["b", 2, 0], ["c", 1, 2]], [["d", 3, 0]], [["e", 3, 0]]]
    raw = line("render", {"entries": [entry(shaded=shaded)]}, engine="opengl:llvmpipe")
    (answer,) = (a for a in RENDER.parse(small, raw).answers if not a.ok)
    assert answer.detail == "first: frame 1, c 1 times from round 2 on, not b"


def test_each_gpu_is_judged_and_measured_by_its_address(gpus: Job, line: Line) -> None:
    bad = entry("0000:02:00.0", exact=[[["0", 3, 0]], *([[crc, 3, 0]] for crc in EXACT[1:])])
    raw = line("render", {"entries": [entry("0000:01:00.0"), bad]}, engine="opengl:nvidia")
    parsed = RENDER.parse(gpus, raw)
    assert [a.name for a in parsed.answers if not a.ok] == ["exact frames with a wrong bit on 0000:02:00.0"]
    assert [m.subject for m in parsed.measurements if m.name == "render.rate"] == [
        "0000:01:00.0",
        "0000:02:00.0",
    ]


def test_the_processor_never_draws_for_a_gpu(gpus: Job, line: Line) -> None:
    drawn = entry("0000:02:00.0", engine="opengl:llvmpipe")
    assert wrong(gpus, entry("0000:01:00.0"), drawn, line=line) == ["renderer on 0000:02:00.0"]


def test_a_gpu_of_which_nothing_is_known_leaves_the_result_open(gpus: Job, line: Line) -> None:
    gone = {"name": "0000:02:00.0", "kind": "unable", "at": "x", "error": "no EGL", "observed": None}
    with pytest.raises(ParseError, match=r"0000:02:00.0 unable \(x\): no EGL"):
        wrong(gpus, entry("0000:01:00.0"), gone, line=line)


@pytest.mark.parametrize("kind", ["broken", "failed", "hung", "died"])
def test_a_gpu_that_stops_drawing_is_a_wrong_answer(kind: str, gpus: Job, line: Line) -> None:
    gone = {"name": "0000:02:00.0", "kind": kind, "at": "round 1, frame 0", "error": "x", "observed": None}
    assert wrong(gpus, entry("0000:01:00.0"), gone, line=line) == ["0000:02:00.0 to the end"]


def test_a_gpu_that_is_missing_in_the_output_is_missed(gpus: Job, line: Line) -> None:
    with pytest.raises(ParseError, match="were expected"):
        wrong(gpus, entry("0000:01:00.0"), line=line)


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 2}, {"rounds": 4}, {"shaded": []}, {"exact": [[]] * 4}, {"views": {}},
        {"views": {"0": packed(SHADED[0])}}, {"views": {"0": "", "2": ""}},
        {"views": {"0": packed(SHADED[0][1:]), "2": packed(SHADED[1])}},
        {"views": {"0": packed(np.zeros(1 << 20)), "2": packed(SHADED[1])}},
        {"shaded": [[["a", 3]]] * 4}, {"shaded": [["a"]] * 4}, {"shaded": [3] * 4}, {"seconds": -1.0},
    ],
)  # fmt: skip
def test_output_that_cannot_be_is_not_read(changes: dict[str, Any], small: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        wrong(small, entry(**changes), line=line)


@pytest.mark.parametrize(
    "parameters",
    [
        {"width": 8}, {"height": 20}, {"width": 1 << 20}, {"frames": 0}, {"frames": 501}, {"golden": 0},
        {"golden": 9}, {"rounds": 1}, {"cubes": 513}, {"work": 1 << 31}, {"driver": "zink"},
        {"engine": "gpu"}, {"engine": "tpu"}, {"width": 1279, "height": 719},
        {"golden": 8, "width": 1280, "height": 721}, {"frames": 60, "width": 3840, "height": 2160},
        {"golden": 5, "width": 3840, "height": 2160},
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_or_compared_is_refused(parameters: dict[str, Any], job: Job) -> None:
    with pytest.raises(ConfigError):
        RENDER.prepare(replace(job, parameters=parameters))


def test_the_views_of_many_gpus_fit_into_the_output(gpus: Job) -> None:
    many = tuple(
        replace(gpus.devices[0], address=PciAddress.parse(f"0000:{n:02x}:00.0")) for n in range(1, 9)
    )
    hd = replace(gpus, parameters={"width": 1280, "height": 720}, devices=many)
    told = json.loads(RENDER.prepare(hd)[-1])
    assert len(told["gpus"]) == 8
    assert 8 * 2 * (1280 // told["square"]) * (720 // told["square"]) * 4 <= 500_000
    assert json.loads(RENDER.prepare(replace(hd, devices=many[:1]))[-1])["square"] == 4


def test_no_rectangle_and_no_step_of_the_exact_picture_is_for_nothing() -> None:
    base = render_golden.exact(64, 48, 7, 5, 1)
    for changed in ((8, 5, 1), (7, 6, 1), (7, 5, 2)):
        apart = (base != render_golden.exact(64, 48, *changed)).any(axis=2).mean()
        assert apart > 0.99
    assert len(np.unique(render_golden._names(64, 48, 7))) > 8


def test_steps_are_counted_as_a_shader_repeats_them() -> None:
    for work in (0, 1, 2, 7, 1000):
        a, c = render_golden._many_steps(work)
        x = 12345
        for _ in range(work):
            x = (x * 1664525 + 1013904223) % (1 << 32)
        assert (12345 * a + c) % (1 << 32) == x


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
FIELDS = sorted(entry()["observed"])
JOB = Job(key="k1", guest="g1", tenant="t", parameters=SMALL)


@settings(max_examples=40, deadline=None)
@given(field=st.sampled_from(FIELDS), value=JSON)
def test_any_field_may_be_anything(field: str, value: Any) -> None:
    observed = {"entries": [entry(**{field: value})]}
    whole = {"payload": "render", "engine": "x", "observed": observed, "versions": {}}
    try:
        raw = (json.dumps(whole) + "\n").encode()
    except ValueError:
        return
    with contextlib.suppress(ParseError):
        assert RENDER.parse(JOB, raw).answers


def whole(observed: Any) -> bytes:
    line = {"payload": "render", "engine": "x", "observed": observed, "versions": {}}
    return (json.dumps(line) + "\n").encode()


@settings(max_examples=60, deadline=None)
@given(raw=st.binary(max_size=200) | JSON.map(whole))
def test_any_output_is_an_answer_or_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        RENDER.parse(JOB, raw)
