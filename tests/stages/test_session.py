"""The session: stages in order, and a verdict from the record whatever broke, interrupted or killed it."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.config import load_host, load_profile
from harness.errors import ProvisionError
from harness.model.evidence import Evidence
from harness.model.guest import GuestRequest
from harness.model.inventory import HostControlRef, HostFile, SshAccess
from harness.model.outcome import Outcome, Verdict
from harness.model.topology import Domain
from harness.placement.gpus import select_gpus
from harness.progress import Progress
from harness.record.judge import finish
from harness.stages import session as stages
from harness.stages.boundary import Stopped
from harness.stages.given import GuestDemand, Session
from harness.stages.session import run_session
from tests.fakes import FakeClock, FakeHost
from tests.placement import hosts
from tests.stages.stand_ins import RUN, FakeAccess, a_recorder, evidence, quiet

DEMAND = GuestDemand(request=GuestRequest(name="g1-1gpu", gpus=1), workloads=("hashing",))


@pytest.fixture
def image(tmp_path) -> Path:
    """A guest image of one's own: a qcow2 by its first bytes."""
    path = tmp_path / "own.qcow2"
    path.write_bytes(b"QFI\xfb" + b"\0" * 100)
    return path


def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def host(tmp_path, image) -> HostFile:
    """A host that refuses SSH."""
    access = SshAccess(
        address="127.0.0.1",
        port=closed_port(),
        identity_file=str(tmp_path / "key"),
        known_hosts=str(tmp_path / "known_hosts"),
        connect_timeout_seconds=2.0,
    )
    return HostFile(name="refusing", ssh=access, guest_image=str(image))


@pytest.fixture
def session(tmp_path, host):
    recorder = a_recorder(tmp_path / "runs", host=host)
    yield Session(
        run=RUN,
        recorder=recorder,
        host=host,
        profile=load_profile("smoke"),
        demands=(DEMAND,),
        clock=FakeClock(),
        progress=quiet(),
    )
    recorder.close()


def ran(session: Session) -> tuple[bool, Evidence]:
    interrupted = run_session(session)
    return interrupted, evidence(session.recorder)


def test_a_host_that_refuses_ssh_is_inconclusive_with_stage_and_remedy(session) -> None:
    interrupted, said = ran(session)
    assert interrupted is said.interrupted is False
    (error,) = said.errors
    assert (error.stage, error.kind, error.host) == ("host", "TransportError", "refusing")
    assert error.remedy
    assert [g.name for g in said.guests] == ["g1-1gpu"]  # what was wanted is known, though nothing ran
    record = finish(session.recorder)
    assert record.decision.verdict is Verdict.INCONCLUSIVE
    assert record.decision.verdict.exit_status == 3
    # Only what can be known of a run that reached nothing may pass: its profile, and that nobody helped.
    passed = {r.check for r in record.results if r.outcome is Outcome.PASS}
    assert passed <= {"run.no_interventions", "workload.limits_matched"}


def test_an_image_that_is_not_there_stops_before_the_host_is_touched(session, tmp_path) -> None:
    gone = dataclasses.replace(session.host, guest_image=str(tmp_path / "gone.qcow2"))
    _, said = ran(dataclasses.replace(session, host=gone))
    assert [(e.stage, e.kind) for e in said.errors] == [("image", "ImageError")]
    assert "gone.qcow2" in said.errors[0].message


def test_an_unknown_control_is_an_error_and_not_a_traceback(session) -> None:
    odd = dataclasses.replace(session.host, control=HostControlRef(kind="ipmi"))
    _, said = ran(dataclasses.replace(session, host=odd))
    assert [(e.stage, e.kind) for e in said.errors] == [("host", "ConfigError")]


class Acting(Progress):
    """Progress during which something happens."""

    def __init__(self, act) -> None:
        import io

        super().__init__(io.StringIO())
        self._act = act

    def stage(self, name: str) -> None:
        if name == "host":
            self._act()


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_ends_in_a_record_that_says_so(session) -> None:
    interrupted, said = ran(dataclasses.replace(session, progress=Acting(_interrupt)))
    assert interrupted is said.interrupted is True
    assert said.errors == ()
    assert finish(session.recorder).decision.verdict is Verdict.INCONCLUSIVE


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal with its usual effect, also where the tests were started with it ignored (``nohup``)."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_that_is_ignored_stays_ignored(session, number) -> None:
    """``nohup shakedown qualify`` goes on when its terminal closes."""
    signal.signal(number, signal.SIG_IGN)
    acting = Acting(lambda: os.kill(os.getpid(), number))
    interrupted, said = ran(dataclasses.replace(session, progress=acting))
    assert interrupted is said.interrupted is False


def test_a_polite_kill_ends_the_run_as_ctrl_c_does(session, number) -> None:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    acting = Acting(lambda: os.kill(os.getpid(), number))
    interrupted, said = ran(dataclasses.replace(session, progress=acting))
    assert interrupted is said.interrupted is True
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_defect_of_our_own_becomes_evidence_with_its_traceback(session) -> None:
    interrupted, said = ran(dataclasses.replace(session, progress=Acting(lambda: 1 // 0)))
    assert interrupted is False
    (error,) = said.errors
    assert (error.stage, error.kind) == ("harness", "ZeroDivisionError")
    assert "defect of Shakedown" in error.remedy
    text = (session.recorder.path / error.transcript).read_text()
    assert "ZeroDivisionError" in text
    assert finish(session.recorder).decision.verdict is Verdict.INCONCLUSIVE


def test_a_resumed_run_does_not_ask_for_its_guests_twice(session) -> None:
    session.recorder.guest_requested(DEMAND.request, DEMAND.workloads)
    _, said = ran(dataclasses.replace(session, resumed=True))
    assert [g.name for g in said.guests] == ["g1-1gpu"]


def test_foreign_domains_refuse_the_run_unless_the_host_file_allows_them(session) -> None:
    facts = hosts.lab_like(domains=(Domain(name="tenant", uuid=None, pid=7, running=True),))
    with pytest.raises(ProvisionError, match="1 domains are running that this run did not create: tenant"):
        stages._refuse_foreign_domains(session, facts)
    allowed = dataclasses.replace(session, host=dataclasses.replace(session.host, allow_sharing=True))
    stages._refuse_foreign_domains(allowed, facts)
    stages._refuse_foreign_domains(session, hosts.lab_like(domains=()))
    with pytest.raises(ProvisionError, match="there may be some"):
        stages._refuse_foreign_domains(session, hosts.lab_like(domains=None))


def test_companions_travel_with_their_gpu() -> None:
    facts = hosts.lab_like()
    gpus = [g.address for g in select_gpus(facts, load_host("example").placement.selector)]
    assert [len(stages.companion_addresses(facts, gpu)) for gpu in gpus] == [1, 0, 1, 0]


def test_an_answer_that_no_parser_takes_stops_the_run_there(session) -> None:
    host = FakeHost()
    host.on("sh", b"\xff\x1b[2J not a transcript")
    access = FakeAccess(host=host)
    with pytest.raises(Stopped):
        stages.discover(session, access)
    (error,) = evidence(session.recorder).errors
    assert (error.stage, error.kind) == ("facts", "ParseError")
    assert evidence(session.recorder).facts is None


def test_the_lab_differs_from_other_hosts_by_data_only() -> None:
    lab, example = load_host("lab"), load_host("example")
    assert type(lab) is type(example)
    assert lab.control.kind == "lab"
    assert example.control.kind == "none"
