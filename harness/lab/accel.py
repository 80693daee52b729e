"""KVM or TCG: decided by booting a kernel, since a ``/dev/kvm`` that exists may still hang its guests.

The trial boots the lab host's own kernel without any disk. It proves itself by reaching the panic that every
kernel without a root file system ends in: by then processors, timers and interrupts have worked.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.identity import boot_id
from harness.images.qemu import QemuTool
from harness.regular import MOST_TEXT, read_regular
from harness.serial import strict_json

TRIAL_SECONDS = 30.0
"""A kernel needs about 2 s to that panic under working KVM."""

_REACHED = b"Unable to mount root fs"
_NESTED = ("/sys/module/kvm_intel/parameters/nested", "/sys/module/kvm_amd/parameters/nested")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What runs the lab host's processors."""

    name: str
    """``kvm`` or ``tcg``."""
    reason: str
    """Why, for the record: ``a trial boot under KVM took 2.1 s``."""


def choose_accelerator(
    tool: QemuTool,
    kernel: Path,
    cache_dir: Path,
    progress: Callable[[str], None],
    *,
    device: Path = Path("/dev/kvm"),
    nested_files: tuple[str, ...] = _NESTED,
    trial_seconds: float = TRIAL_SECONDS,
) -> Accelerator:
    """KVM when a trial boot proves that it works, else TCG. The answer is kept until the machine reboots."""
    record = cache_dir / "accelerator.json"
    allowed = os.access(device, os.R_OK | os.W_OK)
    key = f"{boot_id()} {' '.join(tool.command)} {tool.version_text} {device} {allowed}"
    kept = _kept(record, key)
    if kept is not None:
        return kept
    reason = _objection(device, nested_files)
    if reason is None:
        progress(f"trying KVM with a small kernel (at most {trial_seconds:.0f} s)")
        chosen = _trial(tool, kernel, trial_seconds)
    else:
        chosen = Accelerator(name="tcg", reason=reason)
    progress(f"accelerator {chosen.name}: {chosen.reason}")
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = record.with_name(f"accelerator.{os.getpid()}.tmp")
    draft.write_text(json.dumps({"key": key, "name": chosen.name, "reason": chosen.reason}))
    draft.rename(record)
    return chosen


def _kept(record: Path, key: str) -> Accelerator | None:
    try:
        data = strict_json(read_regular(record, MOST_TEXT))
    except (OSError, ValueError):
        return None
    if not isinstance(data, dict) or data.get("key") != key or data.get("name") not in {"kvm", "tcg"}:
        return None
    return Accelerator(name=str(data["name"]), reason=str(data.get("reason", "")))


def _objection(device: Path, nested_files: tuple[str, ...]) -> str | None:
    """Why KVM need not even be tried; None when it is worth a trial."""
    if not device.exists():
        return f"there is no {device}"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be used by this user (join group kvm)"
    values = [Path(name).read_text().strip() for name in nested_files if Path(name).exists()]
    if values and not any(value in {"Y", "1"} for value in values):
        return "KVM works here, but without nested virtualisation, which the lab host needs"
    return None


def _trial(tool: QemuTool, kernel: Path, seconds: float) -> Accelerator:
    argv = [*tool.command, *(part for path in tool.data_dirs for part in ("-L", str(path)))]
    argv += ["-nodefaults", "-display", "none", "-no-reboot", "-accel", "kvm", "-machine", "q35"]
    argv += ["-cpu", "host", "-smp", "2", "-m", "512", "-serial", "stdio", "-kernel", str(kernel)]
    argv += ["-append", "console=ttyS0 panic=-1 root=/dev/none"]
    began = time.monotonic()
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        reason = f"a kernel under KVM hung: no end within {seconds:.0f} s"
        return Accelerator(name="tcg", reason=reason)
    except OSError as error:
        return Accelerator(name="tcg", reason=f"QEMU did not run for the KVM trial: {error}")
    took = time.monotonic() - began
    if _REACHED in done.stdout:
        return Accelerator(name="kvm", reason=f"a trial boot under KVM took {took:.1f} s")
    said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    detail = said[-1][:200] if said else "the test kernel did not finish"
    return Accelerator(name="tcg", reason=f"the trial boot under KVM failed: {detail}")
