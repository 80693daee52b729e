"""What the host is and runs: firmware, versions, noise, storage, kernel log, clock."""

from __future__ import annotations

import re

from harness.facts import ask
from harness.facts.frames import Frames
from harness.facts.notation import chosen, count, id_list
from harness.model.topology import Noise, Storage, Versions

_PLACEHOLDERS = frozenset(
    ("", "none", "not specified", "not applicable", "to be filled by o.e.m.", "default string", "unknown")
)
"""What firmware says when it says nothing (compared in lower case)."""

_IRQ = re.compile(r"(\d{1,9})/smp_affinity_list")
_GOVERNOR = re.compile(r"policy\d+/scaling_governor")
_BMC = re.compile(r"ipmi_bmc[^/]*/firmware_revision")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DF = re.compile(r"\s(\d{1,18})\s+\d{1,18}\s+(-?\d{1,18})\s+(?:\d{1,3}%|-)\s")


def dmi(frames: Frames, attribute: str) -> str | None:
    """One DMI attribute; None for the firmware's placeholders too."""
    text = frames.text(f"{ask.DMI}/{attribute}")
    return None if text is None or text.lower() in _PLACEHOLDERS else text


def joined(*parts: str | None) -> str | None:
    """The known parts with blanks between them; None when there are none."""
    return " ".join(part for part in parts if part) or None


def read_versions(frames: Frames, microcode: str | None) -> Versions:
    """Versions of everything that a verdict holds for."""
    os_name = re.search(r'^PRETTY_NAME="?([^"\n]*)', frames.text("/etc/os-release") or "", re.MULTILINE)
    return Versions(
        kernel=frames.text("/proc/sys/kernel/osrelease") or None,
        os=(os_name[1].strip() or None) if os_name else None,
        qemu=_printed(frames, "qemu", r"version (\S+(?: \([^)\n]*\))?)"),
        libvirt=_printed(frames, "libvirt", r"\(libvirt\) (\S+)"),
        bios=joined(dmi(frames, "bios_vendor"), dmi(frames, "bios_version"), dmi(frames, "bios_date")),
        board=joined(dmi(frames, "board_vendor"), dmi(frames, "board_name"), dmi(frames, "board_version")),
        bmc=next((text or None for _, text in frames.matching("/sys/bus/platform/devices", _BMC)), None),
        microcode=microcode,
    )


def _printed(frames: Frames, command: str, pattern: str) -> str | None:
    output = frames.commands.get(command)
    match = re.search(pattern, output.text) if output and output.status == 0 else None
    return match[1] if match else None


def read_noise(frames: Frames) -> Noise:
    """What disturbs measurements. ``ksm`` is True only while pages are being merged (``run`` 1)."""
    governors = sorted({text for _, text in frames.matching(f"{ask.CPU}/cpufreq", _GOVERNOR) if text})
    ksm = count(frames.text("/sys/kernel/mm/ksm/run"))
    affinity = {}
    for match, text in frames.matching("/proc/irq", _IRQ):
        cpus = id_list(text)
        if cpus is not None:
            affinity[match[1]] = cpus
    balancing = count(frames.text("/proc/sys/kernel/numa_balancing"))
    return Noise(
        ksm=None if ksm is None else ksm == 1,
        numa_balancing=None if balancing is None else balancing > 0,
        transparent_hugepages=chosen(frames.text("/sys/kernel/mm/transparent_hugepage/enabled")),
        governor=",".join(governors) or None,
        irq_affinity=dict(sorted(affinity.items(), key=lambda item: int(item[0]))),
    )


def read_storage(frames: Frames) -> tuple[Storage, ...]:
    """Size of the filesystem that holds the working directory, from ``df -P -k``."""
    found = []
    for name, output in sorted(frames.commands.items()):
        if not name.startswith("df "):
            continue
        match = _DF.search(output.text.partition("\n")[2]) if output.status == 0 else None
        if match is None:
            frames.warnings.append(f"the size of {name[3:][:200]} could not be read")
        found.append(
            Storage(
                path=name[3:],
                total_bytes=int(match[1]) * 1024 if match else None,
                free_bytes=max(0, int(match[2])) * 1024 if match else None,
            )
        )
    return tuple(found)


def read_kernel_log(frames: Frames) -> tuple[tuple[str, ...] | None, bool]:
    """The lines of interest, and whether the log still begins where the kernel began."""
    output = frames.commands.get("dmesg")
    lines = output.text.strip("\n").split("\n") if output else []
    if not any(lines):
        frames.warnings.append("the kernel log is unreadable")
        return None, False
    began = r"(?:<\d+>|kern *: *\w+ *: *)?(?:\[ *0\.000000\]|Linux version )"
    holds_boot = re.match(began, lines[0]) is not None
    return tuple(lines[1:]), holds_boot


def read_date(frames: Frames) -> str | None:
    """The host's clock when the facts were collected, UTC."""
    output = frames.commands.get("date")
    text = output.text.strip() if output else ""
    return text if _DATE.fullmatch(text) else None


def read_uptime(frames: Frames) -> float | None:
    """Seconds since boot."""
    match = re.match(r"(\d{1,12}\.\d{1,3}) ", frames.text("/proc/uptime") or "")
    return float(match[1]) if match else None


def read_boot_id(frames: Frames) -> str | None:
    """The kernel's random identity of this boot."""
    text = frames.text("/proc/sys/kernel/random/boot_id") or ""
    return text if re.fullmatch(r"[0-9a-f-]{36}", text) else None


def read_nohz_full(frames: Frames) -> tuple[int, ...]:
    """CPUs without a periodic tick."""
    return id_list(frames.text(f"{ask.CPU}/nohz_full")) or ()
