"""One identity of a card, whatever the machine calls it that tells of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.model.evidence import Answer, WorkloadResult
from harness.model.gpu import Cards, GpuRef, named_in, with_told
from harness.model.outcome import Measurement
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, KernelEvent
from harness.plugin.words import reason_lines
from harness.record.judge import finish, rejudge
from harness.stages.guest.burn import on_host
from reports.markdown import render
from tests.faults import clean
from tests.record.replay import begin, replay

A, B, C = (PciAddress.parse(f"0000:{bus}:00.0") for bus in ("41", "42", "e0"))
CARDS = Cards(refs=(GpuRef(host=A, guest=B, slot="3", serial="1650"), GpuRef(host=B, guest=C)))
"""The guest sees the first card where the host has the second."""


def test_addresses_of_a_guest_become_those_of_the_host_in_one_pass() -> None:
    assert CARDS.on_host(f"{B} -> {C}") == f"{A} -> {B}"
    assert CARDS.on_host("0000:02:00.0 hung") == "0000:02:00.0 (in the guest) hung"
    assert CARDS.on_host("00000000:42:00.0, bus 0x42:00.0x") == f"{A}, bus 0x42:00.0x"
    assert replace(CARDS, same=True).on_host(f"{B}") == str(B)


def test_every_word_of_a_result_names_the_card_of_the_host() -> None:
    said = f"{B} to the end"
    result = WorkloadResult(
        workload="vram",
        guest="g",
        engine="cuda",
        key="k",
        status="done",
        answers=(Answer(name=said, expected=f"at {B}", got=f"at {C}", ok=False, detail=said),),
        measurements=(Measurement(name="vram.rate", value=1.0, unit="GB/s", subject=str(C)),),
        detail=said,
    )
    told = on_host(result, CARDS)
    assert (told.measurements[0].subject, told.detail) == (str(B), f"{A} to the end")
    (answer,) = told.answers
    assert (answer.name, answer.expected, answer.got) == (f"{A} to the end", f"at {A}", f"at {B}")


def test_an_event_of_a_guests_kernel_stands_with_both_addresses() -> None:
    event = KernelEvent(source="g", at=1.0, family=Family.XID, line="NVRM", code=79, device=B)
    told = event.on_host(CARDS)
    assert (told.device, told.inside, told.place) == (A, B, str(A))
    other = replace(event, device=A).on_host(CARDS)
    assert (other.device, other.inside, other.place) == (None, A, f"{A} in the guest")


def test_what_is_known_of_a_card_is_kept_and_what_is_not_is_added() -> None:
    told = (GpuRef(host=A, uuid="GPU-1", serial="9"), GpuRef(host=B, uuid="GPU-2", serial="10"))
    first, second = with_told(CARDS, told).refs
    assert (first.uuid, first.serial, first.slot) == ("GPU-1", "1650", "3")
    assert (second.uuid, second.serial, second.slot) == ("GPU-2", "10", None)
    assert first.name == f"{A} (slot 3, serial 1650)"
    assert [card.host for card in named_in((first, second), [f"it is {A}", "and 0000:99:00.0"])] == [A]


def test_a_person_reads_slot_and_serial_number_of_the_card_that_failed(tmp_path: Path) -> None:
    evidence = clean.evidence()
    assert evidence.facts is not None
    devices = tuple(
        replace(d, config_ok=False, slot_label="3") if d.address == A else d
        for d in evidence.facts.pci_devices
    )
    evidence = replace(evidence, facts=replace(evidence.facts, pci_devices=devices))
    guests = tuple(
        replace(
            g,
            cards=replace(
                g.cards, refs=tuple(replace(r, slot="3") if r.host == A else r for r in g.cards.refs)
            ),
        )
        for g in evidence.guests
    )
    recorder = begin(tmp_path, replace(evidence, guests=guests), profile=clean.profile(), host=clean.HOST)
    replay(recorder, replace(evidence, guests=guests))
    record = finish(recorder)
    pull = f"{A} (slot 3, serial 1653124000000)"
    assert pull in render(record).replace("\\", "")
    assert pull in "\n".join(reason_lines(record))
    assert record.evidence.guests[0].cards.refs[0].uuid == "GPU-00000000-aaaa-bbbb-cccc-0123456789ab"


def test_a_run_of_an_older_schema_is_refused_by_name(tmp_path: Path) -> None:
    recorder = begin(tmp_path, clean.evidence(), profile=clean.profile(), host=clean.HOST)
    replay(recorder, clean.evidence())
    finish(recorder)
    events = recorder.directory.events
    first, *rest = events.read_text(encoding="utf-8").splitlines()
    data = json.loads(first)
    del data["data"]["schema_version"]
    events.write_text("\n".join((json.dumps(data), *rest)) + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match="in schema version 1, and this version reads 2"):
        rejudge(recorder.directory)
