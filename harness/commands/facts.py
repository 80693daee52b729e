"""``shakedown facts``: what a candidate host says of itself, from SSH, a captured tree or a transcript."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import ConfigError
from harness.facts import collect, from_sysroot, parse_transcript
from harness.model.topology import GPU_CLASSES, HostFacts, Link, NumaNode, PciDevice
from harness.placement.virtual import users, virtual_functions
from harness.regular import MOST_TEXT, read_regular
from harness.serial import to_data
from harness.shown import clean, say_json

_ACCELERATOR_LIKE = (*GPU_CLASSES, "0b40", "00ff")
"""GPU classes, co-processors and functions of no class: what may be handed to a guest as an accelerator."""


def run(
    *,
    host: str | None,
    sysroot: Path | None,
    transcript: Path | None,
    json_output: bool,
    save: Path | None,
) -> int:
    """Print the facts from exactly one of ``host``, ``sysroot`` and ``transcript``; returns exit status 0.

    ``save`` stores the host's raw transcript, which ``transcript`` reads again. Raises ConfigError for a
    wrong combination, ParseError, TransportError and whatever bringing the host up raises.
    """
    if sum(source is not None for source in (host, sysroot, transcript)) != 1:
        raise ConfigError("give exactly one of --host NAME, --sysroot DIR or --transcript FILE")
    if save is not None and host is None:
        raise ConfigError("--save stores a host's output: use it with --host")
    if host is not None:
        facts, raw = _from_host(host)
        if save is not None:
            _write_whole(save, raw)
    elif sysroot is not None:
        facts = from_sysroot(sysroot)
    else:
        facts = parse_transcript(_read(transcript or Path()))
    if json_output:
        say_json(to_data(facts), indent=2)
    else:
        show(facts, _console())
    return 0


def _from_host(name: str) -> tuple[HostFacts, bytes]:
    # SSH, libvirt and YAML take long to import and a captured tree needs none of them.
    from harness.config.files import load_host, load_lab  # noqa: PLC0415
    from harness.stages.host.access import open_transport  # noqa: PLC0415

    host_file = load_host(name)
    progress = Console(stderr=True, highlight=False, markup=False)
    with open_transport(host_file, lambda line: progress.print(_plain(line)), labs=load_lab) as transport:
        return collect(transport, work_dir=host_file.work_dir)


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MOST_TEXT, links=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error


def _write_whole(path: Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _console() -> Console:
    """Where output is not a terminal nothing bounds its width: wide enough for the devices' table."""
    return Console() if sys.stdout.isatty() else Console(width=180)


def show(facts: HostFacts, console: Console) -> None:
    """Print the facts for a person. Text from the host is shown with its control characters escaped."""
    console.print(_host_table(facts))
    console.print(_node_table(facts))
    console.print(_device_table(facts))
    console.print(_iommu_table(facts))
    for warning in facts.warnings:
        console.print(_cell(f"warning: {warning}", "yellow"))


def _plain(text: str) -> str:
    """Text with control characters and the like as escapes, at most 200 characters."""
    return clean(text if len(text) <= 200 else text[:200] + "…")


def _cell(value: object, style: str = "") -> Text:
    if value is None:
        return Text("unknown", style="dim")
    return Text(_plain(str(value)), style=style)


def _row(table: Table, *values: object) -> None:
    table.add_row(*(_cell(value) for value in values))


def _host_table(facts: HostFacts) -> Table:
    table = Table(title="Host", show_header=False, title_justify="left")
    versions = facts.versions
    domains = facts.domains
    _row(table, "name", facts.hostname)
    _row(table, "product", facts.product)
    _row(table, "serial", facts.serial)
    _row(table, "CPU", facts.cpu_model)
    _row(
        table, "virtualization", f"{' '.join(facts.virtualization) or 'no flags'}; /dev/kvm {_yes(facts.kvm)}"
    )
    _row(table, "kernel", versions.kernel)
    _row(table, "command line", facts.kernel_command_line)
    _row(table, "system", versions.os)
    _row(table, "QEMU / libvirt", f"{versions.qemu or 'unknown'} / {versions.libvirt or 'unknown'}")
    _row(table, "firmware", versions.bios)
    _row(table, "domains", None if domains is None else ", ".join(d.name for d in domains) or "none")
    for place in facts.storage:
        free = None if place.free_bytes is None else f"{_gib(place.free_bytes)} free"
        _row(table, f"storage {place.path}", free)
    return table


