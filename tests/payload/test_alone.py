"""The payload stands alone: nothing of the harness, nothing that the guest image does not hold."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import harness.payload
from harness.workloads.base import Place
from harness.workloads.files import install, payload_files, payload_tar
from harness.workloads.transcode.golden import REFERENCES

FOLDER = Path(next(iter(harness.payload.__path__)))
SCRIPTS = sorted(p for p in FOLDER.glob("*.py") if p.name != "__init__.py")
OTHERS = {"moderngl", "numpy", "tensorflow", "torch", "pynvml"}
"""What a payload may ask the image for, by name, when its work needs it."""


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_only_the_standard_library_is_imported(script: Path) -> None:
    assert imported(ast.parse(script.read_text())) <= sys.stdlib_module_names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_what_is_imported_by_name_is_a_neighbour_or_in_the_image(script: Path) -> None:
    neighbours = {p.stem for p in SCRIPTS}
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            (name,) = node.args
            if isinstance(name, ast.Constant):
                assert name.value in neighbours | OTHERS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_each_file_loads_in_an_isolated_interpreter_and_pulls_in_nothing_slow(script: Path) -> None:
    slow = "{'harness', 'typing', 'subprocess', 'pathlib', 'dataclasses', 'numpy', 'hashlib'}"
    load = f"exec(compile(open({str(script)!r}).read(), 'x', 'exec'), {{'__name__': 'x'}})"
    code = f"import sys; sys.path.append({str(FOLDER)!r}); {load}; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_archive_holds_every_file_and_is_always_the_same(tmp_path: Path) -> None:
    files = payload_files()
    assert set(files) == {p.name for p in SCRIPTS} | {"runner.sh", "tensorflow-2.21.0.pages", "vram.ptx"} | {
        f"transcode-{codec}.mkv" for codec in REFERENCES
    }
    assert payload_tar() == payload_tar()
    with tarfile.open(fileobj=io.BytesIO(payload_tar())) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive} == files  # type: ignore[union-attr]
    target = tmp_path / "a b" / "payload"
    for _ in range(2):
        subprocess.run(install(Place(payload=str(target))), input=payload_tar(), check=True)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == files
