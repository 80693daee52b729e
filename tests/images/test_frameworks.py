"""TensorFlow's trees: locked to the last hash, installed once, and only what runs is kept."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.images import frameworks, guest
from harness.images.frameworks import LOCKS, ensure_tensorflow, lock_text, tree_digest
from harness.images.kinds import KINDS


def locked(kind: str) -> dict[str, tuple[str, list[str]]]:
    """Package to version and hashes, by a strict reading of the whole file."""
    found = {}
    for entry in re.split(r"\n(?=\S)", lock_text(kind).rstrip("\n")):
        first, *rest = [line.removesuffix("\\").strip() for line in entry.split("\n")]
        name, _, version = first.partition("==")
        assert re.fullmatch(r"[a-z0-9-]+", name), first
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), first
        hashes = [re.fullmatch(r"--hash=sha256:([0-9a-f]{64})", line) for line in rest]
        assert all(hashes), entry
        found[name] = (version, [match[1] for match in hashes if match])
    return found


@pytest.mark.parametrize("kind", LOCKS)
def test_every_package_of_a_lock_has_its_hashes(kind: str) -> None:
    packages = locked(kind)
    assert len(packages) > 20
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []


def test_both_kinds_are_the_same_tensorflow_and_one_has_cuda() -> None:
    cpu, cuda = locked("cpu"), locked("cuda")
    assert cpu["tensorflow-cpu"][0] == cuda["tensorflow"][0]
    nvidia = {name for name in cuda if name.startswith("nvidia-")}
    assert {"nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cusolver-cu12"} <= nvidia
    assert set(cuda) - nvidia - {"tensorflow"} == set(cpu) - {"tensorflow-cpu"}
    assert all(cpu[name] == cuda[name] for name in set(cpu) & set(cuda))


def test_each_kind_of_image_holds_a_tensorflow_that_fits_it() -> None:
    assert {name: kind.framework for name, kind in KINDS.items()} == {"cpu": "cpu", "nvidia": "cuda"}


def test_only_the_lab_changes_what_it_installs() -> None:
    """On hardware TensorFlow is what customers have."""
    assert [name for name, kind in KINDS.items() if kind.change_framework or kind.steps] == []


def test_hashes_follow_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = {kind: tree_digest(kind) for kind in LOCKS}
    images = {name: guest.image_digest(kind) for name, kind in KINDS.items()}
    assert len(set(trees.values())) == 2
    monkeypatch.setitem(LOCKS, "cpu", LOCKS["cuda"])
    assert tree_digest("cpu") == tree_digest("cuda") == trees["cuda"]
    assert guest.image_digest(KINDS["cpu"]) != images["cpu"]
    assert guest.image_digest(KINDS["nvidia"]) == images["nvidia"]


UV = """#!/bin/sh
echo "$@" >>"{log}"
while [ "$1" != --target ]; do shift; done
{then}
"""


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A uv on the PATH that lays out what was prepared in ``wheels``; its calls are lines of ``calls``."""
    tools = tmp_path / "tools"
    tools.mkdir()
    script = tools / "uv"
    script.write_text(UV.format(log=tmp_path / "calls", then=f'cp -r "{tmp_path}/wheels" "$2"'))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tools / "python"))
    for name in ("tensorflow/include/c_api.h", "clang/x.h", "nvidia/cublas/include/cublas.h"):
        path = tmp_path / "wheels" / name
        path.parent.mkdir(parents=True)
        path.write_text("int x;\n")
    (tmp_path / "wheels" / "nvidia" / "cublas" / "lib").mkdir()
    for name in ("libcublas.so.12", "libculibos.a"):
        (tmp_path / "wheels" / "nvidia" / "cublas" / "lib" / name).write_text("")
    return tmp_path


def test_a_tree_is_installed_once_and_holds_what_runs_as_it_came(uv: Path) -> None:
    library = uv / "wheels" / "tensorflow" / "libtensorflow_cc.so.2"
    library.write_bytes(b"as built")
    (uv / "wheels" / "tensorflow" / "__init__.py").write_text("")
    said: list[str] = []
    tree = ensure_tensorflow(said.append, "cuda", root=uv / "cache")
    assert ensure_tensorflow(said.append, "cuda", root=uv / "cache") == tree
    assert said == ["installing TensorFlow (tensorflow-cuda) into the cache, once"]
    (call,) = (uv / "calls").read_text().splitlines()
    for words in ("--require-hashes", "--no-deps", "--python-version 3.11", "/tensorflow-cuda.txt"):
        assert words in call
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {
        "tensorflow/__init__.py",
        "tensorflow/libtensorflow_cc.so.2",
        "nvidia/cublas/lib/libcublas.so.12",
    }
    assert (tree / "tensorflow" / "libtensorflow_cc.so.2").read_bytes() == b"as built"


def test_an_installation_without_it_is_none(uv: Path) -> None:
    with pytest.raises(ImageError, match="holds no tensorflow"):
        ensure_tensorflow(lambda _: None, "cpu", root=uv / "cache")
    assert not (uv / "cache" / frameworks.CACHE_KIND / tree_digest("cpu")).exists()


def test_a_file_that_is_not_the_locked_one_is_said_in_uvs_words(uv: Path) -> None:
    script = uv / "tools" / "uv"
    script.write_text(UV.format(log=uv / "calls", then="echo 'error: Hash mismatch for `gast`' >&2; exit 1"))
    with pytest.raises(ImageError, match="Hash mismatch for `gast`"):
        ensure_tensorflow(lambda _: None, "cpu", root=uv / "cache")


def test_a_machine_without_uv_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ImageError, match="the command uv is missing"):
        ensure_tensorflow(lambda _: None, "cpu", root=tmp_path / "cache")
