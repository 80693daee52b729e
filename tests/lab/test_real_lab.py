"""The lab, really booted. Minutes when the image cache is empty, seconds a test when it is warm."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import LabError
from harness.images.cache import cache_root
from harness.lab import access, process
from harness.lab.control import LabControl, all_status
from harness.lab.ending import kept_in
from harness.lab.qmp import Qmp
from harness.lab.state import lab_directory, running_state
from harness.model.inventory import LabDevice, LabFile, LabNode, SshAccess
from tests.processes import wait_gone

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]

_NODE = LabNode(cores=2, memory_mib=1024, hugepages_2m=64)
LAB = LabFile(
    name="tests",
    nodes=(_NODE, _NODE),
    devices=(
        LabDevice(node=0, companion=True),
        LabDevice(node=1),
        LabDevice(node=None),
        LabDevice(kind="virtio-rng", node=1, link_speed_gts=8.0, link_width=4),
        LabDevice(kind="nvme", node=0),
    ),
)
_EDU_ID = 0x010000ED
"""Register 0 of QEMU's edu device (docs/specs/edu.rst): 0xRRrr00ed."""

_UP = """
import sys
from pathlib import Path
from harness.lab.control import LabControl
from tests.lab.test_real_lab import LAB
LabControl(LAB, int(sys.argv[2]), state=Path(sys.argv[1])).ensure_up(lambda message: None)
"""


def _say(message: str) -> None:
    print(message)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("labs")
    yield root
    for instance in range(3):
        LabControl(LAB, instance, state=root).down(_say)


@pytest.fixture
def lab(state: Path) -> LabControl:
    return LabControl(LAB, state=state)


@pytest.fixture
def reach(lab: LabControl) -> SshAccess:
    return lab.ensure_up(_say)


def _ask(reach: SshAccess, script: str) -> str:
    done = access.run(reach, script, deadline=60.0)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_the_host_has_the_nodes_and_devices_of_its_description(reach: SshAccess) -> None:
    assert _ask(reach, "cat /sys/devices/system/node/node*/cpulist") == "0-1\n2-3"
    assert _ask(reach, "cat /sys/devices/system/node/node0/distance") == "10 21"
    pages = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
    assert _ask(reach, f"cat {pages}") == "64"
    listing = _ask(
        reach,
        "cd /sys/bus/pci/devices; for d in *; do "
        'echo "$d $(cat $d/vendor):$(cat $d/device) $(cat $d/numa_node)"; done',
    )
    stand_ins = [line for line in listing.splitlines() if "0x1234:0x11e8" in line]
    assert [line.split()[2] for line in stand_ins] == ["-1", "0", "1"]
    assert "0000:41:00.1 0x8086:0x293e 0" in listing
    assert sum("0x1b36:0x0010" in line for line in listing.splitlines()) == 1


def test_links_groups_and_reset_methods_are_there_to_be_read(reach: SshAccess) -> None:
    base = "/sys/bus/pci/devices"
    assert _ask(reach, f"cat {base}/0000:80:00.0/current_link_speed") == "16.0 GT/s PCIe"
    assert _ask(reach, f"cat {base}/0000:80:00.0/current_link_width") == "16"
    companions = _ask(reach, f"ls {base}/0000:41:00.0/iommu_group/devices").split()
    assert companions == ["0000:41:00.0", "0000:41:00.1"]
    assert "flr" in _ask(reach, f"cat {base}/0000:82:00.0/reset_method").split()
    assert _ask(reach, f"test -e {base}/0000:82:00.0/aer_dev_fatal && echo yes") == "yes"


def test_stand_ins_answer_at_the_address_the_kernel_believes_in(reach: SshAccess, state: Path) -> None:
    """Without the lost configuration written back they would read as all ones."""
    resources = _ask(
        reach,
        "cd /sys/bus/pci/devices; for d in *; do "
        '[ "$(cat $d/vendor)$(cat $d/device)" = 0x12340x11e8 ] && head -1 $d/resource; done; true',
    )
    addresses = [line.split()[0] for line in resources.splitlines()]
    assert len(addresses) == 3
    with Qmp(lab_directory(LAB.name, 0, root=state).monitor) as qmp:
        for address in addresses:
            said = qmp.human(f"xp /1wx {address}")
            assert int(said.split(":")[1], 16) & 0xFFFF_00FF == _EDU_ID & 0xFFFF_00FF


def test_libvirt_and_its_network_work(reach: SshAccess) -> None:
    assert "libvirt" in _ask(reach, "virsh -c qemu:///system version")
    _ask(reach, "virsh -q net-start default && virsh -q net-destroy default")
    assert "vfio" in _ask(reach, "virsh -c qemu:///system domcapabilities --machine q35")


