"""A new attach mode is one module and one line: proven with virtual functions, which are not shipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gates.source import PACKAGES, ROOT

HERE = Path(__file__).parent / "third"
REGISTRY = "harness/attach/__init__.py"


def the_tree(root: Path) -> Path:
    """What is shipped, with the module of a third mode and its line in the registry; nothing else differs."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "sriov.py", root / "harness/attach/sriov.py")
    registry = root / REGISTRY
    text = registry.read_text(encoding="utf-8")
    listed = text.replace("import bare, vfio", "import bare, sriov, vfio")
    listed = listed.replace("(vfio.ATTACHMENT, ", "(vfio.ATTACHMENT, sriov.ATTACHMENT, ")
    changed = [a for a, b in zip(text.splitlines(), listed.splitlines(), strict=True) if a != b]
    assert len(changed) == 2, "the import and the tuple"
    registry.write_text(listed, encoding="utf-8")
    return root


def test_a_third_mode_goes_through_plan_domain_checks_and_report(tmp_path: Path) -> None:
    tree = the_tree(tmp_path / "tree")
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, str(HERE / "drive.py"), str(work)],
        env={**os.environ, "PYTHONPATH": f"{tree}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("vfio sriov bare GO "), done.stdout
