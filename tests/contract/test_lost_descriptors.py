"""Transports, held and streamed commands in a process where other code closes, reuses and forks: they work,
say so or count as gone; they never hang, and nothing of others is read, fed or closed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.alone import alone
from tests.contract.private_sshd import private_sshd

BEFORE = """
import json
from harness.backends.held import HeldCommand
from harness.backends.local import LocalTransport
from harness.backends.ssh import SshTransport
from harness.model.inventory import SshAccess
folder, access = Path(sys.argv[1]), sys.argv[2]
def made():
    return SshTransport(SshAccess(**json.loads(access))) if access else LocalTransport()
transport = made()
"""

Hostile = Callable[[str], str]


@pytest.fixture(params=["local", "ssh"])
def hostile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hostile]:
    """Runs code that has a transport."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if request.param == "local":
        yield lambda code: alone(BEFORE + code, folder, "")
        return
    with private_sshd(tmp_path / "sshd") as access:
        told = json.dumps(asdict(access))
        yield lambda code: alone(BEFORE + code, folder, told)


def test_the_next_command_works_when_everything_was_closed(hostile: Hostile) -> None:
    hostile("""
for _ in range(2):
    assert transport.run(("echo", "hello"), deadline=20).stdout == b"hello\\n"
    close_all()
    assert transport.run(("cat",), stdin=b"x" * 300000, deadline=20).stdout == b"x" * 300000
    close_all()
source = folder / "source"
source.write_bytes(b"y" * 100000)
transport.put(source, str(folder / "target"), deadline=20)
assert (folder / "target").read_bytes() == b"y" * 100000
transport.close()
transport.close()
""")


def test_what_is_closed_while_a_command_runs_is_an_error_at_once_or_nothing(hostile: Hostile) -> None:
    hostile("""
transport.run(("true",), deadline=20)
begun = time.monotonic()
closing = threading.Timer(0.5, close_all)
closing.start()
try:
    transport.run(("sh", "-c", "echo x; sleep 30"), deadline=25)
except TransportError as error:
    assert "was cut off" in str(error), error
else:
    raise AssertionError("it did not break off")
assert time.monotonic() - begun < 10
assert transport.run(("true",), deadline=20).status == 0
transport.close()
""")


def test_numbers_that_others_have_by_then_are_not_read_instead(hostile: Hostile) -> None:
    hostile("""
transport.run(("true",), deadline=20)
theirs = []
def closing():
    close_all()
    theirs.extend(take_numbers(folder / "theirs"))
threading.Timer(0.5, closing).start()
try:
    transport.run(("sh", "-c", "sleep 2; echo x; sleep 20"), stdin=b"data", deadline=25)
except TransportError:
    pass
for number in theirs:
    os.write(number, b"x")
assert (folder / "theirs").read_bytes() == b"x" * 40
transport.close()
""")


def test_a_held_command_is_gone_at_once_and_ends_when_its_input_was_closed(hostile: Hostile) -> None:
    hostile("""
mark = folder / "ended"
held = transport.hold(("sh", "-c", "echo ready; cat >/dev/null; touch " + str(mark)))
assert held.read_line(20) == "ready" and held.beat() and held.alive
close_all()
theirs = take_numbers(folder / "theirs")
assert not held.alive and not held.beat()
assert held.errors() == ""
try:
    held.read_line(20)
except TransportError as error:
    assert "lost" in str(error)
else:
    raise AssertionError("a line was read")
held.close()
held.close()
until(mark.exists)
for number in theirs:
    os.write(number, b"x")
assert (folder / "theirs").read_bytes() == b"x" * 40
transport.close()
""")


def test_a_line_that_is_waited_for_is_an_error_when_the_output_is_closed(hostile: Hostile) -> None:
    hostile("""
held = transport.hold(("cat",))
threading.Timer(0.3, close_all).start()
begun = time.monotonic()
try:
    held.read_line(20)
except TransportError:
    pass
assert time.monotonic() - begun < 10
held.close()
transport.close()
""")


def test_a_stream_ends_and_what_it_wrote_stays(hostile: Hostile) -> None:
    hostile("""
path = folder / "out"
folder.chmod(0o700)
os.umask(0o777)
stream = transport.stream(("sh", "-c", "echo first; cat >/dev/null; echo last"), path)
until(lambda: path.read_bytes() == b"first\\n")
assert path.stat().st_mode & 0o777 == 0o600
close_all()
theirs = take_numbers(folder / "theirs")
assert stream.errors() == ""
until(lambda: not stream.alive)
stream.end()
stream.close()
assert path.read_bytes() == b"first\\nlast\\n"
for number in theirs:
    os.write(number, b"x")
transport.close()
""")


def test_what_is_followed_comes_over_whole(hostile: Hostile) -> None:
    hostile("""
from harness.stages.following import Following
remote, path = folder / "remote", folder / "path"
remote.write_bytes(b"one\\n")
following = Following(transport, str(remote), path, look_seconds=0.1)
until(lambda: path.exists() and path.read_bytes() == b"one\\n")
for text in (b"two\\n", b"three\\n"):
    close_all()
    with remote.open("ab") as file:
        file.write(text)
    until(lambda: path.read_bytes() == remote.read_bytes(), 20)
close_all()
following.close()
following.close()
transport.close()
""")


