"""The image cache never shows a half-built entry, whoever dies in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cleanups import told
from harness.errors import ImageError
from harness.images import cache
from harness.images.debian import own_namespaces
from tests.processes import wait_gone

_BUILDER = """
import signal, sys
from pathlib import Path
import typer
from harness.cli.status import ends
from harness.images import cache
from harness.images.processes import run_logged

def build(work):
    (work / "disk").write_text("half")
    # One that stays with its shell, and a daemon: of another session, its parent gone, its files closed.
    script = "sleep 300 & (setsid sleep 301 <&- >&- 2>&- &) ; touch $0/started; exec tail -f $0/disk"
    run_logged(("sh", "-c", script, str(work)), log=work / "log", what="building", progress=print)

@ends
def action():
    cache.ensure("kind", "abc", build, print, root=Path(sys.argv[1]))
    return 0

signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever whoever runs the tests has made of it
try:
    action()
except typer.Exit as left:
    sys.exit(left.exit_code)
"""


def _silent(message: str) -> None:
    assert message


def test_an_entry_is_built_once_and_found_afterwards(tmp_path: Path) -> None:
    built: list[Path] = []

    def build(work: Path) -> None:
        built.append(work)
        (work / "disk").write_text("whole")

    first = cache.ensure("kind", "abc", build, _silent, root=tmp_path)
    second = cache.ensure("kind", "abc", build, _silent, root=tmp_path)
    assert first == second == tmp_path / "kind/abc"
    assert (first / "disk").read_text() == "whole"
    assert len(built) == 1
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["abc"]


def test_a_failed_build_leaves_nothing_and_the_next_one_succeeds(tmp_path: Path) -> None:
    def broken(work: Path) -> None:
        (work / "disk").write_text("half")
        raise ImageError("no network")

    with pytest.raises(ImageError, match="no network"):
        cache.ensure("kind", "abc", broken, _silent, root=tmp_path)
    assert list((tmp_path / "kind").iterdir()) == []
    assert cache.find("kind", "abc", root=tmp_path) is None
    cache.ensure("kind", "abc", lambda work: (work / "disk").touch(), _silent, root=tmp_path)
    assert cache.find("kind", "abc", root=tmp_path) == tmp_path / "kind/abc"


@dataclass(frozen=True)
class Building:
    """A build in another process, in the middle, and what it started."""

    builder: subprocess.Popen[bytes]
    work: Path
    started: tuple[int, ...]


@contextmanager
def _building(root: Path) -> Iterator[Building]:
    builder = subprocess.Popen([sys.executable, "-c", _BUILDER, str(root)], start_new_session=True)
    try:
        until = time.monotonic() + 20
        while not (found := list(root.glob("kind/abc.*.building/started"))):
            assert time.monotonic() < until
            time.sleep(0.02)
        while len(started := _below(builder.pid)) < 4:  # the keeper, tail, and two that sleep
            assert time.monotonic() < until
            time.sleep(0.02)
        yield Building(builder, found[0].parent, started)
    finally:
        builder.kill()
        builder.wait()


def _below(pid: int) -> tuple[int, ...]:
    """Everything that descends from a process: what it left behind is its keeper's."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return tuple(found[1:])


@pytest.fixture
def strangers(tmp_path: Path) -> Iterator[Callable[[Path], None]]:
    """Starts, given a build's directory, what others may do there; all of it must live at the end."""
    others: list[subprocess.Popen[bytes]] = []

    def arrive(work: Path) -> None:
        commands = [
            ["tail", "-f", str(work / "log")],
            ["sh", "-c", "sleep 60; : # $0", f"{work}/rootfs/dev"],
            ["env", "-C", str(work), "sleep", "60"],
        ]
        if own_namespaces() and os.geteuid() == 0:  # a container that has the same path
            commands.append(["unshare", "--pid", "--fork", "--kill-child", "tail", "-f", str(work / "disk")])
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        others.extend(subprocess.Popen(each, start_new_session=True, **quiet) for each in commands)
        time.sleep(0.2)

    yield arrive
    ends = [each.poll() for each in others]
    for each in others:
        each.kill()
        each.wait()
    assert others
    assert ends == [None] * len(others)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_build_ends_with_130_and_leaves_nothing(
    tmp_path: Path, strangers: Callable[[Path], None], number: signal.Signals
) -> None:
    with _building(tmp_path) as building:
        strangers(building.work)
        os.kill(building.builder.pid, number)
        assert building.builder.wait(20) == 130
        assert wait_gone(building.started, 0.0), "all is over before the command is"
    assert list((tmp_path / "kind").iterdir()) == []


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_a_killed_builder_takes_all_that_it_started_along_and_nobody_else(
    tmp_path: Path, strangers: Callable[[Path], None], kill: Callable[[int, int], None]
) -> None:
    with _building(tmp_path) as building:
        strangers(building.work)
        kill(building.builder.pid, signal.SIGKILL)
        building.builder.wait(20)
        assert wait_gone(building.started, 10.0)


