"""Each later look at a guest is held to its plan: what differed, what it was, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.checks.base import Case, MissingEvidence, Subject
from harness.checks.guest.kept import CHECKS
from harness.model.evidence import Evidence, GuestEvidence
from harness.model.outcome import CheckResult, Outcome
from harness.model.placement import Moment, ObservedPlacement, PlacementLook
from tests.faults import clean

(CHECK,) = CHECKS
WHOLE = clean.evidence()
GUEST = WHOLE.guests[0]


def asked(guest: GuestEvidence, evidence: Evidence = WHOLE) -> CheckResult:
    case = Case(evidence=evidence, profile=clean.profile(), host=clean.HOST)
    return CHECK.judge(case, Subject(name=guest.name, slot=guest.name, guest=guest))


def later(moment: Moment, **changes: Any) -> GuestEvidence:
    def changed(look: PlacementLook) -> PlacementLook:
        assert look.observed is not None
        return replace(look, observed=replace(look.observed, **changes)) if look.moment is moment else look

    return replace(GUEST, looks=tuple(map(changed, GUEST.looks)))


def observed() -> ObservedPlacement:
    assert GUEST.observed is not None
    return GUEST.observed


def repinned(vcpu: int, cpus: tuple[int, ...]) -> dict[str, Any]:
    threads = tuple(replace(t, cpus_allowed=cpus) if t.vcpu == vcpu else t for t in observed().threads)
    return {"threads": threads}


def test_a_guest_that_stayed_passes_with_the_moments_of_its_looks() -> None:
    result = asked(GUEST)
    assert result.outcome is Outcome.PASS
    assert "in the middle of the burn (host up 1100 s) and at the end of the burn (host up 1200 s)" in (
        result.message
    )
    assert {ref.file for ref in result.evidence} >= {f for look in GUEST.looks for f in look.files}


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("cpus", [(0, 1), (6, 7), tuple(range(64))])
@pytest.mark.parametrize("which", [0, -1])
def test_a_re_pin_is_told_with_thread_plan_find_and_time(moment: Moment, which: int, cpus) -> None:
    plan = GUEST.plan
    assert plan is not None
    vcpu = sorted(plan.vcpupin)[which]
    result = asked(later(moment, **repinned(vcpu, cpus)))
    assert result.outcome is Outcome.FAIL
    assert moment.value in result.message
    assert f"vCPU {vcpu} " in result.message
    assert f"planned CPU {plan.vcpupin[vcpu]}" in result.message


@pytest.mark.parametrize("state", ["paused", "io-error", "guest-panicked", "shutdown"])
def test_a_guest_that_qemu_does_not_run_is_told_with_its_state(state: str) -> None:
    result = asked(later(Moment.END, state=state))
    assert result.outcome is Outcome.FAIL
    assert (
        f"at the end of the burn (host up 1200 s): state of the guest: planned running, observed {state}"
        in (result.message)
    )


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_pages_that_lie_elsewhere_later_are_told_with_their_nodes(moved: int) -> None:
    first, *rest = observed().memory
    here = first.host_nodes[0]
    share = first.size_bytes * moved // 4
    pages = {here: first.size_bytes - share, here + 5: share}
    result = asked(later(Moment.MIDDLE, memory=(replace(first, pages=pages), *rest)))
    assert result.outcome is Outcome.FAIL
    assert f"on node {here + 5}" in result.message


def test_another_process_is_another_guest() -> None:
    result = asked(later(Moment.END, pid=99))
    assert result.outcome is Outcome.FAIL
    assert "planned process 4242, observed process 99" in result.message


def test_kernel_threads_that_were_loose_from_the_start_are_not_told_again() -> None:
    loose = replace(observed().threads[0], tid=6000, name="kvm-pit/4242", kernel=True, cpus_allowed=(0, 1, 2))
    with_loose = replace(observed(), threads=(*observed().threads, loose))
    looks = tuple(replace(look, observed=with_loose) for look in GUEST.looks)
    assert asked(replace(GUEST, observed=with_loose, looks=looks)).outcome is Outcome.PASS


@pytest.mark.parametrize(
    "looks",
    [
        (),
        GUEST.looks[:1],
        GUEST.looks[1:],
        tuple(replace(each, observed=None, detail="x") for each in GUEST.looks),
    ],
)
def test_a_look_that_was_not_taken_or_saw_nothing_leaves_it_open(looks) -> None:
    with pytest.raises(MissingEvidence):
        asked(replace(GUEST, looks=looks))


def test_what_was_seen_wrong_stands_though_another_look_saw_nothing() -> None:
    middle, end = later(Moment.MIDDLE, state="paused").looks
    blind = replace(end, observed=None, detail="no answer")
    assert asked(replace(GUEST, looks=(middle, blind))).outcome is Outcome.FAIL
