"""Claims: two runs never own the same device, and a dead run's are cleared only once it is proven gone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.backends.clock import SystemClock
from harness.backends.local import LocalTransport
from harness.errors import ClaimError, ParseError, TransportError
from harness.model.pci import PciAddress
from harness.stages.host.claims import Claim, claim, claimed, controller_name, holders, release_claims
from harness.stages.host.leases import Lease, hold_lease
from tests.fakes import FakeClock, FakeHost, FakeTransport
from tests.fakes.scripts import answering

GPU0 = PciAddress.parse("0000:41:00.0")
GPU1 = PciAddress.parse("0000:42:00.0")
FAR = PciAddress.parse("10000:81:00.0")

HOLDER = """
import sys, time
from harness.backends.clock import SystemClock
from harness.backends.local import LocalTransport
from harness.model.pci import PciAddress
from harness.stages.host.claims import claimed
devices = tuple(PciAddress.parse(text) for text in sys.argv[3:])
settings = {"clock": SystemClock(), "progress": print, "roots": (sys.argv[2],)}
with claimed(LocalTransport(), sys.argv[1], devices, **settings):
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def roots(tmp_path: Path) -> tuple[str, ...]:
    return (str(tmp_path / "claims-root"),)


@contextmanager
def holder(run: str, roots: tuple[str, ...], *devices: PciAddress) -> Iterator[subprocess.Popen[bytes]]:
    """Another controller: a process of its own that holds ``devices`` until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, run, roots[0], *(str(d) for d in devices)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"claimed\n"
        try:
            yield child
        finally:
            child.stdin.close()
            child.wait(30)


def take(run: str, roots: tuple[str, ...], *devices: PciAddress, **options: object) -> None:
    settings: dict[str, object] = {"clock": SystemClock(), "progress": lambda _text: None, "roots": roots}
    claim(LocalTransport(), run, devices, **{**settings, **options})  # type: ignore[arg-type]


def test_a_second_run_is_refused_and_told_who_holds_the_device(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU0, GPU1) as first:
        with pytest.raises(ClaimError) as caught:
            take("run-b", roots, FAR, GPU1)
        assert "0000:42:00.0 is claimed by run run-a (live" in caught.value.message
        assert f"pid {first.pid} " in caught.value.message
        assert [str(c.device) for c in holders(LocalTransport(), roots=roots)] == [str(GPU0), str(GPU1)]


def test_devices_are_taken_together_or_not_at_all(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU1):
        with pytest.raises(ClaimError):
            take("run-b", roots, GPU0, GPU1, FAR)
        assert [(c.device, c.run) for c in holders(LocalTransport(), roots=roots)] == [(GPU1, "run-a")]


def test_two_runs_may_hold_different_devices(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU0), holder("run-b", roots, GPU1, FAR):
        found = {str(c.device): (c.run, c.state) for c in holders(LocalTransport(), roots=roots)}
    assert found == {
        str(GPU0): ("run-a", "live"),
        str(GPU1): ("run-b", "live"),
        str(FAR): ("run-b", "live"),
    }


def test_at_its_end_a_run_gives_everything_back(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU0):
        pass
    assert holders(LocalTransport(), roots=roots) == ()
    assert [p.name for p in Path(roots[0]).rglob("*") if p.is_file()] == ["mutex"]


def test_a_run_that_is_refused_keeps_nothing(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU0):
        with (
            pytest.raises(ClaimError),
            claimed(LocalTransport(), "run-b", (GPU0,), clock=SystemClock(), progress=print, roots=roots),
        ):
            pytest.fail("claimed a held device")
        assert {c.run for c in holders(LocalTransport(), roots=roots)} == {"run-a"}


def test_a_killed_controller_is_first_quiet_then_gone_and_is_cleared_under_its_own_lease(
    roots: tuple[str, ...],
) -> None:
    with holder("run-a", roots, GPU0) as first:
        os.kill(first.pid, 9)
        first.wait(30)
        _wait_until_not_live(roots)
        assert holders(LocalTransport(), roots=roots, grace=600)[0].state == "quiet"
        assert holders(LocalTransport(), roots=roots, grace=0)[0].state == "gone"
        evicted: list[str] = []

        def evict(run: str) -> None:
            # While its leftovers are removed, the first run cannot come back: its lease is ours.
            with pytest.raises(ClaimError, match="already controlled"):
                hold_lease(LocalTransport(), run, roots=roots)
            evicted.append(run)

        take("run-b", roots, GPU0, evict=evict, grace=0)
    assert evicted == ["run-a"]
    assert [c.run for c in holders(LocalTransport(), roots=roots)] == ["run-b"]


def test_without_a_way_to_evict_even_a_gone_run_is_left_alone(roots: tuple[str, ...]) -> None:
    _abandon("run-a", roots, GPU0)
    with pytest.raises(ClaimError, match=r"run run-a \(gone"):
        take("run-b", roots, GPU0, grace=0)
    assert [c.run for c in holders(LocalTransport(), roots=roots)] == ["run-a"]


def test_when_eviction_fails_the_claims_stay(roots: tuple[str, ...]) -> None:
    _abandon("run-a", roots, GPU0)

    def evict(_run: str) -> None:
        raise TransportError("libvirt is away")

    with pytest.raises(TransportError):
        take("run-b", roots, GPU0, evict=evict, grace=0)
    assert [c.run for c in holders(LocalTransport(), roots=roots)] == ["run-a"]


def test_the_same_run_resumed_takes_its_lease_and_claims_again(roots: tuple[str, ...]) -> None:
    _abandon("run-a", roots, GPU0)
    lease = hold_lease(LocalTransport(), "run-a", roots=roots)
    take("run-a", roots, GPU0, GPU1)
    states = [(c.device, c.run, c.state) for c in holders(LocalTransport(), roots=roots)]
    assert states == [(GPU0, "run-a", "live"), (GPU1, "run-a", "live")]
    release_claims(LocalTransport(), "run-a", roots=roots)
    lease.close()


def test_a_run_cannot_be_driven_twice(roots: tuple[str, ...]) -> None:
    with (
        holder("run-a", roots, GPU0),
        pytest.raises(ClaimError, match="run run-a is already controlled by another process"),
    ):
        hold_lease(LocalTransport(), "run-a", roots=roots)


def test_a_waiting_run_says_for_whom_and_goes_on_when_the_device_is_free(roots: tuple[str, ...]) -> None:
    said: list[str] = []
    clock = FakeClock()
    with holder("run-a", roots, GPU0) as first:

        def progress(text: str) -> None:
            said.append(text)
            assert first.stdin is not None
            first.stdin.close()
            first.wait(30)

        take("run-b", roots, GPU0, clock=clock, progress=progress, wait=60)
    assert len(said) == 1
    assert "waiting 0 s: 0000:41:00.0 is claimed by run run-a (live" in said[0]
    assert [c.run for c in holders(LocalTransport(), roots=roots)] == ["run-b"]


def test_waiting_ends_after_its_time(roots: tuple[str, ...]) -> None:
    clock = FakeClock()
    with holder("run-a", roots, GPU0), pytest.raises(ClaimError, match="run-a"):
        take("run-b", roots, GPU0, clock=clock, wait=12)
    assert 12 <= clock.monotonic() < 20


def test_releasing_one_device_keeps_the_others_and_never_those_of_another_run(roots: tuple[str, ...]) -> None:
    with holder("run-a", roots, GPU0, GPU1):
        release_claims(LocalTransport(), "run-b", (GPU0, GPU1), roots=roots)
        release_claims(LocalTransport(), "run-b", roots=roots)
        assert len(holders(LocalTransport(), roots=roots)) == 2
        release_claims(LocalTransport(), "run-a", (GPU0,), roots=roots)
        release_claims(LocalTransport(), "run-a", (GPU0,), roots=roots)
        assert [c.device for c in holders(LocalTransport(), roots=roots)] == [GPU1]


def test_a_lease_without_beats_ends_by_itself(roots: tuple[str, ...]) -> None:
    lease = hold_lease(LocalTransport(), "run-a", roots=roots, beat_seconds=60, lease_seconds=1)
    assert lease.alive
    SystemClock().sleep(2.5)
    assert not lease.alive
    with pytest.raises(ClaimError, match="lost its lease"):
        lease.require()
    lease.close()
    lease.close()


def test_a_lease_with_beats_outlives_its_limit(roots: tuple[str, ...]) -> None:
    lease = hold_lease(LocalTransport(), "run-a", roots=roots, beat_seconds=0.2, lease_seconds=1)
    SystemClock().sleep(2.5)
    lease.require()
    lease.close()


def test_a_lost_lease_is_regained_unless_another_process_has_it(roots: tuple[str, ...]) -> None:
    lease = hold_lease(LocalTransport(), "run-a", roots=roots, beat_seconds=60, lease_seconds=1)
    SystemClock().sleep(2.0)
    assert not lease.alive
    lease.regain()
    lease.require()
    lease.close()
    other = hold_lease(LocalTransport(), "run-a", roots=roots)
    with pytest.raises(ClaimError, match="already controlled"):
        lease.regain()
    lease.close()
    other.close()


def test_a_run_that_could_not_remove_its_guests_keeps_its_claims(roots: tuple[str, ...]) -> None:
    with claimed(
        LocalTransport(),
        "run-a",
        (GPU0,),
        clock=SystemClock(),
        progress=print,
        roots=roots,
        keep=lambda: True,
    ):
        pass
    _wait_until_not_live(roots)
    assert [(c.device, c.run) for c in holders(LocalTransport(), roots=roots)] == [(GPU0, "run-a")]


def test_the_first_directory_that_can_be_written_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    roots = (str(tmp_path / "file" / "no"), str(tmp_path / "yes"))
    take("run-a", roots, GPU0)
    assert (tmp_path / "yes" / "claims" / str(GPU0)).read_text().startswith("run-a\t")


def test_nowhere_to_claim_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    roots = (str(tmp_path / "file" / "no"),)
    with pytest.raises(ClaimError, match="no directory for claims"):
        take("run-a", roots, GPU0)
    with pytest.raises(TransportError, match="cannot write into any directory for leases"):
        hold_lease(LocalTransport(), "run-a", roots=roots)


@pytest.mark.parametrize("run", ["", "a b", "../x", "-n", "a\nb", "$(id)", "x" * 200])
def test_text_that_is_no_run_key_is_refused_before_anything_is_asked(
    run: str, roots: tuple[str, ...]
) -> None:
    with pytest.raises(ClaimError, match="not a run key"):
        take(run, roots, GPU0)
    assert not Path(roots[0]).exists()


def test_a_damaged_claim_file_blocks_and_is_shown(roots: tuple[str, ...]) -> None:
    take("run-a", roots, GPU0)
    Path(roots[0], "claims", str(GPU0)).write_bytes(b"")
    with pytest.raises(ClaimError, match="unreadable"):
        take("run-b", roots, GPU0, grace=0)


def test_half_an_answer_is_an_error_not_an_empty_host() -> None:
    host = FakeHost()
    whole = answering("claims", {"claims": "0000:41:00.0\trun-a\tme\tnow\tlive\t\n"})

    def half(argv: tuple[str, ...], stdin: bytes) -> tuple[int, bytes, bytes]:
        return 0, whole(argv, stdin)[1].partition(b"\tme")[0], b""

    host.on("claims", half)
    with pytest.raises(ParseError, match="breaks off"):
        holders(FakeTransport(host))


@pytest.mark.parametrize("row", ["nonsense\ta\tb\tc\tlive\t", "claim", "0000:41:00.0\ta\tb\tc\tlive\tx"])
def test_a_row_that_is_no_claim_is_an_error(row: str) -> None:
    host = FakeHost()
    host.on("claims", answering("claims", {"claims": row}))
    with pytest.raises(ClaimError):
        holders(FakeTransport(host))


def test_a_claim_reads_as_a_sentence_and_this_controller_has_a_name() -> None:
    one = Claim(
        device=GPU0, run="r", controller=controller_name(), started_at="now", state="quiet", silent_seconds=7
    )
    assert "silent for 7 s" in str(one)
    assert f"pid {os.getpid()} " in str(one)


def test_claims_ask_in_one_round_trip() -> None:
    host = FakeHost()
    host.on("claims", answering("claims", {"claims": "", "taken": ""}))
    claim(FakeTransport(host), "run-a", (GPU0, GPU1), clock=FakeClock(), progress=print)
    assert len(host.calls) == 1


def _abandon(run: str, roots: tuple[str, ...], *devices: PciAddress) -> None:
    """Leave claims behind as a controller that was killed does."""
    lease: Lease = hold_lease(LocalTransport(), run, roots=roots)
    take(run, roots, *devices)
    lease.close()
    _wait_until_not_live(roots)


def _wait_until_not_live(roots: tuple[str, ...]) -> None:
    for _ in range(100):
        if all(c.state != "live" for c in holders(LocalTransport(), roots=roots)):
            return
        SystemClock().sleep(0.05)
    pytest.fail("the lease of a dead controller stayed held")


def test_a_claim_is_not_written_over_by_what_a_killed_run_left_linked(roots: tuple[str, ...]) -> None:
    """Killed between the link and its removal: the other name leads to the claim, whatever its number is."""
    take("run-a", roots, GPU0)
    root = Path(roots[0])
    for number in range(100):
        (root / f".new.{os.getpid() + number}").hardlink_to(root / "claims" / str(GPU0))
    take("run-b", roots, GPU1)
    take("run-c", roots, FAR)
    assert [(c.device, c.run) for c in holders(LocalTransport(), roots=roots)] == [
        (GPU0, "run-a"),
        (GPU1, "run-b"),
        (FAR, "run-c"),
    ]
    assert list(root.glob(".new.*")) == []


def test_a_lease_that_was_lost_is_taken_again_only_where_nobody_cleared_the_run(
    roots: tuple[str, ...],
) -> None:
    lease = hold_lease(LocalTransport(), "run-a", roots=roots)
    take("run-a", roots, GPU0)
    lease._held.close()
    assert not lease.alive
    lease.regain()
    assert lease.alive
    lease._held.close()
    # As a run does that finds this one gone, uses its devices and goes.
    release_claims(LocalTransport(), "run-a", roots=roots)
    with pytest.raises(ClaimError, match="its claims were cleared"):
        lease.regain()
    lease.close()
