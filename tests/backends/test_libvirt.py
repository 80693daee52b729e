"""libvirt: deadlines, words and their remedies."""

from __future__ import annotations

import _thread
import errno
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.backends.libvirt_call import Connection, SshUri
from harness.backends.libvirt_errors import remedy_for
from harness.backends.libvirt_hypervisor import LibvirtHypervisor
from harness.backends.ssh import SshTransport
from harness.errors import ProvisionError
from harness.placement.domain.definition import RUN_NAMESPACE
from tests.contract.private_sshd import private_sshd
from tests.fakes import FakeClock


@pytest.mark.parametrize(
    ("words", "needle"),
    [
        (
            "internal error: qemu unexpectedly closed the monitor: vfio 0000:41:00.0: group 13 is not viable",
            "vfio-pci",
        ),
        (
            "Requested operation is not valid: PCI device 0000:41:00.0 is in use by driver QEMU, domain g1",
            "stop that",
        ),
        (
            "vfio 0000:41:00.0: failed to setup container: VFIO_MAP_DMA failed: Cannot allocate memory",
            "locked-memory",
        ),
        ("vfio_container_dma_map(0x55, 0x0, 0xa0000, 0x7f) = -12 (Cannot allocate memory)", "locked-memory"),
        ("platform does not support interrupt remapping", "firmware"),
        ("unable to map backing store for guest RAM: Cannot allocate memory", "free_hugepages"),
        (
            "os_mem_prealloc: Insufficient free host memory pages available to allocate guest RAM",
            "free_hugepages",
        ),
        ("Cannot open /dev/vfio/13: could not open '/dev/vfio/13': Device or resource busy", "fuser"),
        (
            "unsupported configuration: host doesn't support passthrough of host PCI devices",
            "enable the IOMMU",
        ),
        (
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
            "start libvirt",
        ),
        ("internal error: Unknown PCI header type '127' for device '0000:41:00.0'", "no longer responds"),
        (
            "Device 0000:ee:00.0 not found: could not access /sys/bus/pci/devices/0000:ee:00.0/config: "
            "No such file or directory",
            "not on the host",
        ),
        ("something nobody has seen before", "journalctl"),
    ],
)
def test_known_words_have_a_remedy_a_person_can_act_on(words: str, needle: str) -> None:
    assert needle in remedy_for(words)


def test_a_call_that_hangs_is_given_up_and_the_next_one_works() -> None:
    connection = Connection(lambda: "test:///default", name="gpu07")
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(ProvisionError, match=r"did not answer within 0.2 s: think"):
        connection.call("think", lambda _conn: release.wait(30), deadline=0.2)
    assert time.monotonic() - began < 5
    release.set()
    assert connection.call("ask", lambda conn: conn.getType(), deadline=10) == "TEST"
    connection.close()
    connection.close()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests themselves were started with it ignored (a background job)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_call_that_is_interrupted_is_over_before_anything_else_is_done(ctrl_c) -> None:
    connection = Connection(lambda: "test:///default", name="gpu07")
    ended = threading.Event()

    def start_a_guest(_conn: object) -> None:
        time.sleep(0.5)
        ended.set()

    presser = threading.Timer(0.1, _thread.interrupt_main)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        connection.call("start", start_a_guest, deadline=10)
    presser.join()
    assert ended.is_set()
    connection.close()


def test_a_connection_that_broke_unnoticed_is_opened_again_once() -> None:
    import libvirt

    opened = []
    connection = Connection(lambda: opened.append(1) or "test:///default", name="gpu07")  # type: ignore[func-returns-value]
    used = []

    def ask(conn: Any) -> str:
        used.append(conn)
        if len(used) in broken:
            error = libvirt.libvirtError("Cannot write data: Broken pipe")
            error.err = (
                libvirt.VIR_ERR_SYSTEM_ERROR,
                libvirt.VIR_FROM_RPC,
                str(error),
                2,
                "",
                "",
                "",
                -1,
                -1,
            )
            raise error
        return str(conn.getType())

    broken: tuple[int, ...] = (2, 5, 6)
    assert [connection.call("ask", ask, deadline=10) for _ in range(2)] == ["TEST", "TEST"]
    assert (len(opened), len(used)) == (2, 3)
    connection.call("ask", ask, deadline=10)
    with pytest.raises(ProvisionError, match="Broken pipe"):
        connection.call("ask", ask, deadline=10)
    assert (len(opened), len(used)) == (3, 6)
    connection.close()


def test_libvirt_s_words_come_with_what_was_tried_and_where() -> None:
    connection = Connection(lambda: "test:///default", name="gpu07")
    with pytest.raises(ProvisionError, match=r"look: Domain not found") as caught:
        connection.call("look", lambda conn: conn.lookupByName("absent"), deadline=10)
    connection.close()
    assert caught.value.host == "gpu07"


def test_an_error_of_our_own_passes_through_unchanged() -> None:
    connection = Connection(lambda: "test:///default", name="gpu07")
    mine = ProvisionError("mine")

    def fail(_conn: object) -> None:
        raise mine

    with pytest.raises(ProvisionError) as caught:
        connection.call("fail", fail, deadline=10)
    connection.close()
    assert caught.value is mine


