"""The image cache never shows a half-built entry, whoever dies in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ImageError
from harness.images import cache

_BUILDER = """
import subprocess, sys, time
from pathlib import Path
from harness.images import cache

def build(work):
    (work / "disk").write_text("half")
    subprocess.Popen(["sh", "-c", "sleep 300 # $0", str(work / "disk")], start_new_session=True)
    print("building", flush=True)
    time.sleep(300)

cache.ensure("kind", "abc", build, print, root=Path(sys.argv[1]))
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


def test_a_killed_builder_is_cleared_with_its_processes_and_its_half_build_is_never_used(
    tmp_path: Path,
) -> None:
    builder = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == b"building\n"
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    builder.stdout.close()
    work = tmp_path / "kind/abc.building"
    assert (work / "disk").read_text() == "half"
    orphans = _naming(work)
    assert orphans

    def build(fresh: Path) -> None:
        assert list(fresh.iterdir()) == []
        assert _naming(fresh) == []
        (fresh / "disk").write_text("whole")

    entry = cache.ensure("kind", "abc", build, _silent, root=tmp_path)
    assert (entry / "disk").read_text() == "whole"
    assert sorted(path.name for path in (tmp_path / "kind").iterdir()) == ["abc"]


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


def _naming(path: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if os.fsencode(f"{path}/") in text and state != "Z":
            found.append(int(entry.name))
    return found


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
