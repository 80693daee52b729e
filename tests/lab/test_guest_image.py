"""The lab's guest image: TensorFlow by a short way, and only there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.errors import ImageError
from harness.images.frameworks import LOCKS, lock_text
from harness.images.guest import image_digest
from harness.images.kinds import KINDS
from harness.lab.guest_image import GUEST_KINDS, LAB, lean
from harness.lab.payload import pages
from harness.workloads.tensor.payload.library import engine_named
from tests.packed import code

needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("strip") is None, reason="no gcc and binutils here"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Libraries of TensorFlow's names that have relocations and symbols to spare."""
    source = tmp_path / "x.c"
    source.write_text("int number = 3;\nint *place = &number;\nstatic int idle(void) { return 4; }\n"
                      "int (*table[])(void) = {idle};\n")  # fmt: skip
    folder = tmp_path / "tree" / "tensorflow"
    folder.mkdir(parents=True)
    for name in ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-O0", "-g", "-o", folder / name, source], check=True)
    return tmp_path / "tree"


@needs_compiler
def test_its_tensorflow_is_stripped_bound_and_used_by_what_lies_beside_it(tree: Path, tmp_path: Path) -> None:
    library = tree / "tensorflow" / "libtensorflow_cc.so.2"
    before = library.stat().st_size
    assert engine_named(str(tree)) == ""
    for _ in range(2):
        lean(tree, tmp_path / "log", lambda _text: None)
    assert library.stat().st_size < before
    listed = subprocess.run(["readelf", "--relocs", str(library)], capture_output=True, text=True, check=True)
    assert "number" not in listed.stdout
    assert engine_named(str(tree)) == "shakedown_lab.engine"
    done = subprocess.run(
        code(f"sys.path.insert(0, {str(tree)!r})\nfrom shakedown_lab import c_api\nprint(c_api.FLOAT)"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_a_tree_without_the_library_is_none(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds no tensorflow/libtensorflow_cc\.so\.2"):
        lean(tmp_path, tmp_path / "log", lambda _text: None)


def test_it_has_read_ahead_lists_for_the_version_that_it_holds() -> None:
    version = next(
        line.partition("==")[2].rstrip(" \\")
        for line in lock_text("cpu").splitlines()
        if line.startswith("tensorflow-cpu==")
    )
    assert Path(pages.__file__).with_name(f"tensorflow-{version}.pages").is_file()
    assert LAB.framework in LOCKS


def test_it_is_the_image_for_processors_and_what_the_lab_needs() -> None:
    assert set(KINDS["cpu"].packages) < set(LAB.packages)
    assert image_digest(LAB) != image_digest(KINDS["cpu"])
    assert set(GUEST_KINDS) == {*KINDS, "lab"}
