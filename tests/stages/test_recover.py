"""What a killed attempt had watched is summed up by the one that takes the run up again."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.backends.stream import _appended
from harness.checks.registry import run_checks
from harness.config.files import load_kernel_codes
from harness.errors import RecordError
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome
from harness.record.attempts import History
from harness.record.directory import RunDirectory
from harness.record.events import read_events
from harness.record.judge import file_problems, recorded_files
from harness.record.kinds import Kind
from harness.record.recorder import Recorder
from harness.stages.recover import recover
from tests.faults import clean
from tests.record.replay import _place, begin
from tests.reports.records import TickingClock
from tests.telemetry import spools

GPU = clean.evidence().guests[0].gpus[0]
NONCE = "0123456789abcdef"
GUEST = clean.evidence().guests[0].name
HOST_FILE, GUEST_FILE = "telemetry/host.spool.txt", f"telemetry/{GUEST}.spool.jsonl"


def host_spool(last: float, *lines: str) -> bytes:
    """The follower's output from 100 s to ``last``, every 5 s, and the beginning of one more sample."""
    text = f"shakedown 1 host-follow {NONCE}\n{NONCE} self 900 899 100\n"
    for number, at in enumerate(range(100, int(last) + 1, 5)):
        body = [f"/proc/uptime:{at:.2f} 1.00", f"{GPU}/vendor:0x10de"]
        text += "\n".join((f"{NONCE} sample {number}", *body, f"{NONCE} end {number}", ""))
        if number == 0:
            text += "".join(f"{line}\n" for line in (f"{NONCE} kernel 1", *lines))
    return f"{text}{NONCE} sample 99\n/proc/upt".encode()


def xid(seq: int, at: float) -> str:
    said = f"NVRM: Xid (PCI:{GPU}): 94, pid=7, Contained: CE User Channel"
    return f"4,{seq},{int(at * 1e6)},-;{said}"


class Later(TickingClock):
    """The clock of the controller that comes after."""

    def now(self) -> str:
        return super().now().replace("T12:", "T13:")


def killed(
    root: Path,
    files: dict[str, tuple[str, bytes]],
    *,
    minutes: int = 0,
    released: bool = False,
    loads: tuple[tuple[float, float], ...] = (),
) -> Path:
    """A run whose controller was killed while it watched; ``files`` are what had come over, by guest, and
    ``loads`` when those of the first guest began and ended."""
    recorder = begin(root, clean.evidence(), profile=clean.profile(), host=clean.HOST)
    recorder.facts(clean.facts(), file="")
    for guest, (name, content) in files.items():
        path = recorder.file_path(name)
        recorder.watch_begins(path, guest)
        path.write_bytes(content)
    _place(recorder, clean.evidence().guests[0])
    for started, ended in loads:
        recorder.workload(replace(clean.evidence().guests[0].results[0], started=started, ended=ended))
    if released:
        recorder.released(clean.evidence().guests[0].release)
    for _ in range(minutes * 60 * 4):
        recorder._clock.monotonic()
    recorder.stage_ended("burn", 1.0)
    recorder.close()
    return recorder.path


def taken_up(path: Path, done: tuple[str, ...] = ()) -> Evidence:
    with contextlib.closing(Recorder.resume(path, Later())) as recorder:
        return _taken_up(recorder, done)


def _taken_up(recorder: Recorder, done: tuple[str, ...]) -> Evidence:
    events = read_events(recorder.directory.events).events[:-1]
    history = History.of(events)
    found = recover(
        recorder,
        events,
        seen=history.seen,
        done=done,
        host=clean.HOST,
        profile=clean.profile(),
        codes=load_kernel_codes(),
    )
    after = read_events(recorder.directory.events).events
    assert found == sum(event.kind == Kind.RECOVERED for event in after[len(events) :])
    return History.of(after).evidence


def seen(evidence: Evidence):
    first = evidence.attempts[0].evidence
    return first.host_telemetry, first.guests[0].telemetry


