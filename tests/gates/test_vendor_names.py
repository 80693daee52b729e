"""Nothing outside ``harness.vendors`` names a maker of GPUs, its libraries or its log lines.

Comments, docstrings and messages count. The lab may name the device that it emulates.
"""

from __future__ import annotations

import re

from tests.gates.source import ROOT

WORDS = re.compile(
    r"nvidia|nvml|cuda|\bs?xids?\b|nvlink|nvenc|nvdec|nvrm|nvswitch|amdgpu|rocm|radeon|i915|\bedu\b",
    re.IGNORECASE,
)
KINDS = (".py", ".sh", ".c", ".h", ".cu")
TOPS = ("harness", "reports", "suites")
HOMES = ("harness/vendors/", "harness/lab/")

EXCEPTIONS: dict[str, str] = {
    "harness/telemetry/gpu/plausible.py": "sources of rules, quoted: a maker's header says what a reading is",
    "harness/model/inventory.py": "a key of host files, and the kinds of a lab's devices, as files have them",
    "harness/model/telemetry.py": "values of records: families of kernel events, and a series",
}
"""File to why it must name one."""

NOT_YET = (
    # Checks, verdict, configuration, stages, faults, facts, commands.
    # Payload, stand-in, telemetry, images, workloads.
    "harness/images/frameworks.py",
    "harness/images/guest_files/init.sh",
    "harness/images/kinds.py",
    "harness/payload/render_device.py",
    "harness/workloads/device/answers.py",
    "harness/workloads/hashing/payload/hashcat.py",
    "harness/workloads/p2p/answers.py",
    "harness/workloads/p2p/payload/job.py",
    "harness/workloads/p2p/spec.py",
    "harness/workloads/pcie/answers.py",
    "harness/workloads/pcie/payload/gpu.py",
    "harness/workloads/tensor/payload/device.py",
    "harness/workloads/tensor/payload/library.py",
    "harness/workloads/tensor/payload/pytorch.py",
    "harness/workloads/tensor/payload/tensorflow_engine.py",
    "harness/workloads/tensor/payload/worker.py",
)
"""Files that have still to lose such words: this list only gets shorter."""


def naming() -> set[str]:
    """Files outside the vendors' folders that name one."""
    files = (path for top in TOPS for path in (ROOT / top).rglob("*") if path.suffix in KINDS)
    named = {path.relative_to(ROOT).as_posix(): path for path in files}
    return {
        name
        for name, path in named.items()
        if not name.startswith(HOMES) and WORDS.search(path.read_text(encoding="utf-8"))
    }


def test_no_file_outside_names_a_vendor() -> None:
    """Who needs a vendor's word takes it from ``harness.vendors``."""
    assert sorted(naming() - {*EXCEPTIONS, *NOT_YET}) == []


def test_the_exceptions_are_still_needed() -> None:
    assert sorted({*EXCEPTIONS, *NOT_YET} - naming()) == []
