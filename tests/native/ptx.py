"""The PTX text of the kernels, made from their source: run as a script, it writes the shipped file again.

    python tests/native/ptx.py

nvcc writes the newest PTX version it knows, which drivers older than nvcc refuse (error 222). The kernels use
nothing newer than PTX 6.3, the first that knows the T4 (sm_75; PTX ISA, release notes), so that is what the
text is made to say; ``ptxas`` refuses a feature that the stated version lacks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "harness/vendors/nvidia/kernels/vram.cu"
SHIPPED = ROOT / "harness/vendors/nvidia/payload/vram.ptx"
TARGET, VERSION = "sm_75", "6.3"
BUILT_BY = "13.0"
"""The release of nvcc that the shipped file came from: another may order instructions otherwise."""


def nvcc_release() -> str | None:
    """The installed nvcc's release (``13.0``), or None without one."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return None
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else None


def compile_ptx(source: Path = SOURCE) -> str:
    """The kernels as PTX of the lowest version they need, without comments."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "vram.ptx"
        subprocess.run(
            ["nvcc", "-O3", f"-arch=compute_{TARGET.removeprefix('sm_')}", "-ptx", "-o", out, source],
            check=True,
            capture_output=True,
        )
        text = out.read_text(encoding="ascii")
    text = re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\.version .*$", f".version {VERSION}", text, flags=re.MULTILINE)
    head = "// Generated from harness/vendors/nvidia/kernels/vram.cu by tests/native/ptx.py; do not edit.\n"
    return head + re.sub(r"\n{3,}", "\n\n", text).lstrip("\n")


if __name__ == "__main__":
    SHIPPED.write_text(compile_ptx(), encoding="ascii")
