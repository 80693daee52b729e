"""Release: what was borrowed is back, what is not is named, and what is not ours is never touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.local import LocalTransport
from harness.errors import ParseError, ReleaseError, TransportError
from harness.model.evidence import ReleaseEvidence
from harness.model.pci import PciAddress
from harness.scripts.protocol import read_answer
from harness.stages.guest.release import Leaving, Leftovers, find_leftovers, release_guests, sweep
from harness.stages.host.state import HostState, read_host_state, run_directory, snapshot_host_state
from tests.fakes import FakeClock, FakeHost, FakeHypervisor, FakeTransport
from tests.fakes.scripts import answering, framed, host_state

GPU = PciAddress.parse("0000:41:00.0")
AUDIO = PciAddress.parse("0000:41:00.1")
RUN = "run-1"
WORK = "/var/lib/shakedown"
HEADER = "34 12 e8 11 00 00 10 00 10 00 ff 00 00 00 80 00"
LOST = " ".join(["ff"] * 16)


def mark(run: str) -> str:
    return f'<metadata><s:guest xmlns:s="urn:shakedown:run:1" run="{run}" name="g1"/></metadata>'


def domain(name: str = "shk-g1", run: str = RUN) -> str:
    return f"<domain><name>{name}</name>{mark(run)}</domain>"


@dataclass
class World:
    """A host whose ``release.sh`` answers from these values."""

    driver: str = ""
    audio_driver: str = "snd_hda_intel"
    config: str = HEADER
    present: int = 1
    free: int = 1408
    processes: dict[int, str] = field(default_factory=lambda: {1000: "qemu -name guest=other,x"})
    names: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, ...]] = field(default_factory=list)
    looks: int = 0
    on_look: Callable[[World], None] = lambda _world: None
    host: FakeHost = field(default_factory=FakeHost)

    def __post_init__(self) -> None:
        self.host.on("host-state", self._answer)
        self.host.on("remove-files", self._remove)

    def _answer(self, argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        self.looks += 1
        self.on_look(self)
        named = {
            kind: "\n".join(name for of, name in self.names if of == kind)
            for kind in ("qemu", "network", "files", "claims")
        }
        state = host_state(
            devices=f"{GPU}\t{self.present}\t{self.driver}\tbus\t {self.config}\n"
            f"{AUDIO}\t1\t{self.audio_driver}\t\t {HEADER}\n",
            hugepages=f"0\t2048\t{self.free}",
            processes="\n".join(f"{pid}\t{command}" for pid, command in self.processes.items()),
            **named,
        )
        return answering("host-state", state)(argv, stdin)

    def _remove(self, argv: tuple[str, ...], _stdin: bytes) -> tuple[int, bytes, bytes]:
        paths = argv[4:]
        self.removed.append(paths)
        self.names = [(k, n) for k, n in self.names if not (k == "files" and n.startswith(paths))]
        return 0, b"", b""

    def state(self) -> HostState:
        return snapshot_host_state(FakeTransport(self.host), (GPU, AUDIO), run=RUN, work_dir=WORK)


def release(
    world: World,
    hypervisor: FakeHypervisor,
    before: HostState,
    *,
    files: tuple[str, ...] = (),
    **options: object,
) -> ReleaseEvidence:
    """One guest, with both functions of the card."""
    leaving = Leaving(guest="g1", domain="shk-g1", devices=(GPU, AUDIO), files=files)
    (evidence,) = release_all(world, hypervisor, before, leaving, **options)
    return evidence


def release_all(
    world: World, hypervisor: FakeHypervisor, before: HostState, *leaving: Leaving, **options: object
) -> tuple[ReleaseEvidence, ...]:
    settings: dict[str, object] = {
        "run": RUN,
        "before": before,
        "work_dir": WORK,
        "clock": FakeClock(),
        "progress": lambda _text: None,
    }
    transport = FakeTransport(world.host)
    return release_guests(transport, hypervisor, leaving, **{**settings, **options})  # type: ignore[arg-type]


@pytest.fixture
def hypervisor() -> FakeHypervisor:
    made = FakeHypervisor()
    made.define_and_start(domain(), run=RUN)
    return made


def test_a_clean_release_leaves_the_host_as_it_was(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    overlay = f"{WORK}/runs/{RUN}/g1/disk.qcow2"
    world.names = [("files", overlay)]
    hypervisor.start_network(f"<network><name>shk-net</name>{mark(RUN)}</network>")
    evidence = release(world, hypervisor, before, files=(f"{WORK}/runs/{RUN}/g1",), networks=("shk-net",))
    assert hypervisor.domains() == ()
    assert hypervisor.networks == {}
    assert world.removed == [(f"{WORK}/runs/{RUN}/g1",), (f"{WORK}/runs/{RUN}",)]
    assert evidence.forced is False
    assert evidence.problems == ()
    assert evidence.hugepages_before == evidence.hugepages_after == {f"0/{2 << 20}": 1408}
    assert [(d.driver_before, d.driver_after, d.config_ok, d.present) for d in evidence.devices] == [
        (None, None, True, True),
        ("snd_hda_intel", "snd_hda_intel", True, True),
    ]
    leftovers = (
        evidence.leftover_claims,
        evidence.leftover_domains,
        evidence.leftover_files,
        evidence.leftover_networks,
        evidence.leftover_processes,
    )
    assert leftovers == ((), (), (), (), ())


def test_releasing_twice_is_fine(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    first = release(world, hypervisor, before)
    second = release(world, hypervisor, before)
    assert (first.devices, first.leftover_domains) == (second.devices, second.leftover_domains)
    assert second.problems == ()


def test_rebinding_and_memory_are_waited_for(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()

    def settle(at: World) -> None:
        done = at.looks >= 4
        at.audio_driver = "snd_hda_intel" if done else "vfio-pci"
        at.free = 1408 if done else 900

    world.on_look = settle
    clock = FakeClock()
    evidence = release(world, hypervisor, before, clock=clock)
    assert evidence.devices[1].driver_after == "snd_hda_intel"
    assert 1 <= clock.monotonic() <= 10


def test_what_does_not_come_back_is_reported_after_the_wait(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    world.audio_driver, world.free, world.config = "vfio-pci", 1000, LOST
    world.processes[4242] = "qemu-system-x86_64 -name guest=shk-g1,debug-threads=on"
    world.processes[4243] = "qemu-system-x86_64 -name guest=someone,debug-threads=on"
    world.names = [
        ("claims", str(GPU)),
        ("network", "shk-net"),
        ("files", "/x/left\nover"),
        ("qemu", "shk-g1"),
    ]
    clock = FakeClock()
    evidence = release(world, hypervisor, before, clock=clock, settle_seconds=20)
    assert clock.monotonic() >= 20
    assert evidence.devices[0].config_ok is False
    assert evidence.devices[1].driver_after == "vfio-pci"
    assert evidence.hugepages_after == {f"0/{2 << 20}": 1000}
    assert evidence.leftover_processes == ("4242: qemu-system-x86_64 -name guest=shk-g1,debug-threads=on",)
    assert evidence.leftover_claims == (str(GPU),)
    assert evidence.leftover_networks == ("shk-net",)
    assert evidence.leftover_domains == ("shk-g1",)
    assert len(evidence.leftover_files) == 2


def test_a_vanished_device_is_not_present_and_not_healthy(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    world.present = 0
    gone = release(world, hypervisor, before, settle_seconds=0).devices[0]
    assert (gone.present, gone.config_ok, gone.driver_after) == (False, None, None)


def test_a_guest_that_does_not_shut_down_is_destroyed_and_that_is_said(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    hypervisor.deaf.add("shk-g1")
    evidence = release(world, hypervisor, before)
    assert evidence.forced is True
    assert hypervisor.domains() == ()


def test_every_step_is_tried_though_the_one_before_failed(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    hypervisor.immortal.add("shk-g1")
    hypervisor.networks["foreign"] = "<network><name>foreign</name></network>"
    evidence = release(
        world, hypervisor, before, networks=("foreign",), files=(f"{WORK}/runs/{RUN}/disk",), settle_seconds=0
    )
    assert len(evidence.problems) == 2
    assert "Device or resource busy" in evidence.problems[0]
    assert evidence.leftover_domains == ("shk-g1",)
    assert "foreign" in hypervisor.networks
    assert world.removed == [(f"{WORK}/runs/{RUN}/disk",), (f"{WORK}/runs/{RUN}",)]


ONE = Leaving(guest="g1", domain="shk-g1", devices=(GPU,), files=(f"{WORK}/runs/{RUN}/g1",))
TWO = Leaving(guest="g2", domain="shk-g2", devices=(AUDIO,), files=(f"{WORK}/runs/{RUN}/g2",))


def test_guests_that_lived_together_are_told_apart_by_what_was_theirs(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    hypervisor.define_and_start(domain("shk-g2"), run=RUN)
    hypervisor.start_network(f"<network><name>shk-net</name>{mark(RUN)}</network>")
    hypervisor.immortal.add("shk-g2")
    world.audio_driver, world.free = "vfio-pci", 1000
    world.processes[4242] = "qemu-system-x86_64 -name guest=shk-g2,debug-threads=on"
    one, two = release_all(world, hypervisor, before, ONE, TWO, networks=("shk-net",), settle_seconds=0)
    assert [(e.guest, [d.device for d in e.devices]) for e in (one, two)] == [("g1", [GPU]), ("g2", [AUDIO])]
    assert (one.devices[0].driver_after, two.devices[0].driver_after) == (None, "vfio-pci")
    assert one.hugepages_after == two.hugepages_after == {f"0/{2 << 20}": 1000}
    assert (one.leftover_domains, two.leftover_domains) == ((), ("shk-g2",))
    assert (one.leftover_processes, len(two.leftover_processes)) == ((), 1)
    assert (one.problems, len(two.problems)) == ((), 1)
    assert "Device or resource busy" in two.problems[0]
    assert hypervisor.networks == {}
    assert set(world.removed) == {ONE.files, TWO.files, (f"{WORK}/runs/{RUN}",)}


def test_a_file_that_stays_is_told_of_its_guest_and_one_of_nobody_of_all(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    world.host.on("remove-files", b"", status=1, stderr=b"Read-only file system")
    stray = f"{WORK}/runs/{RUN}/stray"
    world.names = [("files", name) for name in (*ONE.files, *TWO.files, stray)]
    one, two = release_all(world, hypervisor, before, ONE, TWO, settle_seconds=0)
    assert one.leftover_files == (*ONE.files, stray)
    assert two.leftover_files == (*TWO.files, stray)


@pytest.mark.parametrize("run", ["run-2", None])
def test_a_domain_that_is_not_this_run_s_is_never_touched(run: str | None) -> None:
    world = World()
    before = world.state()
    foreign = FakeHypervisor()
    foreign.add_foreign("shk-g1", xml=domain(run=run) if run else None)
    with pytest.raises(ReleaseError, match="left alone"):
        release(world, foreign, before)
    assert [d.running for d in foreign.domains()] == [True]


@pytest.mark.parametrize("path", ["/etc/passwd", f"{WORK}/runs/{RUN}", f"{WORK}/runs/{RUN}/../../x", "disk"])
def test_only_files_of_the_run_are_removed(path: str, hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    with pytest.raises(ReleaseError, match="not removed"):
        release(world, hypervisor, before, files=(path,))
    assert world.removed == []
    assert len(hypervisor.domains()) == 1


def test_a_host_that_cannot_be_asked_gives_no_evidence(hypervisor: FakeHypervisor) -> None:
    world = World()
    before = world.state()
    world.host.down = "gone"
    with pytest.raises(TransportError):
        release(world, hypervisor, before)


def test_a_sweep_removes_what_carries_the_key_and_nothing_else(hypervisor: FakeHypervisor) -> None:
    world = World()
    hypervisor.add_foreign("theirs", xml=domain("theirs", "run-2"))
    hypervisor.add_foreign("plain")
    hypervisor.start_network(f"<network><name>shk-net</name>{mark(RUN)}</network>")
    world.names = [("network", "shk-net"), ("files", f"{WORK}/runs/{RUN}/a"), ("claims", str(GPU))]

    def forget(at: World) -> None:
        at.names = [(k, n) for k, n in at.names if k != "network" or n in hypervisor.networks]

    world.on_look = forget
    found = _sweep(world, hypervisor)
    assert (found.domains, found.networks, found.claims) == (("shk-g1",), ("shk-net",), (str(GPU),))
    assert [d.name for d in hypervisor.domains()] == ["plain", "theirs"]
    assert world.removed == [(f"{WORK}/runs/{RUN}",)]


def test_a_sweep_of_nothing_looks_once_and_removes_at_most_the_empty_directory() -> None:
    world = World()
    assert not _sweep(world, FakeHypervisor())
    assert world.looks == 1
    assert world.removed == [(f"{WORK}/runs/{RUN}",)]


def test_a_sweep_that_cannot_finish_names_what_is_left(hypervisor: FakeHypervisor) -> None:
    hypervisor.immortal.add("shk-g1")
    with pytest.raises(ReleaseError, match=r"shk-g1.*Device or resource busy"):
        _sweep(World(), hypervisor)


def _sweep(world: World, hypervisor: FakeHypervisor) -> Leftovers:
    transport = FakeTransport(world.host)
    return sweep(transport, hypervisor, RUN, work_dir=WORK, progress=lambda _text: None)


def test_leftovers_of_a_run_are_found_by_its_key(hypervisor: FakeHypervisor) -> None:
    world = World(names=[("files", "/f")])
    found = find_leftovers(FakeTransport(world.host), hypervisor, RUN, work_dir=WORK)
    assert (found.domains, found.files, bool(found)) == (("shk-g1",), ("/f",), True)


@pytest.mark.parametrize(
    ("work", "run"), [("relative", RUN), ("/a/../b", RUN), (WORK, "../.."), (WORK, "a/b")]
)
def test_a_run_directory_leads_nowhere_else(work: str, run: str) -> None:
    with pytest.raises(ReleaseError):
        run_directory(work, run)


@given(st.dictionaries(st.sampled_from(tuple(host_state())), st.text(st.sampled_from("0:4\t\n1.9"))))
def test_any_rows_are_a_state_or_a_parse_error(frames: dict[str, str]) -> None:
    answer = read_answer(framed("host-state", host_state(**frames)), "host-state")
    try:
        state = read_host_state(answer, (GPU,))
    except ParseError:
        return
    assert GPU in state.devices


def test_a_device_that_nothing_is_said_of_is_an_error() -> None:
    with pytest.raises(ParseError, match=r"no answer about 0000:41:00.0"):
        read_host_state(read_answer(framed("host-state", host_state()), "host-state"), (GPU,))


def test_the_real_script_answers_here_and_finds_the_run_s_files(tmp_path: Path) -> None:
    home = Path(run_directory(str(tmp_path), RUN)) / "g1"
    home.mkdir(parents=True)
    (home / "disk image.qcow2").write_text("x")
    claims = tmp_path / "root" / "claims"
    claims.mkdir(parents=True)
    (claims / str(GPU)).write_text(f"{RUN}\tme\tnow\n")
    (claims / str(AUDIO)).write_text(f"{RUN}-other\tme\tnow\n")
    absent = PciAddress.parse("ffff:ff:1f.7")
    state = snapshot_host_state(
        LocalTransport(), (absent,), run=RUN, work_dir=str(tmp_path), roots=(str(tmp_path / "root"),)
    )
    assert state.devices[absent].present is False
    assert state.files == (str(home), str(home / "disk image.qcow2"))
    assert state.claims == (str(GPU),)
    assert state.domains == ()


def test_the_real_script_reads_a_real_device() -> None:
    devices = sorted(Path("/sys/bus/pci/devices").glob("*"))
    if not devices:
        pytest.skip("no PCI devices on this machine")
    address = PciAddress.parse(devices[0].name)
    state = snapshot_host_state(LocalTransport(), (address,), run=RUN, work_dir=WORK).devices[address]
    link = devices[0] / "driver"
    assert state.present
    assert state.config_ok is True
    assert state.driver == (link.resolve().name if link.exists() else None)


def test_an_incomplete_answer_names_the_script_and_what_the_host_said() -> None:
    host = FakeHost()
    host.on("host-state", "device\t0000", status=1, stderr=b"sh: out of memory")
    with pytest.raises(TransportError, match=r"the script host-state ended with status 1: sh: out of memory"):
        snapshot_host_state(FakeTransport(host), (GPU,), run=RUN, work_dir=WORK)
