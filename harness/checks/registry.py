"""Judgements: evidence and profile in, check results out."""

from __future__ import annotations

from harness.checks import engine, run
from harness.checks.base import Check
from harness.checks.guest import death, disturbance, guest, kept, placement, release, residue, virtualization
from harness.checks.host import cpu, host, iommu, link, memory, numa, pci, reset, services
from harness.checks.host import unchanged as changes
from harness.checks.host import watched_host as telemetry_host
from harness.checks.ledger import account
from harness.checks.load import expectations, workloads
from harness.checks.watching import alive as telemetry
from harness.checks.watching import gpu as telemetry_gpu
from harness.checks.watching import gpu_errors as telemetry_kernel
from harness.checks.watching import kernel_log
from harness.checks.watching import links as telemetry_link
from harness.checks.watching import memory as telemetry_memory
from harness.checks.watching import settings as telemetry_settings
from harness.checks.watching import work as telemetry_work
from harness.model.evidence import Evidence
from harness.model.inventory import HostFile, Profile
from harness.model.outcome import CheckResult, CoverageCell
from harness.vendors.registry import parts

OF_VENDORS: tuple[Check, ...] = tuple(check for checks in parts("checks", "CHECKS") for check in checks)
"""What only one maker's GPUs are asked."""

CHECKS: tuple[Check, ...] = (
    *host.CHECKS,
    *services.CHECKS,
    *iommu.CHECKS,
    *cpu.CHECKS,
    *memory.CHECKS,
    *numa.CHECKS,
    *pci.CHECKS,
    *link.CHECKS,
    *reset.CHECKS,
    *placement.CHECKS,
    *guest.CHECKS,
    *kept.CHECKS,
    *death.CHECKS,
    *workloads.CHECKS,
    *expectations.CHECKS,
    *virtualization.CHECKS,
    *disturbance.CHECKS,
    *telemetry.CHECKS,
    *telemetry_gpu.CHECKS,
    *telemetry_memory.CHECKS,
    *telemetry_link.CHECKS,
    *OF_VENDORS,
    *telemetry_settings.CHECKS,
    *telemetry_work.CHECKS,
    *telemetry_kernel.CHECKS,
    *telemetry_host.CHECKS,
    *changes.CHECKS,
    *residue.CHECKS,
    *release.CHECKS,
    *kernel_log.CHECKS,
    *run.CHECKS,
)
"""Every check there is, in the order in which a person would look."""

CHECK_IDS: tuple[str, ...] = tuple(check.id for check in CHECKS)


def run_checks(
    evidence: Evidence, profile: Profile, host: HostFile, *, checks: tuple[Check, ...] = CHECKS
) -> tuple[tuple[CheckResult, ...], tuple[CoverageCell, ...]]:
    """Judge everything that the profile demands, in its order, and what users' own tests said.

    Returns the results, and one coverage cell for each planned check and subject; a cell without outcome is
    missing and says why. Subjects come from what was planned (the profile's or the requested guests, the
    GPUs that the host has and those it should have), never from what ran. Never raises for evidence that is
    absent, and turns a HarnessError of a judge into an ERROR. In a run that a test session made, only what
    its tests asked counts (``harness.checks.ledger``).
    """
    return account(*engine.run(checks, evidence, profile, host), evidence, profile)