def outcome(evidence: Evidence, check: str) -> set[Outcome | None]:
    _, cells = run_checks(evidence, clean.profile(), clean.HOST)
    return {cell.outcome for cell in cells if cell.check == check}


def test_an_xid_that_only_the_killed_attempts_follower_had_seen_is_a_failure(tmp_path) -> None:
    evidence = taken_up(killed(tmp_path, {"": (HOST_FILE, host_spool(160, xid(1, 100.5)))}))
    host, _ = seen(evidence)
    assert host is not None
    assert (host.samples, host.problems, host.spool) == (13, (), HOST_FILE)
    assert [event.code for event in host.kernel.events] == [94]
    assert outcome(evidence, "host.gpu_errors") == {Outcome.FAIL}


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("kills", [1, 2])
def test_a_controller_that_is_killed_over_summing_up_forgets_nothing(tmp_path, kills, adopted) -> None:
    """It dies before it took the file into the record, and between that and the telemetry."""
    path = killed(tmp_path, {"": (HOST_FILE, host_spool(160, xid(1, 100.5)))})
    for number in range(kills):
        again = Recorder.resume(path, Later())
        if adopted and not number:
            again.adopt(path / HOST_FILE)
        again.close()
    evidence = taken_up(path)
    host, _ = seen(evidence)
    assert host is not None
    assert [event.code for event in host.kernel.events] == [94]
    assert outcome(evidence, "host.gpu_errors") == {Outcome.FAIL}


def test_a_watch_that_was_summed_up_is_not_summed_up_again(tmp_path) -> None:
    path = killed(tmp_path, {"": (HOST_FILE, host_spool(160, xid(1, 100.5)))})
    first = taken_up(path)
    again = taken_up(path)
    assert seen(again) == seen(first)
    kinds = [event.kind for event in read_events(path / "events.jsonl").events]
    assert kinds.count(Kind.RECOVERED) == 1


def test_a_quiet_watch_that_was_cut_with_its_attempt_accuses_nobody_and_is_whole(tmp_path) -> None:
    host, _ = seen(taken_up(killed(tmp_path, {"": (HOST_FILE, host_spool(160))})))
    assert host is not None
    assert (host.closed, host.detail) == (True, "the attempt was killed here")


@pytest.mark.parametrize("last", [110, 160, 300])
def test_a_watch_that_had_fallen_silent_long_before_the_kill_is_not_whole_for_guests_that_count(
    tmp_path, last
) -> None:
    """Where all its guests are tried again, under another watch, it misses nothing that counts."""
    for done, closed in ((("",), False), ((), True), (("4gpu",), True)):
        root = tmp_path / f"{closed}{len(done)}"
        path = killed(root, {"": (HOST_FILE, host_spool(last))}, minutes=10, released=True)
        host, _ = seen(taken_up(path, done))
        assert host is not None
        assert host.closed is closed


def test_a_hole_in_a_watch_counts_as_its_guests_do(tmp_path) -> None:
    spool = host_spool(110).replace(b"/proc/uptime:110", b"/proc/uptime:390")
    for done, holes in ((("",), 1), ((), 0)):
        path = killed(tmp_path / str(holes), {"": (HOST_FILE, spool)}, released=True)
        host, _ = seen(taken_up(path, done))
        assert host is not None
        assert len(host.gaps) == holes


def test_what_a_guests_sampler_had_seen_counts_though_the_guest_is_tried_again(tmp_path) -> None:
    said = f"6,7,110000000,-;NVRM: Xid (PCI:{GPU}): 48, pid=1, Double Bit ECC Error"
    lines = [*spools.whole()[:-1], spools.line("kmsg", mono=110.0, text=said), b'{"type":"fa']
    evidence = taken_up(killed(tmp_path, {GUEST: (GUEST_FILE, b"".join(lines))}))
    _, guest = seen(evidence)
    assert guest is not None
    assert (guest.closed, guest.problems, guest.spool) == (True, (), GUEST_FILE)
    assert Outcome.FAIL in outcome(evidence, "guest.gpu_errors")