def test_a_stand_in_passes_through_vfio_and_answers_inside(reach: SshAccess) -> None:
    """No guest system: the firmware of a nested machine maps the device, and its monitor reads it."""
    said = _ask(
        reach,
        """
        set -e
        cd /sys/bus/pci/devices/0000:81:00.0
        echo vfio-pci > driver_override
        echo 0000:81:00.0 > /sys/bus/pci/drivers_probe
        (sleep 12; echo 'xp /1wx 0xfe600000'; echo quit) | timeout 40 qemu-system-x86_64 -nodefaults \
            -accel kvm -m 64 -machine q35 -display none -monitor stdio \
            -device pcie-root-port,id=r,bus=pcie.0 -device vfio-pci,host=0000:81:00.0,bus=r
        echo 0000:81:00.0 > driver/unbind
        echo > driver_override
        """,
    )
    assert "0x010000ed" in said


def test_the_clock_is_right_after_the_snapshot(reach: SshAccess) -> None:
    assert abs(float(_ask(reach, "date +%s.%N")) - time.time()) < 10.0


def test_guest_images_are_mounted_at_first_use(reach: SshAccess) -> None:
    probe = cache_root() / "guest-images" / f"probe-{os.getpid()}"
    probe.write_text("seen")
    try:
        assert _ask(reach, f"cat /srv/images/{probe.name}") == "seen"
        assert access.run(reach, "touch /srv/images/x", deadline=30).returncode != 0
    finally:
        probe.unlink()


def test_the_engine_says_what_it_is(lab: LabControl, reach: SshAccess) -> None:
    engine = lab.engine()
    assert reach.port > 0
    assert engine.accelerator in {"kvm", "tcg"}
    assert "QEMU" in engine.description


def test_reset_forgets_what_was_done_and_keeps_port_and_keys(lab: LabControl, reach: SshAccess) -> None:
    _ask(reach, "touch /root/traces; sync")
    again = lab.reset(_say)
    assert again == reach
    assert _ask(again, "ls -A /root/traces 2>/dev/null || echo gone") == "gone"


def test_up_finds_the_running_lab(lab: LabControl, reach: SshAccess, state: Path) -> None:
    before = running_state(lab_directory(LAB.name, 0, root=state))
    assert lab.ensure_up(_say) == reach
    assert running_state(lab_directory(LAB.name, 0, root=state)) == before


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_lab_whose_machine_died_tells_how_and_comes_up_again(
    lab: LabControl, reach: SshAccess, state: Path, number: signal.Signals
) -> None:
    directory = lab_directory(LAB.name, 0, root=state)
    running = running_state(directory)
    assert running is not None
    assert lab.ended() is None
    os.kill(running.process.pid, number)
    assert wait_gone([running.process.pid], 30.0)
    end = lab.ended()
    assert end is not None
    assert end.message.startswith(f"the lab's QEMU ended (signal {number.name.removeprefix('SIG')}")
    assert lab.stays() == ""
    again = lab.ensure_up(_say)
    assert _ask(again, "echo yes") == "yes"
    assert end.message in kept_in(directory).read_text()
    assert lab.ended() is None


def test_another_description_never_takes_over_a_running_lab(reach: SshAccess, state: Path) -> None:
    import dataclasses

    other = dataclasses.replace(LAB, distance=31)
    with pytest.raises(LabError, match="a different description"):
        LabControl(other, state=state).ensure_up(_say)
    assert _ask(reach, "echo yes") == "yes"


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2, 2.0])
def test_up_killed_at_any_moment_is_recovered_by_the_next_up(
    reach: SshAccess, state: Path, seconds: float
) -> None:
    """A second instance, so that it also runs beside the first."""
    control = LabControl(LAB, 1, state=state)
    control.down(_say)
    victim = subprocess.Popen([sys.executable, "-c", _UP, str(state), "1"], cwd=Path(__file__).parents[2])
    time.sleep(seconds)
    victim.kill()
    victim.wait()
    second = control.ensure_up(_say)
    assert _ask(second, "echo yes") == "yes"
    assert process.running_machine(lab_directory(LAB.name, 1, root=state).monitor) is not None
    assert second.port != reach.port
    assert second.identity_file != reach.identity_file


def test_one_lab_does_not_accept_the_key_of_another(reach: SshAccess, state: Path) -> None:
    second = LabControl(LAB, 1, state=state).ensure_up(_say)
    import dataclasses

    foreign = dataclasses.replace(second, identity_file=reach.identity_file)
    refused = access.run(foreign, "true", deadline=60.0)
    assert refused.returncode == 255
    assert b"Permission denied" in refused.stderr
    assert _ask(second, "cat /etc/hostname") == "labhost"


def test_down_leaves_no_process_no_port_and_no_file(state: Path) -> None:
    control = LabControl(LAB, 2, state=state)
    reach = control.ensure_up(_say)
    directory = lab_directory(LAB.name, 2, root=state)
    control.down(_say)
    assert process.running_machine(directory.monitor) is None
    assert not directory.path.exists()
    assert not list(state.glob("*.lock"))
    with contextlib.closing(socket.socket()) as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", reach.port))
    assert [lab.instance for lab in all_status(root=state)] == [0, 1]
    control.down(_say)
