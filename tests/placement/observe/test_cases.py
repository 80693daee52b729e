"""Captured guests: a folder in ``cases/`` with the raw transcripts of one real guest is a test.

``plan.json`` is what the guest is held against, ``expected.json`` what must be found. The guests called
``unpinned`` and ``other-node`` were started by hand without libvirt on an unpinned host with cgroup v1, so
that their differences are real ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.placement import PlacementPlan
from harness.placement.observe.compare import compare
from harness.placement.observe.observed import observe
from harness.serial import from_json

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.name for path in CASES.iterdir())


def found(case: Path) -> dict[str, Any]:
    plan = from_json(PlacementPlan, (case / "plan.json").read_bytes())
    observed = observe(
        plan,
        host=(case / "host.txt").read_bytes(),
        qmp=json.loads((case / "qmp.json").read_bytes()),
        guest=(case / "guest.txt").read_bytes(),
    )
    differences = compare(plan, observed, memory_share=0.99)
    return {
        "differences": [f"{d.layer} | {d.what} | {d.planned} | {d.observed}" for d in differences],
        "problems": list(observed.problems),
        "memory": [
            [m.memdev, m.guest_cell, m.kernel_policy, m.page_kib, {str(n): b for n, b in m.pages.items()}]
            for m in observed.memory
        ],
        "identity": [
            [
                str(g.host),
                g.alias,
                g.qom_root_port,
                str(g.guest),
                g.guest_vendor_device,
                g.guest_numa_node,
                None if g.guest_local_cpus is None else list(g.guest_local_cpus),
                g.held,
            ]
            for g in observed.gpus
        ],
    }


def test_there_are_captured_guests() -> None:
    assert len(NAMES) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_guest_is_found_where_it_was(name: str) -> None:
    case = CASES / name
    assert found(case) == json.loads((case / "expected.json").read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_captured_transcript_holds_no_more_than_it_needs(name: str) -> None:
    assert sum(file.stat().st_size for file in (CASES / name).iterdir()) < 200_000