def test_what_a_killed_builder_left_is_removed_and_its_half_build_is_never_used(
    tmp_path: Path, strangers: Callable[[Path], None]
) -> None:
    with _building(tmp_path) as building:
        strangers(building.work)
        os.kill(building.builder.pid, signal.SIGKILL)

        def build(fresh: Path) -> None:
            assert list(fresh.iterdir()) == []
            assert fresh != building.work
            assert wait_gone(building.started, 0.0), "the keepers are waited for before anything is removed"
            (fresh / "disk").write_text("whole")

        entry = cache.ensure("kind", "abc", build, _silent, root=tmp_path)
    assert (entry / "disk").read_text() == "whole"
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["abc"]


def test_remains_that_cannot_be_removed_are_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remains = tmp_path / "kind/abc.0000.building"
    remains.mkdir(parents=True)
    said: list[str] = []

    def refused(path: Path) -> None:
        raise ImageError(f"{path}/dev/pts is still mounted")

    monkeypatch.setattr(cache, "remove_tree", refused)
    entry = cache.ensure("kind", "abc", lambda work: (work / "disk").touch(), said.append, root=tmp_path)
    assert (entry / "disk").exists()
    assert remains.exists()
    assert any("dev/pts is still mounted" in line for line in said)


@pytest.mark.parametrize(
    "cause",
    [ImageError("the mirror does not answer"), OSError(28, "No space left"), KeyboardInterrupt("SIGTERM")],
)
def test_a_cleanup_that_fails_never_hides_why_the_build_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: BaseException
) -> None:
    def refused(path: Path) -> None:
        raise ImageError(f"{path.name}/dev/pts is still mounted", remedy="umount it")

    def build(_work: Path) -> None:
        raise cause

    monkeypatch.setattr(cache, "remove_tree", refused)
    with pytest.raises(type(cause)) as caught:
        cache.ensure("kind", "abc", build, _silent, root=tmp_path)
    assert caught.value is cause
    lines = told(caught.value).splitlines()
    assert lines[0] == str(cause)
    assert "dev/pts is still mounted" in lines[1]


def test_an_abandoned_build_is_cleared_and_one_in_progress_is_not(tmp_path: Path) -> None:
    abandoned = tmp_path / "kind/abc.building"
    abandoned.mkdir(parents=True)
    (tmp_path / "kind/abc.lock").touch()

    def build(work: Path) -> None:
        cache.clear_abandoned(_silent, root=tmp_path)
        assert work.is_dir()
        (work / "disk").touch()

    entry = cache.ensure("kind", "def", build, _silent, root=tmp_path)
    assert (entry / "disk").exists()
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["def"]


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    built: list[int] = []
    said: list[str] = []

    def build(work: Path) -> None:
        built.append(1)
        time.sleep(0.5)
        (work / "disk").write_text("whole")

    def one() -> None:
        cache.ensure("kind", "abc", build, said.append, root=tmp_path)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert any("waiting for another process" in line for line in said)


def test_too_little_space_is_said_before_anything_is_built(tmp_path: Path) -> None:
    def never(work: Path) -> None:
        raise AssertionError(work)

    with pytest.raises(ImageError, match="needs 999999999999 MiB") as caught:
        cache.ensure("kind", "abc", never, _silent, need_mib=999_999_999_999, root=tmp_path)
    assert "SHAKEDOWN_CACHE" in caught.value.remedy


def test_a_discarded_entry_is_built_again(tmp_path: Path) -> None:
    cache.ensure("kind", "abc", lambda work: (work / "one").touch(), _silent, root=tmp_path)
    cache.discard("kind", "abc", _silent, root=tmp_path)
    cache.discard("kind", "abc", _silent, root=tmp_path)
    entry = cache.ensure("kind", "abc", lambda work: (work / "two").touch(), _silent, root=tmp_path)
    assert [path.name for path in entry.iterdir()] == ["two"]


def test_entries_that_nobody_used_for_long_are_removed(tmp_path: Path) -> None:
    old = cache.ensure("kind", "0ld", lambda work: (work / "disk").touch(), _silent, root=tmp_path)
    new = cache.ensure("kind", "abc", lambda work: (work / "disk").touch(), _silent, root=tmp_path)
    long_ago = time.time() - 15 * 86400
    os.utime(old, (long_ago, long_ago))
    os.utime(new, (long_ago, long_ago))
    cache.ensure("kind", "abc", lambda work: (work / "disk").touch(), _silent, root=tmp_path)
    cache.prune("kind", _silent, root=tmp_path)
    assert not old.exists()
    assert new.exists()


def test_the_cache_lies_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAKEDOWN_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "shakedown"
    monkeypatch.setenv("SHAKEDOWN_CACHE", str(tmp_path / "own"))
    assert cache.cache_root() == tmp_path / "own"


@given(
    st.lists(st.text(st.characters(codec="utf-8")), max_size=4),
    st.lists(st.text(st.characters(codec="utf-8")), max_size=4),
)
def test_different_recipes_have_different_hashes(one: list[str], other: list[str]) -> None:
    same = cache.recipe_hash(*one) == cache.recipe_hash(*other)
    assert same == (one == other)
    assert len(cache.recipe_hash(*one)) == 24
