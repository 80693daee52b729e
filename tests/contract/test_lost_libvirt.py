"""libvirt in a process whose descriptors are closed: it is connected to again, over its test driver and a
daemon of the test's own where there is one, and nothing of others is written to or closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alone import alone
from tests.placement.libvirtd import private_daemon

BEFORE = """
from harness.backends.libvirt_call import Connection
from harness.backends.libvirt_hypervisor import LibvirtHypervisor
folder, uri = Path(sys.argv[1]), sys.argv[2]
opened = []
connection = Connection(lambda: opened.append(1) or uri, name="gpu07")
hypervisor = LibvirtHypervisor(connection, name="gpu07")
XML = '''<domain type='test'><name>shk-lost</name><metadata>
<s:guest xmlns:s="urn:shakedown:run:1" run="run-1" name="g1"/></metadata><memory unit='MiB'>64</memory>
<vcpu>1</vcpu><os><type>hvm</type></os></domain>'''
"""


@pytest.fixture(params=["driver", "daemon"])
def uri(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "driver":
        yield "test:///default"
        return
    try:
        with private_daemon() as socket:
            yield f"test+unix:///default?socket={socket}"
    except RuntimeError as error:
        pytest.skip(str(error))


def test_it_connects_again_when_everything_was_closed(uri: str, tmp_path: Path) -> None:
    code = """
assert [d.name for d in hypervisor.domains()] == ["test"]
for count in (2, 3):
    close_all()
    begun = time.monotonic()
    assert [d.name for d in hypervisor.domains()] == ["test"]
    assert time.monotonic() - begun < 5
    assert len(opened) == count
hypervisor.domains()
assert len(opened) == 3
close_all()
hypervisor.close()
hypervisor.close()
"""
    alone(BEFORE + code, tmp_path, uri)


def test_files_of_others_under_its_numbers_are_left_alone(uri: str, tmp_path: Path) -> None:
    code = """
hypervisor.domains()
close_all()
theirs = take_numbers(folder / "theirs")
hypervisor.domains()
hypervisor.close()
again = LibvirtHypervisor(Connection(lambda: uri, name="gpu07"), name="gpu07")
again.domains()
close_all()
theirs = take_numbers(folder / "theirs")
again.close()
for number in theirs:
    os.write(number, b"x")
"""
    alone(BEFORE + code, tmp_path, uri)
    assert (tmp_path / "theirs").read_bytes() == b"x" * 40


@pytest.mark.parametrize("uri", ["daemon"], indirect=True)
def test_a_guest_is_ended_when_everything_was_closed(uri: str, tmp_path: Path) -> None:
    """By the daemon alone: the driver's own domains live as long as one of its connections."""
    code = """
hypervisor.define_and_start(XML, run="run-1")
close_all()
theirs = take_numbers(folder / "theirs")
assert hypervisor.shutdown("shk-lost", deadline=10)
close_all()
hypervisor.destroy("shk-lost")
assert [d.name for d in hypervisor.domains()] == ["test"]
hypervisor.close()
"""
    alone(BEFORE + code, tmp_path, uri)


def test_a_fork_may_not_use_it_and_its_end_closes_nothing(uri: str, tmp_path: Path) -> None:
    code = """
import gc
hypervisor.domains()

def child():
    global hypervisor, connection
    try:
        hypervisor.domains()
    except ProvisionError as error:
        assert "fork" in str(error), error
    else:
        raise AssertionError("a fork asked libvirt")
    hypervisor.close()
    del hypervisor, connection
    gc.collect()

assert in_a_fork(child) == 0
assert [d.name for d in hypervisor.domains()] == ["test"]
assert len(opened) == 1
hypervisor.close()
"""
    alone(BEFORE + code, tmp_path, uri)


def test_only_the_ssh_of_this_connection_is_ended(tmp_path: Path) -> None:
    """The number in the file may belong to any process by the time that it is used, one whose arguments name
    our directory too."""
    code = """
import subprocess, time
from harness.identity import WRITE_DOWN, read_birth
place = folder / "shk-1" / "libvirt-1"
place.mkdir(parents=True)
def started():
    (place / "born").unlink(missing_ok=True)
    child = subprocess.Popen(["sh", "-c", WRITE_DOWN, str(place / "born"), "sleep", "60"])
    while read_birth(place / "born") is None:
        time.sleep(0.01)
    return child
other = subprocess.Popen([str(folder / "shk-1" / "m"), "60"], executable="/bin/sleep")
started().kill()
words = (place / "born").read_text().split(" ")
words[0], words[21] = str(other.pid), str(int(words[21]) - 1000)
(place / "born").write_text(" ".join(words))
kept = Connection(lambda: uri, name="gpu07", birth=place / "born")
kept.call("ask", lambda conn: conn.getType(), deadline=10)
close_all()
kept.close()
assert other.poll() is None
own = started()
kept.call("ask", lambda conn: conn.getType(), deadline=10)
close_all()
kept.close()
assert own.wait(10) == -signal.SIGTERM
other.kill()
"""
    alone(BEFORE + code, tmp_path, "test:///default")
