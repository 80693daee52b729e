"""A job, its payload's output, and the frame that ``collect`` puts around it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.model.pci import PciAddress
from harness.workloads.base import GuestDevice, Job
from tests.fakes.scripts import framed

EDU = GuestDevice(
    address=PciAddress.parse("0000:01:00.0"),
    vendor="1234",
    device="11e8",
    host=PciAddress.parse("0000:41:00.0"),
)


@pytest.fixture
def job() -> Job:
    return Job(key="k1", guest="g1", tenant="run1-g1", vcpus=2, devices=(EDU,))


@pytest.fixture
def line() -> Callable[..., bytes]:
    """A payload's final line, as the payload would print it."""

    def make(payload: str, observed: dict[str, Any], **changes: Any) -> bytes:
        whole = {"payload": payload, "engine": "cpu", "observed": observed, "versions": {"x": "1"}, **changes}
        return (json.dumps(whole) + "\n").encode()

    return make


@pytest.fixture
def frame() -> Callable[..., bytes]:
    """What the guest's runner prints for a job that ended."""

    def make(stdout: bytes, stderr: bytes = b"", **changes: Any) -> bytes:
        status = {
            "key": "k1", "state": "done", "created": False, "pid": 7, "exit": 0, "stopped": False,
            "started": 10.5, "ended": 12.75, "now": 13.0, "boot": "b", "stdout_bytes": len(stdout),
            "stderr_bytes": len(stderr), "stdout_total": len(stdout), "stderr_total": len(stderr), **changes,
        }  # fmt: skip
        parts = {"status": json.dumps(status) + "\n", "stdout": stdout, "stderr": stderr}
        return framed("runner", parts)

    return make
