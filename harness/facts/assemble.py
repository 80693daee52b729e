"""Frames to HostFacts."""

from __future__ import annotations

from dataclasses import replace

from harness.facts.cpu import read_cpus, read_model
from harness.facts.domains import read_domains, read_holders
from harness.facts.frames import Frames, read_frames
from harness.facts.iommu import read_iommu
from harness.facts.numa import read_nodes
from harness.facts.pci import read_devices
from harness.facts.system import (
    dmi,
    joined,
    read_boot_id,
    read_date,
    read_kernel_log,
    read_nohz_full,
    read_noise,
    read_storage,
    read_uptime,
    read_versions,
)
from harness.model.topology import HostFacts
from harness.reading import reader


@reader("the output of the facts script")
def parse_transcript(raw: bytes) -> HostFacts:
    """The facts in a transcript of ``collect.sh``.

    Raises ParseError, and nothing else, when the transcript is truncated, altered or not one at all.
    """
    return assemble(read_frames(raw))


def assemble(frames: Frames) -> HostFacts:
    """The facts in captured frames; what is absent or malformed there is unknown here."""
    model = read_model(frames)
    nodes = read_nodes(frames)
    log, holds_boot = read_kernel_log(frames)
    command_line = frames.text("/proc/cmdline")
    facts = HostFacts(
        hostname=frames.text("/proc/sys/kernel/hostname") or None,
        machine_id=frames.text("/etc/machine-id") or None,
        product=joined(dmi(frames, "sys_vendor"), dmi(frames, "product_name")),
        serial=dmi(frames, "product_serial"),
        cpu_model=model.name,
        cpu_vendor=model.vendor,
        architecture=model.architecture,
        physical_address_bits=model.physical_address_bits,
        virtualization=model.virtualization,
        kvm="/dev/kvm" in frames.present,
        kernel_command_line=command_line or None,
        versions=read_versions(frames, model.microcode),
        numa_nodes=nodes,
        cpus=read_cpus(frames, nodes),
        nohz_full=read_nohz_full(frames),
        pci_devices=read_devices(frames),
        iommu=read_iommu(frames, log, log_holds_boot=holds_boot),
        domains=read_domains(frames),
        device_holders=read_holders(frames),
        noise=read_noise(frames),
        storage=read_storage(frames),
        kernel_log=log,
        uptime_seconds=read_uptime(frames),
        boot_id=read_boot_id(frames),
        collected_at=read_date(frames),
        warnings=(),
    )
    # Warnings gather while the parsers above run, so they are read last.
    return replace(facts, warnings=tuple(dict.fromkeys(frames.warnings)))
