"""A host that ended under a run is told once, as the cause of whatever broke after it."""

from __future__ import annotations

import threading

import pytest

from harness.errors import (
    BootError,
    CommandTimeout,
    ConfigError,
    GuestDied,
    HarnessError,
    ImageError,
    ProvisionError,
    ReleaseError,
    TransportError,
    WorkloadError,
)
from harness.ports import HostEnd
from harness.stages.boundary import Stopped, contained, stage
from harness.stages.host.end import FILE, names_end
from tests.stages.stand_ins import a_recorder, evidence

END = HostEnd(message="the lab's QEMU ended (signal SEGV)", remedy="run again", log=b"last words")
REFUSED = TransportError("ssh: connection refused", host="lab", remedy="check that sshd runs")
_OF_MACHINES = (
    TransportError,
    GuestDied,
    CommandTimeout,
    ProvisionError,
    BootError,
    ReleaseError,
    WorkloadError,
)


@pytest.fixture
def recorder(tmp_path):
    opened = a_recorder(tmp_path)
    yield opened
    opened.close()


def _break(recorder, error: HarnessError, name: str = "burn", subject: str = "") -> None:
    with pytest.raises(Stopped), stage(recorder, name, subject=subject):
        raise error


def test_all_that_breaks_on_a_host_that_ended_is_its_end(recorder) -> None:
    said: list[str] = []
    names_end(recorder, "lab", lambda: END, said.append)
    for number, kind in enumerate(_OF_MACHINES):
        _break(
            recorder, kind("something else", remedy="check that sshd runs"), f"stage{number}", f"g{number}"
        )
    (error,) = evidence(recorder).errors
    assert (error.stage, error.kind, error.host, error.subject) == ("host", "HostEnded", "lab", "")
    assert (error.message, error.remedy, error.transcript) == (END.message, END.remedy, FILE)
    assert (recorder.path / FILE).read_bytes() == END.log
    assert said == [END.message]


def test_while_it_runs_each_error_is_what_it_is(recorder) -> None:
    ends: list[HostEnd | None] = [None, None, END]
    names_end(recorder, "lab", lambda: ends.pop(0), print)
    for _ in range(3):
        _break(recorder, REFUSED)
    assert [e.message for e in evidence(recorder).errors] == [REFUSED.message, REFUSED.message, END.message]


@pytest.mark.parametrize("error", [ImageError("no room"), ConfigError("line 3")])
def test_what_no_machine_breaks_is_not_put_down_to_it(recorder, error) -> None:
    names_end(recorder, "lab", lambda: END, print)
    _break(recorder, error)
    assert [e.message for e in evidence(recorder).errors] == [error.message]


def test_a_defect_of_ours_stays_one(recorder) -> None:
    names_end(recorder, "lab", lambda: END, print)
    with contained(recorder, "burn"):
        raise ZeroDivisionError("ours")
    (error,) = evidence(recorder).errors
    assert error.stage == "harness"


def test_guests_that_break_at_the_same_time_tell_it_once(recorder) -> None:
    names_end(recorder, "lab", lambda: END, lambda _message: None)

    def broken(number: int) -> None:
        with contained(recorder, "burn", subject=f"g{number}"):
            raise REFUSED

    threads = [threading.Thread(target=broken, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [e.message for e in evidence(recorder).errors] == [END.message]
    assert len(list(recorder.path.glob("transcripts/host-end*"))) == 1
