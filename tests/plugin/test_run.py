"""A run: stages in order, each entered once, and a verdict from the record whatever broke, interrupted or
killed it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from harness.errors import RecordError, TransportError
from harness.model.guest import GuestDemand
from harness.model.inventory import HostControlRef, SshAccess
from harness.model.outcome import Outcome, Verdict
from harness.plugin.run import Run
from tests.placement import hosts
from tests.plugin.runs import Acting, a_host, a_run, driven, interrupt, known
from tests.stages.candidates import a_candidate, asked, reach
from tests.stages.stand_ins import FakeAccess, FakeGuest, a_demand

ALONE = a_demand("1gpu", "p2p")
"""A load that such a guest has no use for: its burn is over at once."""
PAIR = (a_demand("2x1gpu-a", "p2p", group="2x1gpu"), a_demand("2x1gpu-b", "p2p", group="2x1gpu"))
with_keys = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen (openssh-client)")


def closed_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def made(tmp_path) -> Iterator[Callable[..., Run]]:
    """Makes runs, and closes their records at the end."""
    opened: list[Run] = []

    def make(*demands: GuestDemand, host_changes: dict[str, object] | None = None, **changes: object) -> Run:
        host = a_host(tmp_path, **(host_changes or {}))
        opened.append(a_run(tmp_path / str(len(opened)), demands or (ALONE,), host, **changes))
        return opened[-1]

    yield make
    for each in opened:
        each.context.recorder.close()


@pytest.fixture
def refusing(tmp_path) -> dict[str, object]:
    """What makes a host file one of a host that refuses SSH."""
    access = SshAccess(
        address="127.0.0.1",
        port=closed_port(),
        identity_file=str(tmp_path / "key"),
        known_hosts=str(tmp_path / "known_hosts"),
        connect_timeout_seconds=2.0,
    )
    return {"name": "refusing", "ssh": access, "control": HostControlRef()}


@pytest.fixture
def access(monkeypatch) -> FakeAccess:
    """A host in memory, with the facts of ``hosts.lab_like`` and guests of the names used here."""
    found = a_candidate("1gpu", "4gpu", "2x1gpu-a", "2x1gpu-b")
    reach(monkeypatch, found)
    looked: list[object] = []

    def facts(_transport: object, *, work_dir: str) -> tuple[object, bytes]:
        looked.append(work_dir)
        return dataclasses.replace(hosts.lab_like(), uptime_seconds=100.0 + len(looked)), b"a transcript"

    monkeypatch.setattr("harness.facts.collect", facts)
    return found


def test_a_host_that_refuses_ssh_is_inconclusive_with_stage_and_remedy(made, refusing) -> None:
    run = made(host_changes=refusing)
    record, interrupted = driven(run)
    said = record.evidence
    assert interrupted is said.interrupted is False
    (error,) = said.errors
    assert (error.stage, error.kind, error.host) == ("host", "TransportError", "refusing")
    assert error.remedy
    assert [g.name for g in said.guests] == ["1gpu"]  # what was wanted is known, though nothing ran
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert record.decision.verdict.exit_status == 3
    # Only what can be known of a run that reached nothing may pass: its profile, and that nobody helped.
    passed = {r.check for r in record.results if r.outcome is Outcome.PASS}
    assert passed <= {"run.no_interventions", "workload.limits_matched"}


def test_a_broken_host_is_tried_once_and_not_by_each_that_needs_it(made, monkeypatch) -> None:
    reach(monkeypatch, TransportError("Connection refused", host="lab"))
    run = made(ALONE, a_demand("4gpu", gpus=4))
    assert run.reach() is None
    assert run.reach() is None
    record, _ = driven(run)
    assert [e.stage for e in record.evidence.errors] == ["host"]


def test_an_image_that_is_not_there_stops_before_anything_is_started_on_the_host(
    made, access, tmp_path
) -> None:
    run = made(host_changes={"guest_image": str(tmp_path / "gone.qcow2")})
    record, _ = driven(run)
    said = record.evidence
    assert [(e.stage, e.kind) for e in said.errors] == [("image", "ImageError")]
    assert "gone.qcow2" in said.errors[0].message
    assert said.facts is not None
    assert (access.libvirt.domains(), access.libvirt.networks) == ((), {})
    assert asked(access, "make-overlay") == []
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]
    assert record.decision.verdict is not Verdict.GO


def test_an_unknown_control_is_an_error_and_not_a_traceback(made) -> None:
    record, _ = driven(made(host_changes={"control": HostControlRef(kind="ipmi")}))
    assert [(e.stage, e.kind) for e in record.evidence.errors] == [("host", "ConfigError")]


@with_keys
def test_the_whole_way_is_recorded_and_everything_is_given_back(made, access) -> None:
    run = made(ALONE, *PAIR)
    record, interrupted = driven(run)
    said = record.evidence
    assert interrupted is said.interrupted is False
    assert {e.stage for e in said.errors} == {"observe"}  # this host does not say where guests landed
    assert [(g.name, g.group, g.reached) for g in said.guests] == [
        ("1gpu", "1gpu", True), ("2x1gpu-a", "2x1gpu", True), ("2x1gpu-b", "2x1gpu", True),
    ]  # fmt: skip
    for guest in said.guests:
        assert [(r.workload, r.status) for r in guest.results] == [("p2p", "not_applicable")]
        assert guest.release is not None
        assert guest.kernel_log == ()
    assert said.host_telemetry is not None
    assert said.facts is not None
    assert said.facts_after is not None
    assert said.facts_after != said.facts
    assert (access.libvirt.domains(), access.libvirt.networks) == ((), {})
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]
    assert (run.path / "run.json").is_file()
    assert (run.path / "report.html").is_file()


@with_keys
def test_each_stage_is_entered_once_however_often_it_is_asked_for(made, access) -> None:
    run = made()
    for _ in range(3):
        run.provision("1gpu")
    for _ in range(3):
        run.burn("1gpu")
    for _ in range(3):
        run.release("1gpu")
    for _ in range(3):
        run.settle()
    assert len(asked(access, "make-overlay")) == 1
    assert len(asked(access, "resets")) == 1
    (guest,) = known(run).guests
    assert len(guest.results) == 1


@with_keys
def test_a_group_is_given_back_before_the_next_one_comes(made, access) -> None:
    run = made(ALONE, *PAIR)
    run.provision("1gpu")
    assert len(access.libvirt.domains()) == 1
    run.provision("2x1gpu")
    assert sorted(domain.name[-8:] for domain in access.libvirt.domains()) == ["2x1gpu-a", "2x1gpu-b"]
    first = known(run).guests[0]
    assert first.release is not None
    assert run.connection("1gpu", "1gpu") is None
    assert run.connection("2x1gpu", "2x1gpu-a") is access.guests["2x1gpu-a"]
    run.settle()


@with_keys
def test_what_one_group_breaks_the_next_one_does_not_notice(made, access) -> None:
    access.guests["1gpu"] = FakeGuest(silent=100_000)
    record, _ = driven(made(ALONE, *PAIR))
    one, *pair = record.evidence.guests
    assert (one.started, one.reached) == (True, False)
    assert one.release is not None
    assert [guest.reached for guest in pair] == [True, True]


@with_keys
def test_a_session_that_asks_about_no_load_runs_none(made, access) -> None:
    run = made(a_demand("1gpu"))
    record, _ = driven(run)
    (guest,) = record.evidence.guests
    assert (guest.reached, guest.results, guest.telemetry) == (True, (), None)


@with_keys
def test_groups_that_a_killed_run_had_given_back_are_not_tried_again(made, access) -> None:
    run = made(ALONE, *PAIR, done=frozenset({"1gpu"}))
    record, _ = driven(run)
    one, *pair = record.evidence.guests
    assert (one.started, one.release) == (False, None)
    assert [guest.reached for guest in pair] == [True, True]


def test_a_session_that_asks_the_host_alone_starts_no_guest(made, access) -> None:
    run = made()
    assert run.reach() is not None
    record = run.close(interrupted=False)
    assert record.evidence.facts_after is not None
    assert asked(access, "resets") == []
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]
    assert record.decision.verdict is not Verdict.GO


def test_a_session_that_never_needs_the_host_does_not_touch_it(made, access) -> None:
    record = made().close(interrupted=False)
    assert access.host.calls == []
    assert record.decision.verdict is Verdict.INCONCLUSIVE


def test_ctrl_c_ends_in_a_record_that_says_so(made, refusing) -> None:
    record, interrupted = driven(made(host_changes=refusing, progress=Acting(interrupt)))
    assert interrupted is record.evidence.interrupted is True
    assert record.evidence.errors == ()
    assert record.decision.verdict is Verdict.INCONCLUSIVE


@with_keys
@pytest.mark.parametrize(
    "when",
    ["claim", "readiness", "reset", "guest image", "1gpu: plan", "1gpu: boot", "1gpu: burn", "1gpu: release"],
)
def test_ctrl_c_at_any_time_leaves_nothing_on_the_host(made, access, when) -> None:
    record, interrupted = driven(made(progress=Acting(interrupt, when)))
    assert interrupted is record.evidence.interrupted is True
    assert record.decision.verdict is not Verdict.GO
    assert (access.libvirt.domains(), access.libvirt.networks) == ((), {})
    assert [argv[4] for argv in asked(access, "claims")][-1:] == ([] if when == "claim" else ["release"])
    (guest,) = record.evidence.guests
    assert (guest.release is not None) is guest.started


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal with its usual effect, also where the tests were started with it ignored (``nohup``)."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_that_is_ignored_ends_no_run(made, refusing, number) -> None:
    signal.signal(number, signal.SIG_IGN)
    acting = Acting(lambda: os.kill(os.getpid(), number))
    record, interrupted = driven(made(host_changes=refusing, progress=acting))
    assert interrupted is record.evidence.interrupted is False


def test_a_polite_kill_ends_the_run_as_ctrl_c_does(made, refusing, number) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    acting = Acting(lambda: os.kill(os.getpid(), number))
    record, interrupted = driven(made(host_changes=refusing, progress=acting))
    assert interrupted is record.evidence.interrupted is True
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_defect_of_our_own_becomes_evidence_with_its_traceback(made, refusing) -> None:
    run = made(host_changes=refusing, progress=Acting(lambda: 1 // 0))
    record, interrupted = driven(run)
    assert interrupted is False
    (error,) = record.evidence.errors
    assert (error.stage, error.kind) == ("harness", "ZeroDivisionError")
    assert "bug in Shakedown" in error.remedy
    assert "ZeroDivisionError" in (run.path / error.transcript).read_text()
    assert record.decision.verdict is Verdict.INCONCLUSIVE


@with_keys
@pytest.mark.parametrize("when", ["1gpu: boot", "1gpu: burn", "reset", "readiness"])
def test_a_defect_of_our_own_at_any_time_leaves_nothing_on_the_host(made, access, when) -> None:
    record, interrupted = driven(made(progress=Acting(lambda: 1 // 0, when)))
    assert interrupted is False
    assert "ZeroDivisionError" in {e.kind for e in record.evidence.errors}
    assert record.decision.verdict is not Verdict.GO
    assert (access.libvirt.domains(), access.libvirt.networks) == ((), {})
    assert [argv[4] for argv in asked(access, "claims")][-1] == "release"


@with_keys
@pytest.mark.parametrize("when", ["1gpu: boot", "1gpu: burn", "reset"])
def test_a_full_disk_of_the_controller_leaves_nothing_on_the_host(made, access, when) -> None:
    """No verdict without a record, and neither a guest nor a claim that nobody would clear."""
    run: Run | None = None

    def full() -> None:
        assert run is not None
        run.context.recorder.log.close()

    run = made(progress=Acting(full, when))
    with pytest.raises(RecordError):
        driven(run)
    assert (access.libvirt.domains(), access.libvirt.networks) == ((), {})
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]


def test_evidence_is_read_back_from_disk_as_it_grows(made, access) -> None:
    run = made()
    assert run.evidence.facts is None
    assert [guest.name for guest in run.evidence.guests] == ["1gpu"]
    run.reach()
    assert run.evidence == dataclasses.replace(known(run), interrupted=False)
    assert run.evidence.facts is not None
    run.settle()
