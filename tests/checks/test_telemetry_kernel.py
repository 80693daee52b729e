"""Kernel codes by their ruling, logs with holes, who judges which line, and the host's side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.attach import ATTACHMENT_NAMES
from harness.checks.registry import run_checks
from harness.checks.watching.gpu_errors import judge_log
from harness.faults.telemetry import watched, with_telemetry
from harness.model.evidence import Evidence
from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Action, Outcome
from harness.model.pci import PciAddress
from harness.model.telemetry import GPU_FAMILIES, Family, HostTelemetry, KernelEvent, KernelLog, Ruling
from harness.telemetry.kernel.log import read_kernel
from tests.faults import clean

PASS, FAIL, ERROR, MISSING = Outcome.PASS, Outcome.FAIL, Outcome.ERROR, None
GPU = PciAddress(0, 5, 0, 0)
OTHER = PciAddress(0, 6, 0, 0)
LOG = KernelLog(source="g1", followed_from=1.0, followed_to=100.0, lines=40)


def xid(code: int, ruling: Ruling, at: float | None = 50.0, **changes: Any) -> KernelEvent:
    fields: dict[str, Any] = {
        "source": "g1",
        "at": at,
        "family": Family.XID,
        "line": f"NVRM: Xid (PCI:0000:05:00): {code}, pid=1",
        "code": code,
        "device": GPU,
        "ruling": ruling,
    }
    return KernelEvent(**(fields | changes))


def judged(check: str, evidence: Evidence) -> tuple[Outcome | None, str]:
    _, cells = run_checks(evidence, clean.profile(), clean.HOST)
    first = next(c for c in cells if c.check == check)
    return first.outcome, first.reason


@pytest.mark.parametrize(
    ("ruling", "outcome", "action"),
    [
        (Ruling.STOP, FAIL, Action.REPLACE_GPU),
        (Ruling.RETEST, FAIL, Action.RETEST),
        (Ruling.CONFIG, FAIL, Action.FIX_CONFIG),
        (Ruling.UNKNOWN, FAIL, Action.CONTACT_VENDOR),
        (Ruling.NOTE, PASS, Action.NONE),
        (Ruling.LINK, ERROR, Action.RETEST),
    ],
)
def test_the_ruling_decides(ruling: Ruling, outcome: Outcome, action: Action) -> None:
    said = judge_log(replace(LOG, events=(xid(79, ruling),)), 2.0, 99.0)
    assert (said.outcome, said.action) == (outcome, action)
    assert said.evidence[0].quote.startswith("NVRM: Xid")


def test_the_tables_own_action_comes_first() -> None:
    said = judge_log(replace(LOG, events=(xid(119, Ruling.RETEST, action=Action.RESET_GPU),)), 2.0, 99.0)
    assert said.action is Action.RESET_GPU


def test_the_most_serious_ruling_speaks_and_the_line_that_follows_it_is_named() -> None:
    events = (
        xid(45, Ruling.LINK),
        xid(13, Ruling.RETEST),
        xid(79, Ruling.STOP, meaning="fallen off the bus"),
    )
    said = judge_log(replace(LOG, events=events), 2.0, 99.0)
    assert said.message.startswith("XID 79 on 0000:05:00.0 (fallen off the bus), ruled stop")


@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        (xid(93, Ruling.NOTE, at=110.0), PASS),
        (xid(93, Ruling.NOTE, at=110.1), ERROR),
        (xid(93, Ruling.NOTE, at=None), PASS),
        (xid(93, Ruling.NOTE, device=OTHER), ERROR),
        (xid(93, Ruling.NOTE, device=None), PASS),
        (xid(154, Ruling.LINK), ERROR),
    ],
)
def test_a_line_that_follows_another_needs_it_near_by_and_on_its_device(
    other: KernelEvent, outcome: Outcome
) -> None:
    said = judge_log(replace(LOG, events=(xid(45, Ruling.LINK), other)), 2.0, 99.0)
    assert said.outcome is outcome


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({}, PASS),
        ({"followed_from": 2.0}, PASS),
        ({"followed_from": 2.1}, ERROR),
        ({"followed_to": 99.0}, PASS),
        ({"followed_to": 98.9}, ERROR),
        ({"followed_from": None, "followed_to": None, "detail": "permission denied"}, ERROR),
        ({"dropped": 1}, ERROR),
    ],
)
def test_nothing_passes_on_half_a_log(changes: dict[str, Any], outcome: Outcome) -> None:
    assert judge_log(replace(LOG, **changes), 2.0, 99.0).outcome is outcome
    worse = replace(LOG, events=(xid(79, Ruling.STOP),), **changes)
    assert judge_log(worse, 2.0, 99.0).outcome is FAIL


def test_what_happened_before_the_run_is_not_this_runs() -> None:
    old = replace(LOG, events=(xid(79, Ruling.STOP, at=10.0),))
    assert judge_log(old, 20.0, 99.0, since=15.0).outcome is PASS
    assert judge_log(old, 20.0, 99.0, since=None).outcome is FAIL
    unknown = replace(LOG, events=(xid(79, Ruling.STOP, at=None),))
    assert judge_log(unknown, 20.0, 99.0, since=15.0).outcome is FAIL


def _guest_log(evidence: Evidence, **changes: Any) -> Evidence:
    kernel = watched(evidence).kernel
    assert kernel is not None
    return with_telemetry(evidence, kernel=replace(kernel, **changes))


def test_a_bare_machine_is_not_charged_with_its_past_and_a_guest_has_none() -> None:
    evidence = _guest_log(clean.evidence(), events=(xid(79, Ruling.STOP, at=19.9),))
    assert judged("guest.gpu_errors", evidence)[0] is FAIL
    guest = replace(evidence.guests[0], attach="bare")
    assert judged("guest.gpu_errors", replace(evidence, guests=(guest, *evidence.guests[1:])))[0] is PASS


def test_a_guest_without_nvml_has_a_kernel_log_all_the_same() -> None:
    evidence = with_telemetry(clean.evidence(), source="", gpus=())
    assert judged("guest.gpu_errors", evidence)[0] is PASS
    unfollowed = with_telemetry(clean.evidence(), kernel=None)
    assert judged("guest.gpu_errors", unfollowed)[0] is MISSING


BUS = "NVRM: Xid (PCI:0000:05:00): 79, pid=1, GPU has fallen off the bus."
MCE = "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 9: bc0000400001014"


@pytest.mark.parametrize(
    ("line", "driver"),
    [
        (BUS, True),
        ("NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.", True),
        ("nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", True),
        (MCE, False),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000008", False),
        ("all is well", False),
    ],
)
def test_lines_belong_to_one_check_each(line: str, driver: bool) -> None:
    for shown in (line, f"[   12.345678] {line}"):
        found = read_kernel([(None, shown)], "g1", KernelCodes())
        assert any(event.family in GPU_FAMILIES for event in found) is driver


def test_the_drivers_lines_are_judged_once_where_the_log_was_followed() -> None:
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    told = replace(evidence, guests=(replace(guest, kernel_log=(BUS,)), *evidence.guests[1:]))
    noted = _guest_log(told, events=(xid(79, Ruling.NOTE).on_host(guest.cards),))
    assert judged("guest.kernel_log", noted)[0] is PASS
    unfollowed = _guest_log(told, followed_from=None, followed_to=None)
    assert judged("guest.kernel_log", unfollowed)[0] is FAIL
    assert judged("guest.gpu_errors", unfollowed)[0] is ERROR


def test_every_other_line_stays_with_the_kernel_log() -> None:
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    told = replace(evidence, guests=(replace(guest, kernel_log=(MCE,)), *evidence.guests[1:]))
    assert judged("guest.kernel_log", told)[0] is FAIL
    assert judged("guest.gpu_errors", told)[0] is PASS


def test_a_line_that_the_log_has_lost_is_still_known_to_its_follower() -> None:
    event = KernelEvent(source="host", at=1100.0, family=Family.MCE, line=MCE, ruling=Ruling.STOP)
    evidence: Evidence = clean.evidence()
    host = evidence.host_telemetry
    assert host is not None
    assert host.kernel is not None
    seen = replace(evidence, host_telemetry=replace(host, kernel=replace(host.kernel, events=(event,))))
    assert judged("host.kernel_log", seen)[0] is FAIL
    assert judged("host.gpu_errors", seen)[0] is PASS
    between = replace(event, at=500.0)  # after the first look at the host, before it was watched
    lost = replace(evidence, host_telemetry=replace(host, kernel=replace(host.kernel, events=(between,))))
    assert judged("host.kernel_log", lost)[0] is FAIL
    before = replace(event, at=90.0)
    old = replace(evidence, host_telemetry=replace(host, kernel=replace(host.kernel, events=(before,))))
    assert judged("host.kernel_log", old)[0] is PASS


HOT = "mce: CPU3: Core temperature above threshold, cpu clock throttled (total events = 1)"
COUSINS = [
    (HOT, Family.MCE),
    ("nvme nvme0: I/O 23 QID 4 timeout, aborting", Family.KERNEL),
    ("rcu: INFO: rcu_preempt self-detected stall on CPU", Family.KERNEL),
]


@pytest.mark.parametrize(("line", "family"), COUSINS)
@pytest.mark.parametrize("attach", ["vfio", "bare"])
def test_what_the_sampler_read_of_any_family_is_judged_in_guests_and_on_bare_machines(
    line: str, family: Family, attach: str
) -> None:
    """The NVML stand-in on a bare machine writes into a file of its own: no look at the host's log has it."""
    hot = KernelEvent(source="g1", at=50.0, family=family, line=line, ruling=Ruling.RETEST)
    evidence = _guest_log(clean.evidence(), events=(hot,))
    profile = replace(clean.profile(), attach=attach)
    _, cells = run_checks(evidence, profile, clean.HOST)
    log = "guest.kernel_log" if attach == "vfio" else "host.kernel_log"
    outcome, said = next((c.outcome, c.reason) for c in cells if c.check == log)
    assert (outcome, line[:60] in said) == (FAIL, True)