def _node_table(facts: HostFacts) -> Table:
    table = Table(title="NUMA nodes", title_justify="left")
    for name in ("node", "CPUs", "cores", "memory", "hugepages free/total", "distances"):
        table.add_column(name)
    for node in facts.numa_nodes:
        cores = {
            (cpu.package, cpu.core) for cpu in facts.cpus if cpu.node == node.id and cpu.core is not None
        }
        memory = None if node.memory_bytes is None else _gib(node.memory_bytes)
        distances = " ".join(f"{other}:{value}" for other, value in node.distances.items())
        _row(table, node.id, ranges(node.cpus) or "none", len(cores), memory, _pools(node), distances or None)
    return table


def _pools(node: NumaNode) -> str:
    return (
        ", ".join(
            f"{_known(pool.free)}/{_known(pool.total)} of {size // 1024} kB"
            for size, pool in node.hugepages.items()
        )
        or "none"
    )


def _device_table(facts: HostFacts) -> Table:
    shown = [d for d in facts.pci_devices if d.class_code[:4] in _ACCELERATOR_LIKE or d.vanished]
    table = Table(
        title=f"Accelerators, displays, functions of no class ({len(facts.pci_devices)} functions in all)",
        title_justify="left",
    )
    for name in (
        "address",
        "id",
        "class",
        "node",
        "group",
        "driver",
        "slot",
        "link",
        "resets",
        "memory BARs",
        "virtual functions",
    ):
        table.add_column(name)
    for device in shown:
        _row(
            table,
            device.address,
            "vanished" if device.vanished else device.id,
            device.class_code,
            device.numa_node,
            device.iommu_group,
            device.driver or "none",
            device.slot_label,
            _link(device.link),
            " ".join(device.reset_methods) or "none",
            _bars(device),
            _virtual(facts, device),
        )
    return table


def _virtual(facts: HostFacts, device: PciDevice) -> str:
    """Of a physical function its virtual functions, of a virtual one its parent."""
    if device.physfn is not None:
        return f"of {device.physfn}"
    parts = virtual_functions(facts, device.address)
    number = max(device.sriov_numvfs or 0, len(parts))
    if not number:
        return "none" if device.sriov_totalvfs is not None else "no SR-IOV"
    return f"{number} of {_known(device.sriov_totalvfs)}, {len(users(facts, parts))} in use"


def _bars(device: PciDevice) -> str:
    return " ".join(f"{bar.size // 1024} kB" for bar in device.bars if not bar.io and bar.index < 6) or "none"


def _link(link: Link | None) -> str:
    if link is None:
        return "no link"
    now = f"{_known(link.speed_gts)} GT/s x{_known(link.width)}"
    return f"{now} (at most {_known(link.max_speed_gts)} GT/s x{_known(link.max_width)})"


def _iommu_table(facts: HostFacts) -> Table:
    iommu = facts.iommu
    table = Table(title="IOMMU", show_header=False, title_justify="left")
    _row(table, "units", " ".join(iommu.units) or "none")
    _row(table, "groups", len(iommu.groups))
    _row(table, "interrupt remapping", _yes(iommu.interrupt_remapping))
    _row(table, "unsafe interrupts allowed", _yes(iommu.unsafe_interrupts))
    _row(table, "iommufd", _yes(iommu.iommufd))
    _row(table, "VFIO", " ".join(f"{k}={v}" for k, v in iommu.vfio_parameters.items()) or "not loaded")
    return table


def ranges(numbers: Iterable[int]) -> str:
    """``0-3,8`` for ascending numbers, as the kernel writes them."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _known(value: object) -> object:
    return "?" if value is None else value


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
