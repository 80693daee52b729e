"""Reading a placement back: three layers asked on their own, transcripts kept, silence never health."""

from __future__ import annotations

import json

import pytest

from harness.attach.vfio import ATTACHMENT as VFIO
from harness.errors import ParseError, ProvisionError, TransportError
from harness.model.guest import GuestRequest, PlacementPolicy
from harness.model.placement import Moment, PlacementPlan
from harness.placement import planner
from harness.stages.guest.observe import look_again, observe_guest
from tests.fakes import FakeHost, FakeHypervisor, FakeTransport
from tests.fakes.scripts import asked_nonce
from tests.placement import hosts
from tests.placement.observe import transcripts as made
from tests.stages.stand_ins import a_recorder

DOMAIN = "shakedown-r-g1"


@pytest.fixture
def recorder(tmp_path):
    opened = a_recorder(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def plan() -> PlacementPlan:
    request = GuestRequest(name="g1", gpus=1, vcpus_per_gpu=1, memory_mib_per_gpu=256)
    answer = planner.plan(hosts.lab_like(), request, PlacementPolicy(), VFIO)
    assert isinstance(answer, PlacementPlan)
    return answer


def _answering(transcript: bytes):
    """A host whose script answers ``transcript`` with the nonce it was asked with."""

    def answer(argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, transcript.replace(made.NONCE.encode(), asked_nonce(argv).encode()), b""

    return answer


class Layers:
    """Host, QEMU and guest, each answering as a good one would."""

    def __init__(self) -> None:
        self.host, self.guest, self.libvirt = FakeHost("host"), FakeHost("guest"), FakeHypervisor()
        self.host.on("g1-placement-host", _answering(made.host()))
        self.guest.on("g1-placement-guest", _answering(made.guest()))
        self.libvirt.add_foreign(DOMAIN)
        self.libvirt.answers = made.answers()

    def observe(self, recorder, plan):
        return observe_guest(
            recorder,
            FakeTransport(self.host, recorder=recorder),
            self.libvirt,
            FakeTransport(self.guest, recorder=recorder),
            plan=plan,
            domain=DOMAIN,
        )

    def look(self, recorder, plan):
        return look_again(
            recorder,
            FakeTransport(self.host, recorder=recorder),
            self.libvirt,
            FakeTransport(self.guest, recorder=recorder),
            plan=plan,
            domain=DOMAIN,
            moment=Moment.MIDDLE,
        )


def test_a_later_look_says_the_same_and_when(recorder, plan) -> None:
    layers = Layers()
    observed, _ = layers.observe(recorder, plan)
    look = layers.look(recorder, plan)
    assert look.observed == observed
    assert (look.moment, look.detail, len(look.files)) == (Moment.MIDDLE, "", 3)
    assert (observed.at, observed.state) == (812.33, "running")


def test_a_paused_guest_is_seen_without_waiting_for_its_answer(recorder, plan) -> None:
    layers = Layers()
    layers.libvirt.answers = made.answers(status={"status": "paused", "running": False})
    look = layers.look(recorder, plan)
    assert look.observed is not None
    assert (look.observed.state, look.detail) == ("paused", "")
    assert layers.guest.calls == []


def test_what_host_and_qemu_say_stands_where_the_guest_is_silent(recorder, plan) -> None:
    layers = Layers()
    layers.guest.down = "connection lost"
    look = layers.look(recorder, plan)
    assert look.observed is not None
    assert [t.vcpu for t in look.observed.threads if t.vcpu is not None] == [0]
    assert "connection lost" in look.detail
    assert len(look.files) == 2


@pytest.mark.parametrize("gone", ["host", "libvirt"])
def test_a_look_that_sees_nothing_says_why_and_breaks_nothing(recorder, plan, gone) -> None:
    layers = Layers()
    layers.host.down = "no route to host" if gone == "host" else ""
    if gone == "libvirt":
        layers.libvirt = FakeHypervisor()
    look = layers.look(recorder, plan)
    assert look.observed is None
    assert look.detail


def test_each_layer_is_asked_once_and_its_words_are_kept(recorder, plan) -> None:
    layers = Layers()
    observed, files = layers.observe(recorder, plan)
    assert observed.guest == "g1"
    assert observed.pid == 70
    assert [t.vcpu for t in observed.threads if t.vcpu is not None] == [0]
    assert len(layers.host.calls) == len(layers.guest.calls) == 1
    assert len(files) == 3
    assert all((recorder.path / file).is_file() for file in files)
    assert json.loads((recorder.path / files[1]).read_text()) == {
        key: made.answers()[key] for key in json.loads((recorder.path / files[1]).read_text())
    }


def test_what_cannot_be_understood_is_kept_before_it_is_parsed(recorder, plan) -> None:
    layers = Layers()
    layers.host.on("g1-placement-host", b"\x1b[2J no frame at all")
    with pytest.raises(ParseError):
        layers.observe(recorder, plan)
    saved = sorted(p.name for p in (recorder.path / "transcripts").iterdir())
    assert len(saved) == 1
    assert "placement-host" in saved[0]


@pytest.mark.parametrize("layer", ["host", "guest"])
def test_a_script_that_fails_is_no_observation(recorder, plan, layer) -> None:
    layers = Layers()
    getattr(layers, layer).on(f"g1-placement-{layer}", b"", status=1, stderr=b"cannot open /proc")
    with pytest.raises(TransportError, match=r"ended with status 1: cannot open /proc") as caught:
        layers.observe(recorder, plan)
    assert caught.value.transcript.startswith("transcripts/")


def test_a_guest_that_is_gone_is_told(recorder, plan) -> None:
    layers = Layers()
    layers.guest.down = "connection lost"
    with pytest.raises(TransportError):
        layers.observe(recorder, plan)


def test_a_qemu_that_is_gone_is_told(recorder, plan) -> None:
    layers = Layers()
    layers.libvirt = FakeHypervisor()
    with pytest.raises(ProvisionError, match="Domain not found"):
        layers.observe(recorder, plan)
