"""The event log in a process that does anything to it: nothing goes astray, nothing is written twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.backends.clock import SystemClock
from harness.errors import RecordError
from harness.record.events import EventLog, read_events
from tests.alone import alone

LOG = """
from harness.backends.clock import SystemClock
from harness.record.events import EventLog, read_events
from harness.record.recorder import Recorder
file = Path(sys.argv[1]) / "events.jsonl"
log = EventLog(file, SystemClock())
log.append("intervention", {"what": "before"})
"""

REFUSED = """
def refused(action, words):
    try:
        action()
    except RecordError as error:
        assert words in str(error), error
    else:
        raise AssertionError("nothing was refused")
"""


def whats(directory: Path) -> list[str]:
    """What the events say, of a log that has ended as it should."""
    known = read_events(directory / "events.jsonl")
    assert (known.problems, known.torn, known.ended) == ((), 0, True)
    return [event.data["what"] for event in known.events[:-1]]


def test_it_goes_on_when_its_descriptor_was_closed(tmp_path: Path) -> None:
    code = """
    for number in range(3):
        close_all()
        log.append("intervention", {"what": f"after {number}"})
    close_all()
    log.end()
    """
    alone(LOG + code.replace("\n    ", "\n"), tmp_path)
    assert whats(tmp_path) == ["before", "after 0", "after 1", "after 2"]


def test_files_of_others_under_its_number_are_neither_written_to_nor_closed(tmp_path: Path) -> None:
    code = """
close_all()
theirs = take_numbers(Path(sys.argv[1]) / "theirs")
log.append("intervention", {"what": "after"})
log.close()
for number in theirs:
    os.write(number, b"x")
close_all()
"""
    alone(LOG + code, tmp_path)
    assert (tmp_path / "theirs").read_bytes() == b"x" * 40
    assert len(read_events(tmp_path / "events.jsonl").events) == 2


def test_it_never_becomes_what_is_printed_to(tmp_path: Path) -> None:
    """With 0 to 2 closed, the next file that is opened would be standard output or errors."""
    code = """
os.closerange(0, 65536)
log.append("intervention", {"what": "after"})
for number in (0, 1, 2):
    try:
        os.write(number, b"printed")
    except OSError:
        pass
log.end()
os._exit(0)
"""
    alone(LOG + code, tmp_path)
    assert whats(tmp_path) == ["before", "after"]


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    code = """
kept = file.read_bytes()
other = file.with_name("other")
other.write_bytes(kept)
file.rename(file.with_name("moved"))
close_all()
refused(lambda: log.append("intervention", {"what": "absent"}), "could not be opened again")
other.rename(file)
refused(lambda: log.append("intervention", {"what": "replaced"}), "replaced")
file.unlink()
file.symlink_to("moved")
refused(lambda: log.append("intervention", {"what": "a link"}), "could not be opened again")
file.unlink()
file.with_name("moved").rename(file)
assert file.read_bytes() == kept
log.append("intervention", {"what": "back"})
log.end()
"""
    alone(LOG + REFUSED + code, tmp_path)
    assert whats(tmp_path) == ["before", "back"]


@pytest.mark.parametrize("lost", [True, False])
def test_a_file_that_was_shortened_is_written_to_no_more(tmp_path: Path, lost: bool) -> None:
    log = EventLog(tmp_path / "events.jsonl", SystemClock())
    log.append("intervention", {"what": "before"})
    file = tmp_path / "events.jsonl"
    content = file.read_bytes()[:-1]
    file.write_bytes(content)
    if lost:
        os.close(log._file._descriptor.number())
    with pytest.raises(RecordError, match="another process wrote"):
        log.append("intervention", {"what": "after"})
    log.close()
    assert file.read_bytes() == content


def test_a_fork_never_writes_and_its_parent_goes_on(tmp_path: Path) -> None:
    code = """
def child():
    refused(lambda: log.append("intervention", {"what": "child"}), "not by its fork")
    refused(log.end, "not by its fork")
    log.close()

assert in_a_fork(child) == 0
log._lock.acquire()  # as another thread would hold it, which does not exist in the child
assert in_a_fork(child) == 0
log._lock.release()
log.append("intervention", {"what": "parent"})
log.end()
"""
    alone(LOG + REFUSED + code, tmp_path)
    assert whats(tmp_path) == ["before", "parent"]


def test_a_fork_that_lives_on_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = """
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
close_all()
log.append("intervention", {"what": "taken up"})
log.close()
again, _ = EventLog.reopen(file, SystemClock())
again.end()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
    alone(LOG + code, tmp_path)
    assert whats(tmp_path) == ["before", "taken up"]


