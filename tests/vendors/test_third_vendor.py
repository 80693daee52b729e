"""A new vendor is a folder and a line: proven with a maker that does not exist, from text alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gates.source import PACKAGES, ROOT

HERE = Path(__file__).parent / "third"
REGISTRY = "harness/vendors/registry.py"


def the_tree(root: Path) -> Path:
    """What is shipped, with the folder of a third vendor and its line in the registry."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(HERE / "acme", root / "harness/vendors/acme")
    registry = root / REGISTRY
    text = registry.read_text(encoding="utf-8")
    listed = text.replace('    "amd",\n', '    "amd",\n    "acme",\n')
    assert len(listed.splitlines()) == len(text.splitlines()) + 1
    registry.write_text(listed, encoding="utf-8")
    return root


def test_a_third_vendor_goes_from_facts_to_the_report(tmp_path: Path) -> None:
    tree = the_tree(tmp_path / "tree")
    work = tmp_path / "work"
    work.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tree}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "SHAKEDOWN_INVENTORY": str(HERE / "inventory"),  # models and tables of codes are data, also a user's
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "drive.py"), str(work)],
        env=environment,
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "acme" in done.stdout.split()
    assert done.stdout.endswith("NO_GO\n"), done.stdout
