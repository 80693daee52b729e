"""The host's follower: run for real on this machine, and read from captured, cut and hostile output."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.local import LocalTransport
from harness.backends.ssh import SshTransport
from harness.config.files import load_kernel_codes
from harness.errors import ParseError
from harness.model.inventory import TelemetrySpec
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, HostTelemetry, Ruling
from harness.telemetry.host.lines import host_command, read_lines
from harness.telemetry.host.summary import summarize_host
from tests.contract.private_sshd import private_sshd

CODES = load_kernel_codes()
NONCE = "0123456789abcdef"
GPU, PORT = PciAddress.parse("0000:41:00.0"), PciAddress.parse("0000:40:01.0")


def summed(text: str | bytes, dedicated: Iterable[int] = ()) -> HostTelemetry:
    raw = text.encode() if isinstance(text, str) else text
    return summarize_host(
        read_lines(raw),
        period_seconds=5.0,
        max_gap_seconds=11.0,
        devices=(GPU, PORT),
        dedicated={"shk-g1": dedicated},
        codes=CODES,
    )


def begin(shell: int = 900, parent: int = 899) -> str:
    return f"shakedown 1 host-follow {NONCE}\n{NONCE} self {shell} {parent} 100\n"


def sample(number: int, at: float, *lines: str, gpu: bool = True) -> str:
    device = [f"{GPU}/vendor:0x10de"] if gpu else []
    body = [f"/proc/uptime:{at:.2f} 1.00", *device, f"{PORT}/vendor:0x8086", *lines]
    return "\n".join((f"{NONCE} sample {number}", *body, f"{NONCE} end {number}", ""))


def look(number: int, *lines: str) -> str:
    return "\n".join((f"{NONCE} look {number}", *lines, f"{NONCE} end {number}", ""))


def bye(at: float) -> str:
    return f"{NONCE} bye {at:.2f} 1.00\n"


def until(path: Path, mark: bytes, count: int = 1) -> None:
    for _ in range(500):
        if path.read_bytes().count(mark) >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"{mark!r} never came: {path.read_bytes()[-500:]!r}")


def test_the_real_follower_runs_here_until_it_is_let_go(tmp_path: Path) -> None:
    functions = sorted(each.name for each in Path("/sys/bus/pci/devices").glob("*"))[:1]
    devices = [PciAddress.parse(name) for name in functions]
    path = tmp_path / "host.spool"
    argv = host_command(NONCE, period_seconds=0.3, look_seconds=0.6, devices=devices)
    stream = LocalTransport().stream(argv, path)
    busy = time.process_time() + 0.3
    while time.process_time() < busy:
        pass
    until(path, f"{NONCE} end 3".encode())
    before = time.monotonic()
    stream.close()
    assert time.monotonic() - before < 5
    assert stream.status == 0
    assert stream.errors() == ""
    spool = read_lines(path.read_bytes())
    assert spool.problems == ()
    with Path("/proc/uptime").open() as uptime:
        now = float(uptime.read().split()[0])
    assert now - 60 < spool.times[0] <= (spool.ended or 0) <= now
    assert len(spool.times) >= 4
    found = summarize_host(
        spool, period_seconds=0.3, max_gap_seconds=1.6, devices=devices, dedicated={}, codes=CODES
    )
    assert [(d.device, d.missing) for d in found.devices] == [(each, 0) for each in devices]
    assert set(found.steal_seconds) >= {"0"}
    assert (found.gaps, found.problems) == ((), ())
    assert os.getpid() in spool.looks[-1].ours
    active = [task for look in spool.looks[1:] for task in look.active]
    assert any(task.process == os.getpid() and task.session == os.getsid(0) for task in active)
    assert found.kernel is not None
    if os.access("/dev/kmsg", os.R_OK) and os.geteuid() == 0:
        assert found.kernel.lines > 0
        assert found.kernel.followed_from == spool.times[0]


def test_over_ssh_it_ends_when_it_is_let_go_and_knows_its_own_connection(tmp_path: Path) -> None:
    path = tmp_path / "host.spool"
    argv = host_command(NONCE, period_seconds=30, look_seconds=30, devices=())
    with private_sshd(tmp_path / "sshd") as access:
        transport = SshTransport(access, name="private")
        try:
            stream = transport.stream(argv, path)
            until(path, f"{NONCE} look 0".encode())
            until(path, f"{NONCE} end 0\n".encode(), count=2)
            before = time.monotonic()
            stream.close()
            # Not the 30 s that its sleep goes on for.
            assert time.monotonic() - before < 15
            assert stream.status == 0
        finally:
            transport.close()
    spool = read_lines(path.read_bytes())
    assert spool.ended is not None
    assert spool.problems == ()
    (look,) = spool.looks
    assert {spool.follower, spool.parent} < look.ours
    assert os.getpid() not in look.ours


def test_counters_and_links_of_functions_are_summed_over_samples() -> None:
    def lines(correctable: int, fatal: int, speed: str, width: int) -> tuple[str, ...]:
        return (
            f"{GPU}/current_link_speed:{speed}",
            f"{GPU}/current_link_width:{width}",
            f"{GPU}/aer_dev_correctable:RxErr 3",
            f"{GPU}/aer_dev_correctable:TOTAL_ERR_COR {correctable}",
            f"{GPU}/aer_dev_fatal:TOTAL_ERR_FATAL {fatal}",
        )

    text = begin() + sample(0, 10, *lines(7, 0, "32.0 GT/s PCIe", 16))
    text += sample(1, 15, *lines(9, 0, "2.5 GT/s PCIe", 8)) + sample(2, 20, gpu=False)
    text += sample(3, 25, *lines(2, 1, "Unknown", 63)) + bye(25.5)
    found = summed(text)
    gpu, port = found.devices
    assert (gpu.samples, gpu.missing, port.missing) == (3, 1, 0)
    assert (gpu.speed_gts_min, gpu.speed_gts_max, gpu.width_min, gpu.width_max) == (2.5, 32.0, 8, 16)
    assert gpu.aer == {"correctable": 4, "fatal": 1}
    assert port.aer == {}
    assert (found.started, found.ended, found.samples, found.problems) == (10.0, 25.5, 4, ())


def test_a_time_without_samples_is_a_gap() -> None:
    text = begin() + sample(0, 10) + sample(1, 15) + sample(2, 60) + bye(80)
    assert [(gap.start, gap.end) for gap in summed(text).gaps] == [(15.0, 60.0), (60.0, 80.0)]
    assert TelemetrySpec().host_gap_seconds == 11.0
    assert TelemetrySpec(host_period_seconds=2.0).host_gap_seconds == 5.0
    assert TelemetrySpec(host_max_gap_seconds=30.0).host_gap_seconds == 30.0
    spec = TelemetrySpec(host_max_gap_seconds=20.0)
    found = summarize_host(
        read_lines(text.encode()),
        period_seconds=spec.host_period_seconds,
        max_gap_seconds=spec.host_gap_seconds,
        devices=(),
        dedicated={},
        codes=CODES,
    )
    assert [(gap.start, gap.end) for gap in found.gaps] == [(15.0, 60.0)]


def test_sensors_are_named_by_chip_and_label_and_twins_by_number_too() -> None:
    def chip(number: int, name: str, degrees: str, label: str = "Composite") -> tuple[str, ...]:
        where = f"/sys/class/hwmon/hwmon{number}"
        return (f"{where}/name:{name}", f"{where}/temp1_label:{label}", f"{where}/temp1_input:{degrees}")

    first = (*chip(0, "coretemp", "51000", "Core 0"), *chip(1, "nvme", "40000"), *chip(2, "nvme", "41000"))
    second = (*chip(0, "coretemp", "53500", "Core 0"), *chip(1, "nvme", "-273000"), *chip(2, "nvme", "x"))
    bare = "/sys/class/hwmon/hwmon3/temp2_input:30000"
    found = summed(begin() + sample(0, 10, *first, bare) + sample(1, 15, *second) + bye(16)).temperatures
    assert set(found) == {"coretemp/Core 0", "nvme.hwmon1/Composite", "nvme.hwmon2/Composite", "hwmon3/temp2"}
    core = found["coretemp/Core 0"]
    assert (core.minimum, core.maximum, core.count, core.unit) == (51.0, 53.5, 2, "degC")
    assert (found["nvme.hwmon1/Composite"].count, found["nvme.hwmon1/Composite"].failed) == (1, 1)
    assert found["nvme.hwmon2/Composite"].failed == 1


def test_the_fewest_free_hugepages_are_kept_by_node_and_size() -> None:
    def free(node: int, pages: int) -> str:
        return f"/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/free_hugepages:{pages}"

    text = begin() + sample(0, 10, free(0, 9), free(1, 4)) + sample(1, 15, free(0, 2), free(1, 5)) + bye(16)
    assert summed(text).hugepages_free_min == {"0/2097152": 2, "1/2097152": 4}


def test_steal_is_told_by_cpu_from_first_to_last_look() -> None:
    text = begin() + look(0, "/proc/stat:cpu0 1 2 3 4 5 6 7 100 0 0", "/proc/stat:cpu1 1 2 3 4 5 6 7 0 0 0")
    assert summed(text).steal_seconds == {}
    text += look(1, "/proc/stat:cpu0 1 2 3 4 5 6 7 350 0 0", "/proc/stat:cpu1 1 2 3 4 5 6 7 0 0 0")
    assert summed(text).steal_seconds == {"0": 2.5, "1": 0.0}


def task(process: int, name: str, cpu: int, ticks: int, *, parent: int = 1, state: str = "S") -> str:
    return f"task {process} {process} {parent} {process} {cpu} {ticks} 77 {state} {name}"


def test_foreign_tasks_are_those_that_ran_on_dedicated_cpus_and_are_not_ours() -> None:
    first = [
        task(10, "cron", 3, 50),
        task(11, "still", 3, 50),
        task(12, "elsewhere", 0, 50),
        task(13, "CPU 0/KVM", 3, 50),
        task(14, "qemu of another", 2, 50),
        task(700, "sshd", 0, 1),
        task(899, "sh", 0, 1, parent=700),
        task(900, "sh", 3, 1, parent=899),
        task(901, "awk", 3, 1, parent=900),
        task(950, "virsh", 3, 1, parent=700),
    ]
    domains = ["/run/libvirt/qemu/shk-g1.pid:13", "/run/libvirt/qemu/tenant.pid:14"]
    moved = ("still", "elsewhere")
    second = [
        line
        if any(name in line for name in moved)
        else line.replace(" 50 77 S", " 90 77 S").replace(" 1 77 S", " 9 77 S")
        for line in first
    ]
    second += [task(16, "new one (a", 2, 3), task(17, "waits", 2, 0), task(18, "runs now", 2, 0, state="R")]
    text = begin() + look(0, *first, *domains) + look(1, *second, *domains)
    found = summed(text, (2, 3))
    assert found.foreign_tasks == {
        "2": ("new one (a (16)", "qemu of another (14)", "runs now (18)"),
        "3": ("cron (10)",),
    }
    assert summed(text, ()).foreign_tasks == {}


def test_a_cpu_is_dedicated_only_while_its_guest_runs() -> None:
    there, other = "/run/libvirt/qemu/shk-g1.pid:13", "/run/libvirt/qemu/shk-g1.pid:99"
    busy = [task(10, "cron", 3, ticks) for ticks in (1, 5, 9)]
    for first, second in (("", there), (there, ""), ("", ""), (other, there)):
        lines = [[each] if each else [] for each in (first, second)]
        text = begin() + look(0, busy[0], *lines[0]) + look(1, busy[1], *lines[1])
        assert summed(text, (3,)).foreign_tasks == {}, (first, second)
    text = begin() + look(0, busy[0]) + look(1, busy[1], there) + look(2, busy[2], there)
    assert summed(text, (3,)).foreign_tasks == {"3": ("cron (10)",)}
    quiet = begin() + look(0, busy[0], there) + look(1, busy[0], there)
    assert summed(quiet, (3,)).foreign_tasks == {"3": ()}


def test_the_kernel_log_is_read_between_the_samples_and_losses_are_counted() -> None:
    def record(seq: int, text: str) -> str:
        return f"3,{seq},{seq * 1000000},-;{text}\n SUBSYSTEM=pci\n DEVICE=+pci:{GPU}\n"

    one = sample(0, 10).replace("/proc/uptime", record(4, "first") + "/proc/uptime")
    text = begin() + one + record(5, f"pcieport {PORT}: pciehp: Slot(1): Link Down")
    text += f"{NONCE} kernel 1\n" + record(4, "first") + record(5, "again") + record(9, "after a loss")
    log = summed(text + sample(1, 15) + bye(16)).kernel
    assert log is not None
    assert (log.lines, log.dropped, log.followed_from, log.followed_to, log.detail) == (3, 3, 10.0, 16.0, "")
    (event,) = log.events
    assert (event.source, event.at, event.family, event.ruling) == ("host", 5.0, Family.BUS, Ruling.STOP)


def test_what_a_program_wrote_into_the_hosts_log_is_no_event_and_no_loss() -> None:
    records = "3,4,4000000,-;first\n12,5,5000000,-;mce: CPU3: Core temperature above threshold\n"
    text = begin() + sample(0, 10) + records + "4,6,6000000,-;mce: CPU4: Core temperature above threshold\n"
    log = summed(text + sample(1, 15) + bye(16)).kernel
    assert log is not None
    assert (log.lines, log.dropped, [event.at for event in log.events]) == (3, 0, [6.0])


def test_a_kernel_log_that_may_not_be_read_was_not_followed() -> None:
    log = summed(begin() + f"{NONCE} kernel 1\n" + sample(0, 10) + bye(11)).kernel
    assert log is not None
    assert (log.followed_from, log.lines) == (None, 0)
    assert "status 1" in log.detail


def test_a_follower_that_fell_silent_is_told() -> None:
    whole = begin() + sample(0, 10) + sample(1, 15)
    assert (summed(whole).problems, summed(whole).closed) == ((), False)
    assert summed(whole + bye(99)).closed
    torn = summed(whole[:-9])
    assert torn.samples == 1
    assert any("torn" in problem for problem in torn.problems)
    assert summed(begin()).detail == "the host's sampler took no sample"


@pytest.mark.parametrize(
    ("piece", "words"),
    [
        ("Welcome to this host\n", "an unexpected line"),
        (f"{NONCE} dance 1\n", "an unknown mark: 'dance'"),
        (f"{NONCE} sample 7\n", "a sample without an end"),
        (f"{NONCE} end 7\n", "an unknown mark: 'end'"),
        ("task a b c\n", "a task with impossible values"),
        (sample(5, 3), "a sample with an impossible time"),
        (f"{NONCE} sample 7\n{NONCE} end 7\n", "a sample with an impossible time"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_the_rest_stands(piece: str, words: str) -> None:
    found = summed(begin() + sample(0, 10) + piece + sample(1, 15) + bye(16))
    (problem,) = found.problems
    assert words in problem
    assert found.samples == 2


@pytest.mark.parametrize("raw", [b"", b"bash: sh: command not found\n", begin().encode()[:20]])
def test_what_is_no_output_of_the_follower_is_a_parse_error(raw: bytes) -> None:
    with pytest.raises(ParseError, match="its first line is missing"):
        read_lines(raw)


def test_a_nonce_is_checked_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="nonce"):
        host_command("$(id)", period_seconds=5, devices=())


PIECES = (
    *(
        f"{NONCE} sample 0\n",
        f"{NONCE} end 0\n",
        f"{NONCE} look 0\n",
        f"{NONCE} bye\n",
        f"{NONCE} self 1 2 0\n",
    ),
    *(
        "/proc/uptime:9.5 1\n",
        "/proc/stat:cpu0 1 2 3 4 5 6 7 8\n",
        "/proc/stat:cpu\n",
        "/run/libvirt/qemu/x.pid:\n",
    ),
    *(f"{GPU}/vendor:\n", f"{GPU}/aer_dev_fatal:TOTAL_ERR_FATAL ²\n", f"{GPU}/current_link_width:-1\n"),
    *(
        task(1, "", 0, 0) + "\n",
        "3,1,5,-;NVRM: Xid\n",
        "/sys/class/hwmon/hwmon0/temp1_input:\n",
        "\n",
        " x=\n",
    ),
    f"{NONCE} kernel x\n",
)


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=20)), max_size=20).map("".join))
def test_no_output_is_too_hostile(text: str) -> None:
    summed((begin() + text).encode("utf-8", "surrogatepass"), (0,))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_spool_or_a_parse_error(raw: bytes) -> None:
    summed(begin().encode() + raw)
    try:
        read_lines(raw)
    except ParseError:
        return


def test_numbers_too_long_to_be_read_are_none() -> None:
    long = "0016" + "9" * 5000
    text = f"shakedown 1 host-follow {NONCE}\n{NONCE} self {long} 1 100\n"
    link = (f"{GPU}/current_link_speed:16.0 GT/s PCIe", f"{GPU}/current_link_width:{long}")
    found = summed(text + sample(0, 10, *link) + bye(11))
    assert found.devices[0].width_max is None
    assert any("unknown mark: 'self'" in problem for problem in found.problems)


def test_acts_of_the_labs_guard_are_counted_from_the_first_sample_on() -> None:
    """Those before are in the snapshot that every lab starts from; what only speaks of it is no act."""
    lines = (
        "13,643,13538215,-;lapic_guard: cpu 5: restarted the timer, vector 236",
        "13,650,99999999,-;lapic_guard: cpu 0: freed stuck vector 236",
        "13,651,100000000,-;lapic_guard: cpu 7: freed stuck vector 253",
        "13,652,150000000,-;lapic_guard: cpu 1: was not reached, woken by NMI after seconds 4",
        "30,653,151000000,-;systemd[1]: Started lapic_guard: cpu 1: x",
        "13,654,152000000,-;lapic_guard: mmap of the local APIC",
    )
    text = begin() + "\n".join(lines) + "\n" + sample(0, 100.0) + sample(1, 105.0) + bye(110.0)
    assert summed(text).emulator_mended == 2
    assert summed(begin() + sample(0, 200.0) + bye(201.0)).emulator_mended == 0
    assert summed(begin()).emulator_mended == 0