def test_a_lost_lease_is_known_at_once_and_can_be_held_again(hostile: Hostile) -> None:
    hostile("""
from harness.stages.host.claims import claimed
from harness.stages.host.leases import hold_lease
from harness.backends.clock import SystemClock
roots = (str(folder / "claims"),)
lease = hold_lease(transport, "run-1", roots=roots, beat_seconds=0.1)
assert lease.alive
close_all()
theirs = take_numbers(folder / "theirs")
assert not lease.alive
try:
    lease.require()
except ClaimError:
    pass
else:
    raise AssertionError("the lease was not missed")
lease.regain()
lease.require()
time.sleep(0.5)
assert lease.alive
close_all()
lease.close()
lease.close()
with claimed(transport, "run-2", (), clock=SystemClock(), progress=print, roots=roots):
    close_all()
transport.close()
""")


def test_a_fork_may_not_act_on_machines_and_keeps_nothing_alive(hostile: Hostile) -> None:
    hostile("""
mark = folder / "ended"
held = transport.hold(("sh", "-c", "echo ready; cat >/dev/null; touch " + str(mark)))
assert held.read_line(20) == "ready"
source = folder / "source"
source.write_bytes(b"")

def child():
    for act in (
        lambda: transport.run(("true",), deadline=20),
        lambda: transport.put(source, str(folder / "target")),
        lambda: transport.hold(("cat",)),
        lambda: transport.stream(("cat",), folder / "stream"),
    ):
        try:
            act()
        except TransportError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError("a fork acted")
    assert not held.beat()
    held.close()
    transport.close()

assert in_a_fork(child) == 0
assert held.beat() and held.alive and not mark.exists()
left = os.fork()
if left == 0:
    time.sleep(60)
    os._exit(0)
begun = time.monotonic()
held.close()
assert mark.exists() and time.monotonic() - begun < 8
os.kill(left, signal.SIGKILL)
assert transport.run(("true",), deadline=20).status == 0
transport.close()
""")


def test_environment_umask_and_directory_are_those_of_the_beginning(hostile: Hostile) -> None:
    hostile("""
os.makedirs(folder / "gone")
os.chdir(folder / "gone")
os.rmdir(folder / "gone")
os.umask(0o777)
os.environ.clear()
os.environ["PATH"] = "/nonexistent"
os.environ["HOME"] = "/nonexistent"
done = transport.run(("sh", "-c", "umask; env; pwd"), deadline=20)
assert done.status == 0 and done.stderr == b"", done
words = done.stdout.decode().split()
assert words[0] != "0777" and "PATH=/nonexistent" not in words
held = transport.hold(("cat",))
assert held.beat()
held.close()
transport.close()
""")


def test_a_relative_path_to_a_key_holds_when_the_directory_changes(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "sshd") as access:
        told = {**asdict(access), "identity_file": "user_key", "known_hosts": "known_hosts"}
        code = """
os.chdir(sys.argv[1])
transport = made()
os.chdir("/")
assert transport.run(("true",), deadline=20).status == 0
transport.close()
"""
        alone(BEFORE + code, tmp_path / "sshd", json.dumps(told))


def test_ignored_children_still_have_a_status(hostile: Hostile) -> None:
    hostile("""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
assert transport.run(("sh", "-c", "exit 3"), deadline=20).status == 3
assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
heard = []
def elsewhere():
    try:
        heard.append(transport.run(("sh", "-c", "exit 3"), deadline=20).status)
    except TransportError as error:
        heard.append(str(error))
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join(30)
assert "status of a command was lost" in heard[0], heard
transport.close()
""")


def test_a_status_that_other_code_took_is_never_read_as_success(hostile: Hostile) -> None:
    hostile("""
transport.run(("true",), deadline=20)
over = threading.Event()
def greedy():
    while not over.is_set():
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.001)
thread = threading.Thread(target=greedy)
thread.start()
for _ in range(10):
    try:
        assert transport.run(("sh", "-c", "exit 3"), deadline=20).status == 3
    except TransportError as error:
        assert "status of a command was lost" in str(error), error
over.set()
thread.join(30)
assert transport.run(("sh", "-c", "exit 3"), deadline=20).status == 3
transport.close()
""")


def test_a_dead_reader_is_no_signal(hostile: Hostile) -> None:
    hostile("""
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
held = transport.hold(("sh", "-c", "echo ready; exec 0</dev/null; sleep 2"))
assert held.read_line(20) == "ready"
for _ in range(5):
    held.beat()
    time.sleep(0.1)
held.close()
done = transport.run(("sh", "-c", "exec 0</dev/null; echo x"), stdin=b"x" * 10**6, deadline=20)
assert done.stdout == b"x\\n"
transport.close()
""")