def test_what_a_guest_said_before_its_log_could_be_read_no_more_counts() -> None:
    hot = KernelEvent(source="g1", at=50.0, family=Family.MCE, line=HOT, ruling=Ruling.RETEST)
    evidence = _guest_log(clean.evidence(), events=(hot,))
    unread = replace(evidence, guests=(replace(evidence.guests[0], kernel_log=None), *evidence.guests[1:]))
    assert judged("guest.kernel_log", unread)[0] is FAIL
    noted = _guest_log(unread, events=(replace(hot, ruling=Ruling.NOTE),))
    assert judged("guest.kernel_log", noted)[0] is MISSING


def test_a_line_that_two_readers_saw_is_told_once() -> None:
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    shown = f"kern  :warn  : [   50.000000] {HOT}"
    told = replace(evidence, guests=(replace(guest, kernel_log=(shown,)), *evidence.guests[1:]))
    hot = KernelEvent(source="g1", at=50.0, family=Family.MCE, line=HOT, ruling=Ruling.RETEST)
    results, _ = run_checks(_guest_log(told, events=(hot,)), clean.profile(), clean.HOST)
    said = next(r for r in results if r.check == "guest.kernel_log")
    assert [each.quote for each in said.evidence] == [shown]


def on_host(**changes: Any) -> Evidence:
    evidence: Evidence = clean.evidence()
    host = evidence.host_telemetry
    assert host is not None
    return replace(evidence, host_telemetry=replace(host, **changes))


