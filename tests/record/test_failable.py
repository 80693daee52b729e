"""Every required check can fail from what a run records: each fault is written down as a run writes it, read
back from disk and judged. What no recorder writes, or no fold reads, would let a check pass for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from harness.attach import ATTACHMENT_NAMES
from harness.config.files import list_names, load_profile
from harness.errors import RecordError
from harness.faults.base import Fault
from harness.faults.registry import FAULTS
from harness.model.evidence import Engine, Evidence, Note, Reference, ReferenceValue
from harness.model.inventory import Profile
from harness.model.outcome import Outcome, Severity, SubjectKind, Verdict
from harness.record.assemble import _STEPS
from harness.record.judge import finish, rejudge
from harness.record.kinds import Kind
from harness.record.recorder import Recorder
from tests.faults import clean
from tests.record.replay import as_bare, as_recorded, begin, read_back, replay

PROFILES = {"vfio": "smoke", "bare": "bare"}
"""The profile of each mode that the others of the mode are based on."""
NEVER_FAILS = {
    "gpu.model_known",
    "host.watched",
    "run.no_errors",
    "telemetry.alive",
    "workload.burn_time",
    "workload.limits_matched",
}
"""They ask whether enough is known, so that the worst they say leaves the verdict open."""
NOT_A_NUMBER = {"not-a-number", "rate-not-a-number"}
"""Faults that no run can record: payloads are read as strict JSON, and events are written so."""


def blockers(profile: Profile) -> set[str]:
    return {check for check, severity in profile.checks.items() if severity is Severity.BLOCKER}


@contextmanager
def recorded(root: Path, evidence: Evidence, mode: str) -> Iterator[Recorder]:
    """A run in which all of ``evidence`` was recorded, not yet judged."""
    shown = evidence if mode == "vfio" else as_bare(evidence)
    recorder = begin(root, shown, profile=clean.profile(PROFILES[mode]), host=clean.HOST)
    try:
        replay(recorder, shown)
        got = read_back(recorder)
        assert got == as_recorded(shown, got)
        yield recorder
    finally:
        recorder.log.close()


def cases(mode: str) -> list[Fault]:
    """Of a bare machine, those of required checks: some others ask about guests that it does not have."""
    profile = load_profile(PROFILES[mode])
    asked = set(profile.checks) if mode == "vfio" else blockers(profile)
    return [fault for fault in FAULTS if fault.must_trip in asked and fault.id not in NOT_A_NUMBER]


def recorded_fault(root: Path, fault: Fault, mode: str) -> None:
    """The fault, recorded and read back, is seen by its check, and decides when the check is required."""
    with recorded(root, fault.corrupt(clean.evidence()), mode) as recorder:
        record = finish(recorder)
    said = {cell.outcome for cell in record.decision.coverage if cell.check == fault.must_trip}
    assert fault.outcome in said
    if fault.must_trip in blockers(record.profile):
        failed = fault.outcome is Outcome.FAIL
        assert record.decision.verdict is (Verdict.NO_GO if failed else Verdict.INCONCLUSIVE)
    assert rejudge(recorder.directory).agrees


@pytest.mark.parametrize("fault", cases("vfio"), ids=lambda fault: fault.id)
def test_a_recorded_fault_is_seen_by_its_check(fault: Fault, tmp_path: Path) -> None:
    recorded_fault(tmp_path, fault, "vfio")


@pytest.mark.parametrize("fault", cases("bare"), ids=lambda fault: fault.id)
def test_a_recorded_fault_of_a_bare_machine_is_seen_by_its_check(fault: Fault, tmp_path: Path) -> None:
    recorded_fault(tmp_path, fault, "bare")


@pytest.mark.parametrize("mode", ATTACHMENT_NAMES)
def test_a_clean_run_that_was_recorded_is_go(mode: str, tmp_path: Path) -> None:
    with recorded(tmp_path, clean.evidence(), mode) as recorder:
        assert finish(recorder).decision.verdict is Verdict.GO


@pytest.mark.parametrize("name", list_names("profiles"))
def test_every_required_check_of_a_shipped_profile_is_among_them(name: str) -> None:
    """With a fault that makes it FAIL, unless it can only leave the verdict open: then with one that does."""
    profile = load_profile(name)
    base = load_profile(PROFILES[profile.attach])
    assert blockers(profile) <= blockers(base)
    played = cases(profile.attach)
    fails = {fault.must_trip for fault in played if fault.outcome is Outcome.FAIL}
    opens = {fault.must_trip for fault in played if fault.outcome is not Outcome.FAIL}
    assert blockers(profile) - fails <= NEVER_FAILS & opens


def test_the_checks_that_never_fail_have_no_fault_that_fails_them() -> None:
    assert {f.must_trip for f in FAULTS if f.outcome is Outcome.FAIL} & NEVER_FAILS == set()


@pytest.mark.parametrize("name", sorted(NOT_A_NUMBER))
def test_what_is_not_a_number_reaches_no_record(name: str, tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.id == name)
    evidence = fault.corrupt(clean.evidence())
    recorder = begin(tmp_path, evidence, profile=clean.profile(), host=clean.HOST)
    with pytest.raises(RecordError, match="JSON"):
        replay(recorder, evidence)
    recorder.log.close()


def test_what_clean_evidence_does_not_hold_comes_back_too(tmp_path: Path) -> None:
    """Stages' times, a reference, an engine's limits, notes of people."""
    value = ReferenceValue(
        workload="hashing",
        engine="cuda",
        name="rate",
        unit="1/s",
        device=clean.address(0x41),
        values=(1.0, 2.0),
    )
    reference = Reference(
        run="bare",
        host="clean",
        machine_id="0" * 32,
        cpus=8,
        subject=SubjectKind.HARDWARE,
        standin=False,
        verdict="GO",
        ended_at="2026-11-22T00:00:00Z",
        parameters={"hashing": {"tool": "hashcat"}},
        values=(value,),
        problems=("none",),
    )
    evidence = replace(
        clean.evidence(),
        engine=Engine(description="QEMU", accelerator="tcg", limits=("no AVX",)),
        reference=reference,
        seconds={"burn": 12.5, "release": 0.25},
        notes=(Note(at="2026-11-22T00:01:00Z", by="Ada", text="a fan is loud"),),
    )
    with recorded(tmp_path, evidence, "vfio"):
        pass


def test_every_kind_of_event_is_read_by_the_fold() -> None:
    """But for those that begin an attempt, or tell of an earlier one."""
    assert set(_STEPS) == set(Kind) - {Kind.RUN_START, Kind.RUN_RESUMED, Kind.RECOVERED}
