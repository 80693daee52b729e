"""The candidate host as this run's own: reached, known, claimed, asked, and let go in any case."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from harness.config.files import load_host, load_profile
from harness.errors import TransportError
from harness.placement.gpus import companions, select_gpus
from harness.stages.boundary import Stopped
from harness.stages.context import RunContext
from harness.stages.host.candidate import claimed_host
from harness.stages.host.discovery import discover
from harness.stages.machine import MACHINE
from tests.fakes import FakeClock, FakeHost
from tests.fakes.scripts import answering
from tests.placement import hosts
from tests.stages.candidates import FACTS, a_candidate, asked, reach, telling
from tests.stages.stand_ins import RUN, FakeAccess, a_demand, a_recorder, evidence, quiet

GPUS = ("0000:41:00.0", "0000:42:00.0", "0000:81:00.0", "0000:82:00.0")


@pytest.fixture
def access(monkeypatch) -> FakeAccess:
    made = a_candidate()
    reach(monkeypatch, made)
    return made


@pytest.fixture
def context(tmp_path) -> Iterator[RunContext]:
    recorder = a_recorder(tmp_path / "runs", guests=(a_demand("1gpu"),))
    yield RunContext(
        run=RUN,
        recorder=recorder,
        host=load_host("lab"),
        profile=load_profile("smoke"),
        demands=(a_demand("1gpu"),),
        clock=FakeClock(),
        progress=quiet(),
    )
    recorder.close()


def test_it_is_known_claimed_and_asked_when_it_is_handed_over(access, context) -> None:
    with claimed_host(context) as host:
        said = evidence(context.recorder)
        assert [str(gpu.address) for gpu in host.gpus] == list(GPUS)
        assert host.lease.alive
        assert said.facts == host.facts
        assert said.engine == access.engine
        assert said.system
        assert (context.recorder.path / said.facts_file).is_file()
        (claimed,) = asked(access, "claims")
        assert claimed[4:6] == ("take", RUN)
        assert set(GPUS) <= set(claimed)
        assert str(MACHINE) not in claimed
    assert not host.lease.alive
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]
    assert evidence(context.recorder).errors == ()


def test_companions_are_claimed_with_their_gpu(access, context) -> None:
    with claimed_host(context) as host:
        others = {str(c.address) for gpu in host.gpus for c in companions(host.facts, gpu)}
    assert others
    assert others <= set(asked(access, "claims")[0])


def test_a_bare_run_claims_the_machine_too(access, context) -> None:
    bare = dataclasses.replace(context.profile, attach="bare")
    with claimed_host(dataclasses.replace(context, profile=bare)):
        assert str(MACHINE) in asked(access, "claims")[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, Stopped])
def test_it_is_let_go_however_the_block_ends(access, context, error) -> None:
    with pytest.raises(error), claimed_host(context):
        raise error
    assert [argv[4] for argv in asked(access, "claims")] == ["take", "release"]


def test_its_claims_are_kept_while_a_guest_may_still_have_its_devices(access, context) -> None:
    with claimed_host(context) as host:
        host.unreleased.add("1gpu")
    assert [argv[4] for argv in asked(access, "claims")] == ["take"]
    assert not host.lease.alive


def test_a_host_that_another_run_holds_is_not_looked_at_any_further(access, context) -> None:
    row = f"{GPUS[0]}\tother-run\tsomebody pid 1\t2026-01-01T00:00:00Z\tlive\t\n"
    access.host.on("claims", answering("claims", {"claims": row}))
    with pytest.raises(Stopped), claimed_host(context):
        pytest.fail("handed over")
    said = evidence(context.recorder)
    assert [(e.stage, e.kind) for e in said.errors] == [("claim", "ClaimError")]
    assert "other-run" in said.errors[0].message
    assert said.system == ()


def test_a_host_that_cannot_be_reached_is_told_with_its_stage(context, monkeypatch) -> None:
    reach(monkeypatch, TransportError("Connection refused", host="lab", remedy="check that sshd runs"))
    with pytest.raises(Stopped), claimed_host(context):
        pytest.fail("handed over")
    (error,) = evidence(context.recorder).errors
    assert (error.stage, error.host, error.remedy) == ("host", "lab", "check that sshd runs")


def _counting(access: FakeAccess) -> Callable[[], int]:
    return lambda: len(asked(access, "facts"))


def test_what_was_seen_before_the_claims_holds_if_they_were_taken_at_once(access, context) -> None:
    looks = _counting(access)
    with claimed_host(context):
        assert looks() == 1


def test_a_host_that_was_waited_for_is_looked_at_again(access, context) -> None:
    """Judged is the host without the guests of the run that had it."""
    rows = [f"{GPUS[0]}\tother-run\tc\t2026-01-01T00:00:00Z\tquiet\t5\n"] * 2

    def claims(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        frames = {"claims": rows.pop()} if rows else {"claims": "", "taken": ""}
        return answering("claims", frames)(argv, stdin)

    access.host.on("claims", claims)
    looks = _counting(access)
    with claimed_host(dataclasses.replace(context, wait_seconds=60.0)):
        assert looks() == 2


def test_a_resumed_run_clears_what_its_first_life_left_before_anything_else(access, context) -> None:
    key = f'<s:guest xmlns:s="urn:shakedown:run:1" run="{RUN}" name="1gpu"/>'
    access.libvirt.add_foreign(
        f"shakedown-{RUN}-1gpu",
        xml=f"<domain><name>shakedown-{RUN}-1gpu</name><metadata>{key}</metadata></domain>",
    )
    access.libvirt.add_foreign("tenant")
    looks = _counting(access)
    with claimed_host(dataclasses.replace(context, resumed=True)):
        assert [domain.name for domain in access.libvirt.domains()] == ["tenant"]
        assert looks() == 2, "the host is judged without them"
        assert asked(access, "sweep-bare")


def test_without_resume_nothing_of_anybody_is_cleared(access, context) -> None:
    access.libvirt.add_foreign("tenant")
    with claimed_host(context):
        pass
    assert [domain.name for domain in access.libvirt.domains()] == ["tenant"]
    assert asked(access, "sweep-bare") == []


def test_companions_travel_with_their_gpu() -> None:
    facts = hosts.lab_like()
    gpus = select_gpus(facts, load_host("example").placement.selector)
    assert [len(companions(facts, gpu)) for gpu in gpus] == [1, 0, 1, 0]


def test_an_answer_that_no_parser_takes_stops_the_run_there(context) -> None:
    host = FakeHost()
    host.on("sh", b"\xff\x1b[2J not a transcript")
    with pytest.raises(Stopped):
        discover(context, FakeAccess(host=host))  # type: ignore[arg-type]
    (error,) = evidence(context.recorder).errors
    assert (error.stage, error.kind) == ("discover", "ParseError")
    assert evidence(context.recorder).facts is None


def test_facts_of_the_end_do_not_take_the_place_of_those_of_the_beginning(context) -> None:
    host = FakeHost()
    host.on("facts", telling(FACTS.read_bytes()))
    first = discover(context, FakeAccess(host=host))  # type: ignore[arg-type]
    host.on("facts", telling(FACTS.read_bytes().replace(b"QEMU", b"OTHER")))
    last = discover(context, FakeAccess(host=host), after=True)  # type: ignore[arg-type]
    said = evidence(context.recorder)
    assert (said.facts, said.facts_after) == (first, last)
    assert first != last


def test_the_lab_differs_from_other_hosts_by_data_only() -> None:
    lab, example = load_host("lab"), load_host("example")
    assert type(lab) is type(example)
    assert lab.control.kind == "lab"
    assert example.control.kind == "none"
