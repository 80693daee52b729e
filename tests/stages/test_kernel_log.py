"""What the kernels' logs are filtered by, where they lie, against what the checks look for in them."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from harness.checks.kernel_log import trouble
from harness.stages.guest import KERNEL_LOG
from harness.telemetry.kernel_forms import FORMS

LINES = (
    "DMAR: [DMA Read NO_PASID] Request device [41:00.0] fault addr 0xfee00000",
    "DMAR: DRHD: handling fault status reg 3",
    "AMD-Vi: Event logged [IO_PAGE_FAULT device=41:00.0 domain=0x000b]",
    "arm-smmu-v3 9050000.smmuv3: event 0x10 received:",
    "pcieport 0000:40:00.0: AER: Correctable error message received from 0000:41:00.0",
    "pcieport 0000:40:00.0: PCIe Bus Error: severity=Corrected, type=Physical Layer",
    "pcieport 0000:40:00.0: DPC: containment event, status:0x1f01 source:0x0000",
    "mce: [Hardware Error]: CPU 3: Machine Check: 0 Bank 9: bc0000400001014",
    "Machine check events logged",
    "NVRM: Xid (PCI:0000:41:00): 79, pid=1, GPU has fallen off the bus.",
    "nvidia-nvswitch0: SXid (PCI:0000:00:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
    "NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.",
    "NVRM: GPU 0000:18:00.0: RmInitAdapter failed! (0x62:0x40:2449)",
    "pcieport 0000:40:01.0: pciehp: Slot(1): Link Down",
    "EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0_Chan#1_DIMM#0",
    "Loading of unsigned module is rejected",
    "amdgpu 0000:41:00.0: amdgpu: GPU reset begin!",
    "vfio-pci 0000:41:00.0: not ready 1023ms after bus reset; waiting",
    "vfio-pci 0000:41:00.0: Unable to change power state from D3cold to D0, device inaccessible",
    "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "Oops: 0002 [#1] PREEMPT SMP NOPTI",
    "Kernel panic - not syncing: Fatal exception",
    "general protection fault, probably for non-canonical address 0xdead000000000100",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks: detected stall on CPU 3",
    "watchdog: BUG: soft lockup - CPU#2 stuck for 22s! [qemu-system-x86:812]",
    "INFO: task qemu-system-x86:812 blocked for more than 120 seconds.",
    "Out of memory: Killed process 812 (qemu-system-x86) total-vm:8388608kB",
)


def _guest_log(directory: Path, dmesg: str) -> subprocess.CompletedProcess[str]:
    """The guest's command with another ``dmesg``."""
    program = directory / "dmesg"
    program.write_text(f"#!/bin/sh\n{dmesg}\n")
    program.chmod(0o755)
    environment = {"PATH": f"{directory}:/usr/bin:/bin"}
    return subprocess.run(
        ("sh", "-c", KERNEL_LOG), env=environment, capture_output=True, text=True, check=False
    )


def test_the_lines_show_every_kind_of_trouble() -> None:
    assert {kind for kind, _, _ in trouble(LINES)} == {form.kind for form in FORMS} | {"NVSwitch error"}
    assert len(trouble(LINES)) == len(LINES)


@pytest.mark.parametrize("line", LINES)
def test_no_line_of_trouble_is_lost_on_the_host(line: str) -> None:
    script = resources.files("harness.facts").joinpath("collect.sh").read_text()
    (wanted,) = re.findall(r"tolower\(\$0\) ~ /(.+)/ \{", script)
    assert re.search(wanted, line.lower())


def test_no_line_of_trouble_is_lost_in_the_guest(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("\n".join(("Linux version 6.1.0", *LINES, "random: crng init done")))
    said = _guest_log(tmp_path, f"cat {tmp_path}/lines")
    assert (said.returncode, tuple(said.stdout.splitlines())) == (0, LINES)


@pytest.mark.parametrize("dmesg", ["echo 'read kernel buffer failed' >&2; exit 1", "true", "exit 127"])
def test_a_guests_log_that_cannot_be_read_is_not_a_quiet_log(tmp_path: Path, dmesg: str) -> None:
    assert _guest_log(tmp_path, dmesg).returncode != 0


def test_a_quiet_log_is_read_as_such(tmp_path: Path) -> None:
    said = _guest_log(tmp_path, "echo 'Linux version 6.1.0'")
    assert (said.returncode, said.stdout) == (0, "")