@pytest.mark.parametrize(("ended", "kept"), [(104.0, 1), (110.5, 1), (600.0, 0), (100.0 + 3600.0, 0)])
def test_a_load_whose_end_did_not_come_over_any_more_is_no_gap(tmp_path, ended, kept) -> None:
    """Its result came on another connection than the samples, which hung until somebody killed the run."""
    kernel = spools.line("kmsg", mono=104.0, text="6,7,104000000,-;Linux version 6.1.0")
    content = b"".join((*spools.whole()[:-1], kernel))
    path = killed(tmp_path, {GUEST: (GUEST_FILE, content)}, loads=((100.0, ended),))
    evidence = taken_up(path)
    _, guest = seen(evidence)
    assert guest is not None
    assert len(guest.loads) == kept
    assert Outcome.ERROR not in outcome(evidence, "guest.gpu_errors")


@pytest.mark.parametrize("content", [b"", b"nothing of ours\n", b"\0" * 4096, b"{}\n" * 9])
def test_what_cannot_be_understood_is_recorded_as_such(tmp_path, content) -> None:
    evidence = taken_up(killed(tmp_path, {"": (HOST_FILE, content), GUEST: (GUEST_FILE, content)}))
    host, guest = seen(evidence)
    assert "killed here" in host.detail
    assert "killed here" in guest.detail
    assert (host.closed, guest.closed) == (False, False)


def lingering(path: Path, script: str) -> subprocess.Popen[bytes]:
    """What a killed controller's stream left behind: the file is its standard output."""
    output = _appended(path)
    left = subprocess.Popen(["sh", "-c", script], stdout=output.number(), stdin=subprocess.DEVNULL)
    output.close()
    return left


def test_what_still_writes_for_a_killed_attempt_is_waited_for(tmp_path) -> None:
    """Its last lines come in before the file gets its hash: nobody altered it."""
    path = killed(tmp_path, {"": (HOST_FILE, host_spool(160))})
    left = lingering(path / HOST_FILE, "sleep 1; echo late")
    taken_up(path)
    left.wait()
    files = recorded_files(read_events(path / "events.jsonl").events)
    assert file_problems(RunDirectory.open(path), files) == ()
    assert b"late" in (path / HOST_FILE).read_bytes()


def test_what_does_not_end_is_told_and_resumed_later(tmp_path, monkeypatch) -> None:
    path = killed(tmp_path, {"": (HOST_FILE, host_spool(160, xid(1, 100.5)))})
    monkeypatch.setattr("harness.stages.recover._WRITERS_SECONDS", 0.2)
    left = lingering(path / HOST_FILE, "exec sleep 600")
    try:
        with pytest.raises(RecordError, match="still being written"):
            taken_up(path)
    finally:
        left.kill()
        left.wait()
    host, _ = seen(taken_up(path))
    assert host is not None
    assert [event.code for event in host.kernel.events] == [94]


def test_files_that_nobody_was_writing_are_let_be(tmp_path) -> None:
    path = killed(tmp_path, {})
    (path / "telemetry").mkdir()
    (path / HOST_FILE).write_bytes(host_spool(160, xid(1, 100.5)))
    assert seen(taken_up(path)) == (None, None)


def test_the_watch_of_a_guest_that_nobody_requested_is_refused(tmp_path) -> None:
    path = killed(tmp_path, {"stranger": ("telemetry/stranger.jsonl", b"")})
    with pytest.raises(RecordError, match="'stranger', which was not requested"):
        taken_up(path)


@pytest.mark.parametrize("target", ["/etc/hostname", "../events.jsonl", "."])
def test_a_link_in_the_place_of_a_watch_is_not_followed(tmp_path, target) -> None:
    path = killed(tmp_path, {"": (HOST_FILE, b"")})
    (path / HOST_FILE).unlink()
    (path / HOST_FILE).symlink_to(target)
    with pytest.raises(RecordError, match=r"it is a link|not inside"):
        taken_up(path)
