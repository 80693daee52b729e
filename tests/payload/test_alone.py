"""The payload stands alone: what is packed is what is imported, and nothing that a guest does not hold."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from harness.errors import WorkloadError
from harness.workloads.base import Place
from harness.workloads.files import _imported, imports, install, payload_files, payload_tar
from harness.workloads.transcode.golden import REFERENCES
from tests.gates.source import ROOT, modules
from tests.packed import code

OTHERS = {"moderngl", "numpy", "tensorflow", "torch", "pynvml"}
"""What a payload may ask the image for, when its work needs it."""
PACKED = payload_files()
SCRIPTS = sorted(name for name in PACKED if name.endswith(".py") and PACKED[name])


def test_every_module_of_a_payload_is_packed_and_no_other() -> None:
    """One that nothing imports would never run; one beyond the payloads is not in a guest."""
    payloads = {
        str(path.relative_to(ROOT))
        for module, path in modules().items()
        if module.rpartition(".")[0].endswith(".payload") and path.name != "__init__.py"
    }
    assert set(SCRIPTS) == {path for path in payloads if not path.startswith("harness/lab/")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_only_python_s_own_modules_the_image_s_and_payloads_are_imported(script: str) -> None:
    module = script.removesuffix(".py").replace("/", ".")
    first = {name.partition(".")[0] for name in imports(PACKED[script])}
    assert first <= sys.stdlib_module_names | OTHERS | {"harness"}
    assert all(".payload." in name for name in _imported(module, PACKED[script]))


@pytest.mark.parametrize(
    "line",
    [
        "from harness.errors import ParseError",
        "import harness.serial",
        "from harness.workloads import base",
        "from harness.workloads.vram.answers import WORKLOAD",
        "from harness.payload import nowhere",
        "def work():\n    from harness.model.pci import PciAddress",
    ],
)
def test_a_payload_that_imports_the_engine_is_refused_by_name(line: str) -> None:
    with pytest.raises(WorkloadError, match=r"harness\.payload\.x imports harness\..* no guest has"):
        list(_imported("harness.payload.x", line.encode()))


def test_what_is_imported_for_types_alone_is_not_packed() -> None:
    text = "if TYPE_CHECKING:\n    from harness.errors import ParseError\nfrom a import b\nimport c.d\n"
    assert imports(text.encode()) == ("a.b", "c.d")


LATE = ("burn", "numbers", "pytorch", "tensorflow_engine", "training")
"""Modules of ``tensor`` that begin with numpy; its worker loads them when it has timed numpy's own start."""
EARLY = [name for name in SCRIPTS if not ("/tensor/" in name and Path(name).stem in LATE)]


@pytest.mark.parametrize("script", EARLY)
def test_each_module_loads_in_an_isolated_interpreter_and_pulls_in_nothing_slow(script: str) -> None:
    module = script.removesuffix(".py").replace("/", ".")
    slow = (
        "{'typing', 'subprocess', 'pathlib', 'dataclasses', 'numpy', 'hashlib', 'inspect', 'importlib.util'}"
    )
    done = subprocess.run(
        code(f"import {module}\nprint(sorted({slow} & set(sys.modules)))"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_the_archive_holds_every_file_and_is_always_the_same(tmp_path: Path) -> None:
    data = {name.rpartition("/")[2] for name in PACKED if not name.endswith(".py")}
    assert data >= {"runner.sh", "vram.ptx"} | {f"transcode-{codec}.mkv" for codec in REFERENCES}
    assert payload_tar() == payload_tar()
    with tarfile.open(fileobj=io.BytesIO(payload_tar())) as archive:
        assert {m.name: archive.extractfile(m).read() for m in archive} == PACKED  # type: ignore[union-attr]
    target = tmp_path / "a b" / "payload"
    for _ in range(2):
        subprocess.run(install(Place(payload=str(target))), input=payload_tar(), check=True)
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == PACKED