def test_a_daemon_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    absent = tmp_path / "socket"
    connection = Connection(lambda: f"qemu+unix:///system?socket={absent}", name="gpu07")
    with pytest.raises(ProvisionError, match="Failed to connect socket") as caught:
        connection.call("version", lambda conn: conn.getLibVersion(), deadline=10)
    assert "start libvirt" in caught.value.remedy


def test_libvirt_s_ssh_is_ours_with_the_pinned_key_and_leaves_nothing(tmp_path: Path) -> None:
    with private_sshd(tmp_path / "s") as access:
        transport = SshTransport(access)
        uri = SshUri(transport)
        text = uri()
        script = (uri.birth.parent / "ssh").read_text()
        assert text.startswith(f"qemu+ssh://{access.user}@127.0.0.1:{access.port}/system?command=")
        assert "StrictHostKeyChecking=yes" in script
        assert f'UserKnownHostsFile="{access.known_hosts}"' in script
        assert "no_verify" not in text
        assert "setsid ssh" in script, "Ctrl-C on a terminal must not end it before the guests"
        assert uri.birth.parent.stat().st_mode & 0o777 == 0o700
        uri.close()
        uri.close()
        transport.close()
        assert not uri.birth.parent.exists()


OURS = f"""<domain><name>g1</name><memory unit="MiB">2097152</memory>
<metadata><s:guest xmlns:s="{RUN_NAMESPACE}" run="r1" name="g1"/></metadata></domain>"""


class Dying:
    """A domain of ours whose killed process needs a while: so often libvirt says that it is busy."""

    def __init__(self, busy: int, number: int = errno.EBUSY) -> None:
        self.busy, self.number = busy, number
        self.undefined = False

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802  libvirt's names
        return OURS

    def isActive(self) -> bool:  # noqa: N802
        return self.busy >= 0

    def destroy(self) -> None:
        import libvirt

        self.busy -= 1
        if self.busy >= 0:
            error = libvirt.libvirtError("Failed to terminate process 9 with SIGKILL")
            words = (str(error), 2, "", "", "", self.number, -1)
            error.err = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_NONE, *words)
            raise error

    def undefineFlags(self, _flags: int) -> None:  # noqa: N802
        self.undefined = True


class OneDomain(Connection):
    """A connection on which there is one domain; remembers how long each call was given."""

    def __init__(self, domain: Dying) -> None:
        super().__init__(lambda: "test:///default", name="gpu07")
        self.domain = domain
        self.deadlines: dict[str, float] = {}

    def lookupByName(self, _name: str) -> Dying:  # noqa: N802
        return self.domain

    def call(self, what: str, function: Any, *, deadline: float) -> Any:
        self.deadlines[what] = deadline
        return super().call(what, lambda _conn: function(self), deadline=deadline)


def test_a_guest_whose_process_still_gives_its_memory_back_is_waited_for() -> None:
    dying, clock = Dying(busy=4), FakeClock()
    LibvirtHypervisor(OneDomain(dying), name="gpu07", clock=clock).destroy("g1")
    assert dying.undefined
    assert 0 < clock.monotonic() < 60


def test_a_process_that_never_ends_is_told_in_the_end_and_other_errors_at_once() -> None:
    clock = FakeClock()
    with pytest.raises(ProvisionError, match="Failed to terminate process"):
        LibvirtHypervisor(OneDomain(Dying(busy=10**6)), name="gpu07", clock=clock).destroy("g1")
    assert 600 < clock.monotonic() < 3600
    other = Dying(busy=1, number=errno.EPERM)
    with pytest.raises(ProvisionError, match="Failed to terminate process"):
        LibvirtHypervisor(OneDomain(other), name="gpu07", clock=FakeClock()).destroy("g1")
    assert other.busy == 0, "asked once"


def test_a_start_may_take_the_longer_the_more_memory_it_pins() -> None:
    connection = OneDomain(Dying(busy=1))
    LibvirtHypervisor(connection, name="gpu07", clock=FakeClock()).define_and_start(OURS, run="r1")
    assert connection.deadlines["start g1"] > 2048 / 100 * 60, "2 TiB, about 1 min for each 100 GiB"


class Ending(Dying):
    """A domain that is off ``seconds`` after its power button was pressed."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        super().__init__(busy=0)
        self.clock, self.seconds, self.off_at = clock, seconds, float("inf")
        self.pressed = 0

    def isActive(self) -> bool:  # noqa: N802  libvirt's name
        return self.clock.monotonic() < self.off_at

    def shutdown(self) -> None:
        self.pressed += 1
        self.off_at = min(self.off_at, self.clock.monotonic() + self.seconds)


def test_a_guest_that_powers_off_is_seen_soon_after_and_asked_once() -> None:
    clock = FakeClock()
    guest = Ending(clock, 1.1)
    assert LibvirtHypervisor(OneDomain(guest), name="gpu07", clock=clock).shutdown("g1", deadline=90.0)
    assert clock.monotonic() < 1.5
    assert guest.pressed == 1
