"""A workload is spared only where every GPU's model is declared not to have its engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.config.files import load_profile, load_skus
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.guest import AttachMode, GuestRequest
from harness.model.outcome import SubjectKind
from harness.model.pci import PciAddress
from harness.model.sku import Sku
from harness.workloads.applicable import (
    absence,
    absent,
    fitted,
    models,
    too_few,
    why_absent,
)
from harness.workloads.base import Job
from harness.workloads.registry import specs, workload
from tests.faults import clean

H200, L4, T4 = PciAddress(0, 0x10, 0, 0), PciAddress(0, 0x11, 0, 0), PciAddress(0, 0x12, 0, 0)
DEMANDING = [one.name for one in specs() if one.engines]
"""Workloads that some models have no engine for."""


@pytest.fixture(scope="module")
def skus() -> dict[str, Sku]:
    return {sku.name: sku for sku in load_skus()}


def test_h200_has_no_encoder_and_the_file_says_so(skus: dict[str, Sku]) -> None:
    assert absent("stream", [skus["h200-sxm"]]) == (
        "NVIDIA H200 (SXM5) has no NVENC (inventory/skus/h200-sxm.yaml)"
    )
    assert absent("stream", [skus["h200-sxm"]], engine="gpu")


@pytest.mark.parametrize(
    "name", ["t4", "a10", "l4", "l40s", "quadro-rtx-6000", "rtx-4000-ada", "standin-edu"]
)
def test_models_with_encoders_and_stand_ins_are_planned(name: str, skus: dict[str, Sku]) -> None:
    assert [absent(workload, [skus[name]]) for workload in DEMANDING] == ["", ""]


def test_only_a_declared_absence_counts(skus: dict[str, Sku]) -> None:
    h200 = skus["h200-sxm"]
    assert not absent("stream", [replace(h200, engines={"nvenc": None})])
    assert not absent("stream", [replace(h200, engines={})])
    assert not absent("stream", [None])
    assert not absent("stream", [])
    assert not absent("stream", [h200, None])
    assert not absent("stream", [h200, skus["l4"]])
    assert absent("stream", [h200, skus["a100-sxm-80gb"]])


def test_a_load_for_the_processor_and_one_that_needs_no_encoder_are_planned(skus: dict[str, Sku]) -> None:
    assert not absent("stream", [skus["h200-sxm"]], engine="cpu")
    assert [absent(name, [skus["h200-sxm"]]) for name in ("tensor", "vram", "hashing", "render")] == [""] * 4


def test_a_model_that_only_decodes_is_held_to_its_decoder(skus: dict[str, Sku]) -> None:
    h200 = skus["h200-sxm"]
    assert not absent("transcode", [h200])
    assert absent("transcode", [replace(h200, engines={"nvenc": 0, "nvdec": 0})]).startswith(
        "NVIDIA H200 (SXM5) has no NVENC and no NVDEC"
    )
    assert fitted("transcode", [h200], {"transcode": {"rate": 30}}) == {"encoder": "cpu", "rate": 30}


def test_what_the_profile_leaves_open_is_the_models_and_what_it_says_stays(skus: dict[str, Sku]) -> None:
    t4, l4 = skus["t4"], skus["l4"]
    assert fitted("transcode", [l4], {}) == {"codecs": "h264,hevc,hevc10,av1"}
    assert fitted("transcode", [l4, t4], {}) == {"codecs": "h264,hevc,hevc10"}
    assert fitted("transcode", [l4], {"transcode": {"codecs": "h264"}}) == {"codecs": "h264"}
    assert fitted("transcode", [l4], {"transcode": {"engine": "cpu"}}) == {"engine": "cpu"}
    assert fitted("transcode", [l4, None], {}) == {}
    assert fitted("transcode", [], {}) == {}
    assert fitted("tensor", [l4], {}) == {}


def test_a_mix_leaves_out_the_loads_that_the_model_has_no_engine_for(skus: dict[str, Sku]) -> None:
    h200, l4 = skus["h200-sxm"], skus["l4"]
    profile = load_profile("burnin").workload_parameters
    asked = str(profile["mix"]["loads"])
    assert "stream" in asked
    left = fitted("mix", [h200, h200], profile)
    assert left == {**profile["mix"], "loads": asked.replace("stream,", "")}
    assert [fitted("mix", cards, profile)["loads"] for cards in ([l4], [h200, l4], [h200, None], [])] == (
        [asked] * 4
    )
    on_cpu = {**profile, "mix.stream": {"engine": "cpu"}}
    assert fitted("mix", [h200], on_cpu)["loads"] == asked
    # A mix of nothing is refused elsewhere, and never made here.
    assert fitted("mix", [h200], {"mix": {"loads": "stream"}}) == {"loads": "stream"}
    # "stream" stays among the steady loads: that one may name what is not run.
    job = Job(key="k", guest="g", tenant="t", parameters=left)
    assert "stream.py" not in " ".join(workload("mix").prepare(job))


def test_models_come_from_ids_and_subsystems(skus: dict[str, Sku]) -> None:
    facts = clean.facts()
    cards = (
        clean.device(H200, vendor="10de", device="2335"),
        clean.device(L4, vendor="10de", device="27b8", subsystem="10de:16ca"),
        clean.device(T4, vendor="10de", device="ffff"),
    )
    facts = replace(facts, pci_devices=(*facts.pci_devices, *cards))
    known = tuple(skus.values())
    found = models(known, facts, (H200, L4, T4))
    assert [sku.name if sku else None for sku in found] == ["h200-sxm", "l4", None]
    assert models((*known, replace(skus["l4"], name="l4-too")), facts, (L4,)) == (None,)
    assert models(known, None, (H200,)) == (None,)
    why = absence(known, facts, (H200,), clean.profile())
    assert "no NVENC" in why("stream")
    assert why("tensor") == ""


def test_why_a_load_is_not_planned_follows_from_what_was_recorded(skus: dict[str, Sku]) -> None:
    facts = clean.facts()
    cards = (clean.device(H200, vendor="10de", device="2335"),)
    guest = GuestEvidence(
        name="bare",
        request=GuestRequest(name="bare", gpus=0),
        workloads=("stream", "tensor"),
        attach=AttachMode.BARE,
        devices=(H200,),
    )
    evidence = Evidence(
        host="h",
        subject=SubjectKind.HARDWARE,
        profile="bare",
        run="r",
        started_at="2026-11-22T00:00:00.000Z",
        ended_at=None,
        facts=replace(facts, pci_devices=cards),
        skus=tuple(skus.values()),
        guests=(guest,),
    )
    profile = clean.profile("bare")
    assert why_absent(evidence, profile, guest, "stream") == (
        "NVIDIA H200 (SXM5) has no NVENC (inventory/skus/h200-sxm.yaml)"
    )
    assert not why_absent(evidence, profile, guest, "tensor")
    on_cpu = replace(profile, workload_parameters={"stream": {"engine": "cpu"}})
    assert not why_absent(evidence, on_cpu, guest, "stream")
    assert not why_absent(replace(evidence, skus=()), profile, guest, "stream")


def test_gpus_that_were_asked_for_and_not_found_spare_no_load_between_gpus() -> None:
    facts = clean.facts()
    assert too_few("p2p", facts, (), requested=1)
    assert not too_few("p2p", facts, (), requested=4)
    assert not too_few("p2p", None, (H200, L4), requested=2)
    guest = GuestEvidence(name="g4", request=GuestRequest(name="g4", gpus=4), workloads=("p2p",))
    evidence = replace(clean.evidence(), guests=(guest,))
    assert not why_absent(evidence, clean.profile(), guest, "p2p")
