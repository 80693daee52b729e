"""Streaming: latencies, counts and pictures judged from what both ends wrote down."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ConfigError, ParseError
from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from harness.workloads.registry import workload
from harness.workloads.stream import golden as stream_golden

STREAM = workload("stream")
SMALL = {"width": 64, "height": 48, "rate": 10, "frames": 20, "samples": 2}
WARMING, TRAILING = 1 << 23, 1 << 22
Line = Callable[..., bytes]


def squeezed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


def packed(values: list[int]) -> str:
    steps = [after - before for before, after in zip([0, *values], values, strict=False)]
    return squeezed(struct.pack(f"<{len(steps)}q", *steps))


SENT = [5_000_000 + 100_000 * n for n in range(20)]
ARRIVED = [(SENT[n] + 110_000 + 1_000 * (n % 2), n) for n in range(20)]
EARLY = [(4_900_000, -0 + WARMING), (4_950_000, WARMING + 1)]
LATE = [(7_200_000, TRAILING)]


def pixels(number: int) -> str:
    return planes(stream_golden.drawn(64, 48, 7, number))


def planes(picture: Any) -> str:
    return squeezed(b"".join(plane.tobytes() for plane in picture))


def told(arrived: list[tuple[int, int]] | None = None, **changes: Any) -> dict[str, Any]:
    arrivals = [*EARLY, *(ARRIVED if arrived is None else arrived), *LATE]
    return {
        "engine": "cpu", "ffmpeg": "5.1", "sent": packed(SENT), "times": packed([at for at, _ in arrivals]),
        "counters": packed([n for _, n in arrivals]), "samples": [[0, pixels(0)], [10, pixels(10)]],
        "warming": 2, "trailing": 1, "unheard": 0, "start_seconds": 0.5, "decoder_said": "", **changes,
    }  # fmt: skip


def entry(observed: dict[str, Any] | None, name: str = "cpu", kind: str = "done") -> dict[str, Any]:
    return {"name": name, "kind": kind, "at": "picture 3", "error": None, "observed": observed}


@pytest.fixture
def small(job: Job) -> Job:
    return replace(job, parameters=SMALL)


@pytest.fixture
def gpus(job: Job) -> Job:
    places = (PciAddress.parse("0000:01:00.0"), PciAddress.parse("0000:02:00.0"))
    cards = tuple(GuestDevice(address=p, vendor="10de", device="26b5", host=p) for p in places)
    return replace(job, parameters=SMALL, devices=cards)


def wrong(job: Job, line: Line, *entries: dict[str, Any]) -> list[str]:
    parsed = STREAM.parse(job, line("stream", {"entries": list(entries)}))
    return [a.name.removesuffix(" on cpu") for a in parsed.answers if not a.ok]


def test_a_clean_stream_passes_with_the_latencies_that_follow_from_its_times(small: Job, line: Line) -> None:
    parsed = STREAM.parse(small, line("stream", {"entries": [entry(told())]}))
    assert [a.ok for a in parsed.answers] == [True] * 10
    values = {m.name: m.value for m in parsed.measurements}
    assert values["stream.latency_p50"] == 110.0
    assert values["stream.latency_p99"] == 111.0
    assert values["stream.jitter"] == pytest.approx(1.0, abs=0.01)
    assert values["stream.jitter_p99"] == 1.0
    assert (values["stream.dropped"], values["stream.duplicated"]) == (0.0, 0.0)
    assert values["stream.rate"] == pytest.approx(10.0)


def without(*numbers: int) -> list[tuple[int, int]]:
    return [pair for pair in ARRIVED if pair[1] not in numbers]


def at(number: int, later: int = 0) -> int:
    return ARRIVED[number][0] + later


def ordered(*extra: tuple[int, int], left: list[tuple[int, int]] | None = None) -> list[tuple[int, int]]:
    return sorted([*(ARRIVED if left is None else left), *extra])


NEVER, TWICE = "share of pictures that never arrived", "share of pictures that arrived twice"


@pytest.mark.parametrize(
    ("observed", "names"),
    [
        (told(without(7)), [NEVER]),
        (told([]), [NEVER]),
        (told(ordered((at(7, 10), 7))), [TWICE]),
        (told(ordered((at(8, 10), 7), left=without(7))), ["pictures out of order"]),
        (told(ordered((at(7), -1), left=without(7))), ["pictures whose counter is corrupt", NEVER]),
        (told(ordered((at(7), 20), left=without(7))), ["counters that were never sent", NEVER]),
        (told(ordered((at(7, 10), TRAILING - 1))), ["counters that were never sent"]),
        (told(sent=packed([*SENT[:18]])), ["pictures sent", "counters that were never sent", NEVER]),
        (told(samples=[[0, pixels(0)]]), ["pictures sampled"]),
        (told(samples=[]), ["pictures sampled", "PSNR of the worst sampled picture"]),
        (told(samples=[[0, pixels(0)], [10, pixels(11)]]), ["PSNR of the worst sampled picture"]),
        (told(samples=[[0, squeezed(bytes(4608))], [10, pixels(10)]]), ["PSNR of the worst sampled picture"]),
        (told(engine="nvenc"), ["what streams"]),
    ],
)
def test_a_wrong_answer_is_named(observed: dict[str, Any], names: list[str], small: Job, line: Line) -> None:
    assert wrong(small, line, entry(observed)) == names


def test_pictures_drawn_too_slowly_are_no_stream_of_that_rate(small: Job, line: Line) -> None:
    slow = [5_000_000 + 107_000 * n for n in range(20)]
    arrived = [(at + 110_000, n) for n, at in enumerate(slow)]
    with pytest.raises(ParseError, match=r"was sent 9\.346 pictures a second, and 9\.5 were due"):
        wrong(small, line, entry(told(arrived, sent=packed(slow))))
    # What is wrong is wrong at any rate.
    fewer = [pair for pair in arrived if pair[1] != 7]
    assert wrong(small, line, entry(told(fewer, sent=packed(slow)))) == [NEVER]
    with pytest.raises(ParseError, match="was sent 0 pictures"):
        wrong(small, line, entry(told([(6_000_000, n) for n in range(20)], sent=packed([5_000_000] * 20))))
    patient = replace(small, parameters={**SMALL, "min_rate_share": 0.9})
    assert wrong(patient, line, entry(told(arrived, sent=packed(slow)))) == []


def test_packets_that_the_machine_itself_threw_away_accuse_no_gpu(gpus: Job, line: Line) -> None:
    names = [str(device.address) for device in gpus.devices]
    right = entry(told(engine="nvenc", unheard=3), names[0])
    assert wrong(gpus, line, right, {**right, "name": names[1]}) == []
    lost = entry(told(without(7), engine="nvenc", unheard=3), names[1])
    with pytest.raises(ParseError, match=r"0000:02:00\.0 lost 3 packets in this machine itself"):
        wrong(gpus, line, right, lost)
    # What is proven of another GPU, or of what streams, stands whatever else is unknown.
    broken = entry(told(without(7), engine="nvenc"), names[0])
    assert wrong(gpus, line, broken, lost) == [f"{NEVER} on {names[0]}"]
    assert wrong(gpus, line, right, entry(told(without(7), engine="cpu", unheard=3), names[1])) == [
        f"what streams on {names[1]}"
    ]


def test_what_is_lost_does_not_make_jitter(small: Job, line: Line) -> None:
    parsed = STREAM.parse(small, line("stream", {"entries": [entry(told(without(7, 8)))]}))
    values = {m.name: m.value for m in parsed.measurements}
    assert values["stream.jitter_p99"] == 1.0
    assert values["stream.dropped"] == 2.0
    nothing = STREAM.parse(small, line("stream", {"entries": [entry(told([]))]}))
    assert {m.name: m.value for m in nothing.measurements}["stream.latency_p50"] is None


def test_each_gpu_is_judged_and_measured_by_its_address(gpus: Job, line: Line) -> None:
    right = entry(told(engine="nvenc"), "0000:01:00.0")
    assert wrong(gpus, line, right, entry(told(), "0000:02:00.0")) == ["what streams on 0000:02:00.0"]
    assert wrong(gpus, line, right, entry(None, "0000:02:00.0", "hung")) == ["0000:02:00.0 to the end"]
    parsed = STREAM.parse(
        gpus, line("stream", {"entries": [right, entry(told(engine="nvenc"), "0000:02:00.0")]})
    )
    assert {m.subject for m in parsed.measurements} == {"0000:01:00.0", "0000:02:00.0"}
    with pytest.raises(ParseError, match="were due"):
        wrong(gpus, line, right)


def test_rendered_pictures_are_compared_with_the_golden_scene(small: Job, line: Line) -> None:
    job = replace(small, parameters={**SMALL, "source": "render", "cubes": 4})
    shown = [[n, planes(stream_golden.rendered(64, 48, 7, 4, n))] for n in (0, 10)]
    assert wrong(job, line, entry(told(engine="opengl:llvmpipe+cpu", samples=shown))) == []
    assert wrong(job, line, entry(told(engine="opengl:softpipe+cpu", samples=shown))) == ["what streams"]
    drawn = told(engine="opengl:llvmpipe+cpu")
    assert wrong(job, line, entry(drawn)) == ["PSNR of the worst sampled picture"]


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_every_plane_of_a_sample_is_compared(plane: int, small: Job, line: Line) -> None:
    whole = list(stream_golden.drawn(64, 48, 7, 10))
    whole[plane] = whole[plane] // 2
    seen = told(samples=[[0, pixels(0)], [10, planes(whole)]])
    assert wrong(small, line, entry(seen)) == ["PSNR of the worst sampled picture"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": "?"}, {"sent": squeezed(b"1234567")}, {"times": packed([1, 2])},
        {"counters": packed([-2] * 23)},
        {"counters": packed([1 << 24] * 23)}, {"sent": packed(SENT[::-1])}, {"sent": packed([0] * 40)},
        {"times": packed([at for at, _ in [*LATE, *ARRIVED, *EARLY]])},
        {"sent": packed([at + 10**9 for at in SENT])}, {"sent": squeezed(bytes(10**6))},
        {"samples": [[0]]}, {"samples": [[20, pixels(0)]]}, {"samples": [[0, pixels(0)]] * 2},
        {"samples": [[0, squeezed(bytes(4607))]]}, {"samples": [[0, squeezed(bytes(10**6))]]},
        {"samples": [[n, pixels(n)] for n in range(3)]}, {"start_seconds": -1.0},
    ],
)  # fmt: skip
def test_output_that_cannot_be_is_not_read(changes: dict[str, Any], small: Job, line: Line) -> None:
    with pytest.raises(ParseError):
        wrong(small, line, entry(told(**changes)))


@pytest.mark.parametrize(
    "parameters",
    [
        {"width": 62}, {"width": 65}, {"height": 46}, {"width": 8192}, {"frames": 1}, {"frames": 40_001},
        {"rate": 0}, {"rate": 241}, {"samples": 0}, {"samples": 21}, {"source": "camera"},
        {"source": "render", "width": 3840, "height": 2160, "samples": 5}, {"engine": "gpu"},
    ],
)  # fmt: skip
def test_what_cannot_be_streamed_is_refused(parameters: dict[str, Any], job: Job) -> None:
    with pytest.raises(ConfigError):
        STREAM.prepare(replace(job, parameters=parameters))


@pytest.mark.parametrize("size", [{"width": 190, "height": 160}, {"width": 192, "height": 158}])
def test_a_picture_that_nvenc_refuses_for_its_size_is_refused_here(size: dict[str, Any], gpus: Job) -> None:
    with pytest.raises(ConfigError, match="at least 192 x 160"):
        STREAM.prepare(replace(gpus, parameters=size))
    STREAM.prepare(replace(gpus, parameters={"width": 192, "height": 160}))
    STREAM.prepare(replace(gpus, parameters={**size, "engine": "cpu"}))


def test_the_bit_rate_follows_size_and_rate_unless_it_is_given(job: Job) -> None:
    hd = {"width": 1280, "height": 720, "rate": 60}
    assert json.loads(STREAM.prepare(replace(job, parameters=hd))[-1])["kbps"] == 14930
    assert json.loads(STREAM.prepare(replace(job, parameters={**hd, "kbps": 9000}))[-1])["kbps"] == 9000
    assert json.loads(STREAM.prepare(replace(job, parameters=SMALL))[-1])["kbps"] == 200


def test_the_samples_of_many_gpus_fit_into_the_output(gpus: Job) -> None:
    many = tuple(
        replace(gpus.devices[0], address=PciAddress.parse(f"0000:{n:02x}:00.0")) for n in range(1, 9)
    )
    hd = {"width": 1920, "height": 1080, "rate": 60, "frames": 3600, "samples": 4}
    argv = json.loads(STREAM.prepare(replace(gpus, parameters=hd, devices=many))[-1])
    points = -(-1920 // argv["step"]) * -(-1080 // argv["step"])
    assert 8 * 4 * points * 3 / 2 * 4 / 3 < 350_000
    with pytest.raises(ConfigError):
        STREAM.prepare(replace(gpus, parameters={**hd, "frames": 6000}, devices=many))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
JOB = Job(key="k1", guest="g1", tenant="t", parameters=SMALL)
NUMBERS = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=30)


def whole(observed: Any) -> bytes:
    line = {"payload": "stream", "engine": "x", "observed": observed, "versions": {}}
    return (json.dumps(line) + "\n").encode()


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(sorted(told())), value=JSON)
def test_any_field_may_be_anything(field: str, value: Any) -> None:
    with contextlib.suppress(ParseError):
        assert STREAM.parse(JOB, whole({"entries": [entry(told(**{field: value}))]})).answers


@settings(max_examples=150, deadline=None)
@given(field=st.sampled_from(["sent", "times", "counters"]), steps=NUMBERS, tail=st.binary(max_size=9))
def test_any_numbers_are_judged_or_refused(field: str, steps: list[int], tail: bytes) -> None:
    raw = squeezed(struct.pack(f"<{len(steps)}q", *steps) + tail)
    with contextlib.suppress(ParseError):
        assert STREAM.parse(JOB, whole({"entries": [entry(told(**{field: raw}))]})).answers


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=200) | JSON.map(whole))
def test_any_output_is_an_answer_or_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(ParseError):
        STREAM.parse(JOB, raw)
