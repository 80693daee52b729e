"""What ``hashing`` is, as data."""

from __future__ import annotations

from harness.vendors import loads
from harness.workloads.spec import ModelFigure, Row, Scalar, WorkloadSpec

HASHES = ("md5", "ntlm", "sha256", "bcrypt")
"""Whose rates GPU models are held to."""

_DEFAULTS: dict[str, Scalar] = {
    "engine": "auto",
    "tool": "auto",
    "candidates": 2000,
    "modes": "md5,ntlm,sha256,bcrypt",
    "keyspace": 1 << 25,
    "planted": 8,
    "benchmark": True,
}
"""``engine`` auto, cpu or gpu; ``tool`` john, hashcat, or auto: john on the CPU, hashcat on GPUs.

``candidates``: words in the list (john, and hashcat's salted modes). ``modes``, ``keyspace``
(candidates of an unsalted mode, at least), ``planted`` (passwords hidden among them) and
``benchmark`` (whether rates are measured) are hashcat's.
"""

SPEC = WorkloadSpec(
    name="hashing",
    title="passwords recovered from hashes",
    defaults=_DEFAULTS,
    row=Row(
        does="MD5, NTLM, SHA-256, bcrypt",
        proves="planted passwords found, and a hash without one, so that the search must be whole",
        engines=f"hashcat by {loads.DRIVER_WORDS} or OpenCL; john; hashcat on PoCL",
        needs="`john`",
        needs_with_gpus=f"`hashcat`, and the driver's {loads.DRIVER_WORDS} or OpenCL",
    ),
    packages=("john",),
    gpu_packages=("hashcat", *loads.HASH_PACKAGES),
    bare_packages=("hashcat", "pocl-opencl-icd"),
    figures=tuple(
        ModelFigure(
            name=f"hashing_{name}",
            unit="GH/s",
            measurements=(f"hashing.{name}.rate",),
            plausible=(1e-6, 1e-2) if name == "bcrypt" else (0.1, 5000.0),
        )
        for name in HASHES
    ),
    mixed={},
    keeps_gpus_busy=True,
)
