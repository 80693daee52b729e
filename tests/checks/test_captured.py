"""The checks on a captured transcript of the emulated host tell the truth about it."""

from __future__ import annotations

from pathlib import Path

from harness.checks.registry import run_checks
from harness.config.files import load_host, load_profile
from harness.facts import parse_transcript
from harness.model.evidence import Evidence
from harness.model.outcome import Outcome, SubjectKind

CASES = Path(__file__).parents[1] / "facts" / "cases"


def failures(name: str) -> dict[str, str]:
    facts = parse_transcript((CASES / name).read_bytes())
    evidence = Evidence(
        host="lab",
        subject=SubjectKind.LAB,
        profile="smoke",
        run="r",
        started_at="2026-11-22T00:00:00Z",
        ended_at=None,
        facts=facts,
        facts_after=facts,
    )
    results, _ = run_checks(evidence, load_profile("smoke"), load_host("lab"))
    return {r.check: r.message for r in results if r.outcome is Outcome.FAIL}


def test_the_bare_emulated_host_fails_on_interrupts_and_noise_alone() -> None:
    found = failures("emulated-host.txt")
    assert set(found) == {"host.interrupt_remapping", "host.noise"}
    assert "allow_unsafe_interrupts is Y" in found["host.interrupt_remapping"]


def test_a_tenant_with_a_gpu_and_a_lost_card_are_found() -> None:
    found = failures("emulated-host-with-guest.txt")
    assert "hold GPUs: tenant" in found["host.no_foreign_domains"]
    assert "/dev/vfio/10" in found["host.devices_free"]
    assert "3 GPUs found" in found["host.gpu_count"]