def test_a_forked_recorder_leaves_no_file(tmp_path: Path) -> None:
    code = """
from tests.reports import records
recorder = records.begin(Path(sys.argv[1]), records.WITH_WAIVERS)

def child():
    refused(lambda: recorder.save_file("transcripts/x.txt", b"x"), "not by its fork")
    refused(lambda: recorder.file_path("telemetry/x"), "not by its fork")
    refused(lambda: recorder.stage_ended("x", 1.0), "not by its fork")

recorder._lock.acquire()
before = sorted(recorder.path.rglob("*"))
assert in_a_fork(child) == 0
assert sorted(recorder.path.rglob("*")) == before
"""
    alone(REFUSED + code, tmp_path)


def test_a_living_run_has_one_writer(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file, SystemClock())
    log.append("intervention", {"what": "before"})
    with file.open("ab") as stream:
        stream.write(b'{"torn')
    content = file.read_bytes()
    for second in (EventLog.reopen, EventLog):
        with pytest.raises(RecordError, match="is being written by another process"):
            second(file, SystemClock())
    assert file.read_bytes() == content
    log.close()
    again, cut = EventLog.reopen(file, SystemClock())
    assert cut == 6
    again.end()
    assert whats(tmp_path) == ["before"]


def test_a_second_process_is_refused_and_may_go_on_when_the_first_was_killed(tmp_path: Path) -> None:
    code = (
        """
child = os.fork()
if child == 0:
    log.close()
    log = EventLog.reopen(file, SystemClock())[0]
    close_all()
    log.append("intervention", {"what": "child"})
    time.sleep(60)
"""
        + """
log.close()
until(lambda: b"child" in file.read_bytes())
refused(lambda: EventLog.reopen(file, SystemClock()), "being written by another process")
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
log, cut = EventLog.reopen(file, SystemClock())
log.end()
"""
    )
    code = code.replace("    log.close()\n", "    pass\n", 1)
    alone(LOG.replace('log.append("inter', "log.close()\n#") + REFUSED + code, tmp_path)
    assert whats(tmp_path) == ["child"]


def test_a_lock_that_somebody_else_took_meanwhile_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    log = EventLog(file, SystemClock())
    number = log._file._descriptor.number()
    os.close(number)
    with (tmp_path / "theirs").open("w") as theirs:  # the number must not come back to the same file
        assert theirs.fileno() == number
        second, _ = EventLog.reopen(file, SystemClock())
    with pytest.raises(RecordError, match="is being written by another process"):
        log.append("intervention", {"what": "first"})
    second.append("intervention", {"what": "second"})
    second.end()
    log.close()
    assert whats(tmp_path) == ["second"]


def test_threads_may_close_the_descriptor_at_any_moment(tmp_path: Path) -> None:
    """A left-behind thread closes everything again and again: an append is there, or it is an error."""
    code = """
over = threading.Event()

def closing():
    while not over.wait(0.0007):
        os.closerange(3, 20)

thread = threading.Thread(target=closing, daemon=True)
thread.start()
written = []
for number in range(300):
    try:
        log.append("intervention", {"what": str(number)})
        written.append(number)
    except RecordError:
        break
over.set()
thread.join()
known = read_events(file)
assert known.problems == ()
assert [event.data["what"] for event in known.events[1:]][: len(written)] == [str(n) for n in written]
print(len(written))
"""
    assert int(alone(LOG + code, tmp_path)) > 20


def test_working_directory_and_umask_may_change(tmp_path: Path) -> None:
    code = """
from tests.reports import records
from harness.record.directory import RunDirectory
sys.path.insert(0, sys.argv[1])
os.chdir(sys.argv[2])
recorder = records.begin(Path("runs"), records.WITH_WAIVERS)
assert recorder.path.is_absolute()
os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
os.umask(0o777)
close_all()
recorder.stage_ended("a stage", 1.0)
path = recorder.file_path("telemetry/deep/g1.jsonl")
path.write_bytes(b"")
assert path.parent.stat().st_mode & 0o700 == 0o700
recorder.save_file("transcripts/x.txt", b"x")
recorder.close()
"""
    alone(code, Path(__file__).parents[2], tmp_path)
    (run,) = (tmp_path / "runs").glob("*/*")
    assert [e.kind for e in read_events(run / "events.jsonl").events] == ["run.start", "stage.end", "file"]
