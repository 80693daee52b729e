"""What one tenant leaves in a card's memory and the next finds, by the real payloads on stand-ins of CUDA and
NVML, with a memory that outlives its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.errors import ParseError
from harness.images.standin import binding_file
from harness.model.evidence import ResidueTrial
from harness.vendors.nvidia.standin.model import StandinCard, StandinScenario
from harness.workloads.base import Job, Place
from harness.workloads.device import answers as device
from harness.workloads.device import remanence as residue
from harness.workloads.device.payload import canary as leave
from tests.native import fake, nvml
from tests.native.conftest import Ran, gpu, judged, wrong
from tests.packed import packed, unpack
from tests.processes import naming, wait_gone

WHERE, OTHER = str(nvml.ADDRESSES[0]), str(nvml.ADDRESSES[1])


@dataclass
class Cards:
    """A machine whose cards keep what is written into them until ``reset``."""

    cuda: Path
    driver: nvml.Machine
    store: Path
    place: Place
    gpus: tuple[str, ...] = (WHERE,)
    more: str = ""
    held: list[str] = field(default_factory=list)

    def job(self, tenant: str) -> Job:
        return Job(key="k1", guest="g1", tenant=tenant, devices=tuple(map(gpu, self.gpus)), place=self.place)

    def perform(self, job: Job, argv: tuple[str, ...]) -> Ran:
        environment = {
            **fake.environment(self.cuda, fake.machine(*self.gpus, more=f"store={self.store} {self.more}")),
            **self.driver.environment(),
            "LD_LIBRARY_PATH": f"{self.cuda}:{self.driver.folder}",
        }
        done = subprocess.run(argv, capture_output=True, env=environment, check=False, timeout=60)
        return Ran(done.returncode, done.stdout, done.stderr.decode(), job)

    def leave(self, tenant: str) -> tuple[frozenset[object], str]:
        job = self.job(tenant)
        argv = residue.leaving(job)
        self.held.append(argv[-1])
        ran = self.perform(job, argv)
        assert ran.status == 0, ran.errors
        return residue.left(job, ran.output)

    def holders(self) -> tuple[int, ...]:
        return tuple(pid for argument in self.held for pid in naming(argument))

    def look(self, tenant: str, *, planted: bool = True) -> tuple[ResidueTrial, ...]:
        job = self.job(tenant)
        ran = self.perform(job, device.WORKLOAD.prepare(job))
        result = judged(ran, "device")
        assert (result.status, wrong(result)) == ("done", []), ran.errors
        before = {one.host for one in job.devices} if planted else set()
        return device.residue_trials(job, ran.output, before, fresh=True)

    def reset(self) -> None:
        for file in self.store.iterdir():
            file.unlink()


@pytest.fixture
def cards(tmp_path: Path, stand_in: Path) -> Iterator[Cards]:
    driver = nvml.Machine(nvml.build(tmp_path), tmp_path)
    driver.scene(StandinScenario(name="test", card=StandinCard()), 2)
    store, packages = tmp_path / "store", tmp_path / "dist-packages"
    store.mkdir()
    packages.mkdir()
    shutil.copy(binding_file(), packages)
    place = Place(python=sys.executable, payload=str(packed()), binding=str(packages))
    found = Cards(stand_in, driver, store, place)
    yield found
    for pid in found.holders():
        os.kill(pid, signal.SIGKILL)


def test_what_a_tenant_left_is_found_by_the_next_unless_the_card_was_cleared(cards: Cards) -> None:
    (before,) = cards.look("run1/g1", planted=False)
    assert (before.planted, before.found) == (False, False)
    held, why = cards.leave("run1/g1")
    assert (len(held), why) == (1, "")
    (dirty,) = cards.look("run1/g2")
    assert (dirty.planted, dirty.found) == (True, True)
    assert "were written by an earlier tenant of this run" in dirty.detail
    (foreign,) = cards.look("run2/g1")
    assert foreign.found is False, "another run's word is not this one's"
    cards.reset()
    (clean,) = cards.look("run1/g2")
    assert (clean.planted, clean.found) == (True, False)
    assert "none of" in clean.detail


def test_the_memory_is_held_until_the_guest_ends(cards: Cards) -> None:
    cards.leave("run1/g1")
    (holder,) = cards.holders()
    os.kill(holder, signal.SIGHUP)  # what becomes of the line does not matter
    assert not wait_gone([holder], 0.3)
    assert os.getsid(holder) == holder


def test_a_look_leaves_nothing_of_its_own_for_the_next(cards: Cards) -> None:
    cards.look("run1/g1", planted=False)
    assert cards.look("run1/g1", planted=False)[0].found is False


@pytest.mark.parametrize("more", ["lost=3", "lost=4", "lost=5"])
def test_a_look_that_breaks_leaves_nothing_that_reads_like_a_tenants(cards: Cards, more: str) -> None:
    cards.more = more  # the card is gone before, while or after the look proves that it counts
    cards.look("run1/g1")
    cards.more = ""
    assert cards.look("run1/g1")[0].found is False


def test_a_card_whose_memory_others_hold_tells_nothing(cards: Cards) -> None:
    cards.more = f"free={4 << 20}"
    held, why = cards.leave("run1/g1")
    assert (held, "bytes of memory could be allocated" in why) == (frozenset(), True)
    cards.reset()
    assert cards.look("run1/g2")[0].found is None


def test_one_card_that_cannot_be_written_does_not_hide_the_other(cards: Cards) -> None:
    cards.gpus, cards.more = (WHERE, OTHER), "dead=1"
    held, why = cards.leave("run1/g1")
    assert [str(one) for one in held] == [WHERE]
    assert why.startswith(OTHER)
    assert len(cards.holders()) == 1


def test_what_was_told_is_heard_also_when_another_card_took_all_the_time() -> None:
    told = {"left": {"total": 8, "bytes": 8, "matching": 1}, "error": None}
    pipe, writing = os.pipe()
    os.write(writing, json.dumps(told).encode())
    os.close(writing)
    long_ago = time.monotonic() - 1.0
    assert leave._heard(-1, pipe, long_ago) == told
    os.close(pipe)


def test_a_card_that_loses_what_is_written_holds_nothing(cards: Cards) -> None:
    cards.more = "stuck=0:4096:7:1 stuck=0:4096:3:0 stuck=0:4100:0:1 stuck=0:4100:1:0"
    held, why = cards.leave("run1/g1")
    assert (held, "came back as written" in why) == (frozenset(), True)


@pytest.mark.parametrize("more", ["init=802", "fail=cuMemAlloc_v2:2", "lost=1", "hang=cuInit:1"])
def test_a_card_that_cannot_be_looked_at_is_not_called_clean(cards: Cards, more: str) -> None:
    payload = cards.store.parent / "payload"
    unpack(payload)
    script = payload / "harness/vendors/nvidia/payload/device.py"
    script.write_text(script.read_text().replace("_STALL_SECONDS = 120.0", "_STALL_SECONDS = 1.0"))
    cards.place, cards.more = replace(cards.place, payload=str(payload)), more
    (trial,) = cards.look("run1/g2")
    assert trial.found is None
    assert trial.detail


def test_what_cannot_be_is_not_read(cards: Cards) -> None:
    job = cards.job("run1/g1")
    entry = {"name": WHERE, "left": {"total": 8, "bytes": 8, "matching": 1}, "error": None}

    def told(*entries: object) -> bytes:
        whole = {"payload": "leave", "engine": "cuda", "observed": {"entries": list(entries)}, "versions": {}}
        return json.dumps(whole).encode() + b"\n"

    assert len(residue.left(job, told(entry))[0]) == 1
    for entries in ((), (entry, entry), ({**entry, "name": OTHER},), ({**entry, "left": None},), ("x",)):
        with pytest.raises(ParseError):
            residue.left(job, told(*entries))
    assert residue.left(job, told({**entry, "left": {**entry["left"], "matching": 0}}))[0] == frozenset()
    assert residue.leaving(replace(job, devices=())) == ()