def device(**changes: Any) -> Evidence:
    host: HostTelemetry | None = clean.evidence().host_telemetry
    assert host is not None
    *rest, last = host.devices
    return on_host(devices=(*rest, replace(last, **changes)))


@pytest.mark.parametrize(
    ("check", "evidence", "outcome"),
    [
        ("host.watched", lambda: on_host(samples=0), MISSING),
        ("host.watched", lambda: on_host(started=None), MISSING),
        ("host.watched", lambda: on_host(problems=("a torn line",)), ERROR),
        ("host.load_noise", lambda: on_host(steal_seconds={"0": 3.0}), PASS),
        ("host.load_noise", lambda: on_host(steal_seconds={"0": 3.1}), FAIL),
        ("host.load_noise", lambda: on_host(steal_seconds={}), MISSING),
        ("host.device_errors", lambda: device(missing=1), FAIL),
        ("host.device_errors", lambda: device(width_min=15), FAIL),
        ("host.device_errors", lambda: device(speed_gts_min=2.5), PASS),
        ("host.device_errors", lambda: device(aer={"correctable": 1}), FAIL),
        ("host.device_errors", lambda: device(samples=0), PASS),
        ("host.device_errors", lambda: on_host(devices=()), MISSING),
    ],
)
def test_the_hosts_side_at_its_limits(
    check: str, evidence: Callable[[], Evidence], outcome: Outcome | None
) -> None:
    """The host is watched for 300 s, of which a hypervisor above may take 3 s of a CPU."""
    assert judged(check, evidence())[0] is outcome


def test_a_gpu_that_was_never_sampled_on_the_host_is_not_well() -> None:
    host: HostTelemetry | None = clean.evidence().host_telemetry
    assert host is not None
    outcome, why = judged("host.device_errors", on_host(devices=host.devices[1:]))
    assert outcome is MISSING
    assert str(host.devices[0].device) in why


def test_the_drivers_lines_from_after_its_follower_are_the_kernel_logs() -> None:
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    told = replace(evidence, guests=(replace(guest, kernel_log=(BUS,)), *evidence.guests[1:]))
    assert judged("guest.gpu_errors", told)[0] is PASS
    assert judged("guest.kernel_log", told)[0] is FAIL
    again = replace(evidence, guests=(replace(guest, kernel_log=(BUS, BUS + " pid=7")), *evidence.guests[1:]))
    event = xid(79, Ruling.NOTE, line=BUS).on_host(guest.cards)
    assert judged("guest.kernel_log", _guest_log(again, events=(event,)))[0] is PASS
    for other in (xid(78, Ruling.NOTE), xid(79, Ruling.NOTE, device=OTHER)):
        seen = _guest_log(again, events=(other.on_host(guest.cards),))
        assert judged("guest.kernel_log", seen)[0] is FAIL


def test_a_fatal_sxid_after_its_follower_is_not_ruled_by_one_that_was_not_fatal() -> None:
    mild = "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Non-fatal, Link 30 LTSSM Fault Up"
    evidence: Evidence = clean.evidence()
    guest = evidence.guests[0]
    told = replace(evidence, guests=(replace(guest, kernel_log=(mild,)), *evidence.guests[1:]))
    ruled = _guest_log(told, events=(xid(20034, Ruling.NOTE, family=Family.SXID, line=mild),))
    assert judged("guest.kernel_log", ruled)[0] is PASS
    worse = replace(guest, telemetry=ruled.guests[0].telemetry, kernel_log=(mild, mild.replace("Non-f", "F")))
    assert judged("guest.kernel_log", replace(told, guests=(worse, *told.guests[1:])))[0] is FAIL


@pytest.mark.parametrize("attach", ATTACHMENT_NAMES)
def test_the_hosts_own_driver_lines_are_left_to_the_check_that_rules_them(attach: str) -> None:
    evidence: Evidence = clean.evidence()
    host, after = evidence.host_telemetry, evidence.facts_after
    assert host is not None
    assert host.kernel is not None
    assert after is not None
    profile = replace(clean.profile(), attach=attach)
    late = replace(evidence, facts_after=replace(after, kernel_log=(*(after.kernel_log or ()), BUS)))
    event = xid(79, Ruling.NOTE, at=1100.0, line=BUS)
    by_host = replace(late, host_telemetry=replace(host, kernel=replace(host.kernel, events=(event,))))
    by_guest = _guest_log(late, events=(event,))

    def said(given: Evidence) -> Outcome | None:
        _, cells = run_checks(given, profile, clean.HOST)
        return next(c.outcome for c in cells if c.check == "host.kernel_log")

    assert said(late) is FAIL
    # host.gpu_errors is not asked on a bare machine, so what its follower saw is ruled by nobody there.
    assert said(by_host) is (PASS if attach == "vfio" else FAIL)
    assert said(by_guest) is (FAIL if attach == "vfio" else PASS)


def test_a_kernel_log_without_a_line_is_no_kernels() -> None:
    outcome, why = judged("guest.gpu_errors", _guest_log(clean.evidence(), lines=0))
    assert outcome is ERROR
    assert "no line of it arrived" in why
    assert judge_log(replace(LOG, lines=0), 2.0, 99.0, silent=True).outcome is PASS


def test_nothing_of_the_host_passes_when_its_follower_fell_silent() -> None:
    cut = on_host(closed=False, ended=1100.0)
    assert judged("host.watched", cut)[0] is ERROR
    for check in ("host.gpu_errors", "host.load_noise", "host.device_errors"):
        assert judged(check, cut)[0] is MISSING


def test_cpus_that_nobody_looked_at_are_not_quiet() -> None:
    host = clean.evidence().host_telemetry
    cpu, *rest = host.foreign_tasks
    outcome, why = judged("host.load_noise", on_host(foreign_tasks=dict.fromkeys(rest, ())))
    assert outcome is MISSING
    assert f"CPUs {cpu} " in why
