"""A lab description as a QEMU command line: pure, so that every lab of the inventory can be tested.

Ids are stable because levers use them: ``pxbN`` the expander bus of node N, ``rpK`` the root port and
``devK`` the device K in the order of the description, ``devKf1`` its companion function.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError
from harness.model.inventory import LabDevice, LabFile

KEY_BLOB = "opt/org.shakedown/authorized_key"
HOST_KEY_BLOB = "opt/org.shakedown/host_key"
"""fw_cfg names by which the machine gets its keys; the SSH server of the host image reads them."""

NVME_MIB = 64

_SPEEDS = {2.5: "2_5", 5.0: "5", 8.0: "8", 16.0: "16", 32.0: "32", 64.0: "64"}
_WIDTHS = (1, 2, 4, 8, 12, 16, 32)
_KINDS = {"edu": "edu,dma_mask=0xffffffffffff", "virtio-rng": "virtio-rng-pci,aer=on", "nvme": ""}
_IOMMUS = ("intel", "amd", "none")
_FIRST_EXPANDER_BUS = 0x40
"""Buses below belong to pcie.0 and its own root ports."""
_CPU = "max,mpx=off,pku=off,la57=off,x2apic=off,erms=off,fsrm=off"
"""What TCG's ``max`` must leave out for a Debian kernel to boot (measured with QEMU 7.2 and 10.0), and fast
string operations. With ``erms`` a kernel clears memory by one-byte stores; into a page from which the guest
before ran code, each is a slow step of TCG. To clear 3 GiB for the next guest took 29 s of processor time, by
eight-byte stores 10 s. Without ``erms`` a kernel with ``fsrm`` does not boot (Debian's 6.1), so both go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePaths:
    """What differs between two machines of the same description."""

    disk: Path
    kernel: Path
    initrd: Path
    images: Path
    """Directory shared read-only with the host as 9p tag ``images``."""
    monitor: Path
    """QMP socket."""
    serial_log: Path
    authorized_key: Path
    host_key: Path
    ssh_port: int


ANYWHERE = MachinePaths(
    disk=Path("disk"),
    kernel=Path("kernel"),
    initrd=Path("initrd"),
    images=Path("images"),
    monitor=Path("monitor"),
    serial_log=Path("serial"),
    authorized_key=Path("key"),
    host_key=Path("hostkey"),
    ssh_port=0,
)
"""Placeholders: with these the command line depends on the description alone, as a snapshot's hash must."""


def monitor_argument(monitor: Path) -> str:
    """The value of ``-qmp``."""
    return f"unix:{monitor},server=on,wait=off"


def machine_arguments(lab: LabFile, paths: MachinePaths, *, accelerator: str) -> tuple[str, ...]:
    """QEMU's arguments (without the binary) for a description; LabError when it cannot be built."""
    validate(lab)
    return (
        "-nodefaults",
        *("-display", "none"),
        # A lab host resets itself for its emulator's faults only: then it ends, instead of seeming to reboot.
        "-no-reboot",
        *_processors(lab, accelerator),
        *_memory(lab),
        *_iommu(lab),
        *_expanders(lab),
        *_ports_and_devices(lab),
        *_platform(paths),
        *("-kernel", str(paths.kernel), "-initrd", str(paths.initrd)),
        *("-append", kernel_arguments(lab, accelerator)),
    )


def validate(lab: LabFile) -> None:
    """Raise LabError, naming lab and place, for what QEMU could not build or would build differently."""
    if not lab.nodes or sum(node.cores for node in lab.nodes) < 1:
        raise LabError(f"lab {lab.name}: at least one node with one core is needed")
    if any(node.cores < 0 or node.memory_mib < 1 or node.hugepages_2m < 0 for node in lab.nodes):
        raise LabError(f"lab {lab.name}: nodes need memory_mib of at least 1 and no negative numbers")
    if any(node.hugepages_2m * 2 > node.memory_mib for node in lab.nodes):
        raise LabError(f"lab {lab.name}: hugepages_2m of a node exceed its memory_mib")
    if lab.threads_per_core < 1 or not 10 <= lab.distance <= 254:
        raise LabError(f"lab {lab.name}: threads_per_core starts at 1, distance is 10..254 (ACPI SLIT)")
    if lab.iommu not in _IOMMUS:
        raise LabError(f"lab {lab.name}: iommu {lab.iommu!r} is none of {', '.join(_IOMMUS)}")
    for number, device in enumerate(lab.devices):
        _validate_device(lab, number, device)
    for node in range(len(lab.nodes)):
        if 1 + len(_devices_of(lab, node)) > _stride(lab):
            raise LabError(f"lab {lab.name}: more devices on node {node} than its buses {_stride(lab)} hold")


def _validate_device(lab: LabFile, number: int, device: LabDevice) -> None:
    where = f"lab {lab.name}: device {number}"
    if device.kind not in _KINDS:
        raise LabError(f"{where}: kind {device.kind!r} is none of {', '.join(_KINDS)}")
    if device.node is not None and not 0 <= device.node < len(lab.nodes):
        raise LabError(f"{where}: there is no node {device.node}")
    if device.link_speed_gts not in _SPEEDS:
        raise LabError(f"{where}: link_speed_gts is none of {', '.join(map(str, _SPEEDS))}")
    if device.link_width not in _WIDTHS:
        raise LabError(f"{where}: link_width is none of {', '.join(map(str, _WIDTHS))}")
    if device.companion and device.kind != "edu":
        raise LabError(f"{where}: only edu devices have a companion")


def _devices_of(lab: LabFile, node: int | None) -> list[tuple[int, LabDevice]]:
    return [(number, device) for number, device in enumerate(lab.devices) if device.node == node]


def _stride(lab: LabFile) -> int:
    """Bus numbers per expander: 0x40 for up to three nodes, less for more, always a multiple of 8."""
    return min(0x40, (0x100 - _FIRST_EXPANDER_BUS) // len(lab.nodes) // 8 * 8)


def _processors(lab: LabFile, accelerator: str) -> tuple[str, ...]:
    cores = {node.cores for node in lab.nodes}
    total = sum(node.cores for node in lab.nodes)
    # Nodes of unequal size cannot be equal sockets: then each core is its own package.
    sockets, per_socket = (len(lab.nodes), cores.pop()) if len(cores) == 1 else (total, 1)
    threads = lab.threads_per_core
    if accelerator == "kvm":
        engine, cpu = "kvm", "host"
    else:
        engine = "tcg,thread=multi,tb-size=1024"
        cpu = f"{_CPU},+svm,+npt" if lab.nested_virtualization else f"{_CPU},-svm"
    return (
        *("-accel", engine, "-machine", "q35,kernel-irqchip=split", "-cpu", cpu),
        *("-smp", f"{total * threads},sockets={sockets},cores={per_socket},threads={threads}"),
    )


def _memory(lab: LabFile) -> tuple[str, ...]:
    arguments = ["-m", str(sum(node.memory_mib for node in lab.nodes))]
    first = 0
    for number, node in enumerate(lab.nodes):
        count = node.cores * lab.threads_per_core
        cpus = f",cpus={first}-{first + count - 1}" if count else ""
        first += count
        arguments += ["-object", f"memory-backend-ram,id=mem{number},size={node.memory_mib}M"]
        arguments += ["-numa", f"node,nodeid={number}{cpus},memdev=mem{number}"]
    for one in range(len(lab.nodes)):
        for other in range(one + 1, len(lab.nodes)):
            arguments += ["-numa", f"dist,src={one},dst={other},val={lab.distance}"]
    return tuple(arguments)


def _iommu(lab: LabFile) -> tuple[str, ...]:
    if lab.iommu == "none":
        return ()
    remapping = ",intremap=on" if lab.interrupt_remapping else ",intremap=off"
    if lab.iommu == "amd":
        return ("-device", f"amd-iommu,device-iotlb=on{remapping}")
    return ("-device", f"intel-iommu,device-iotlb=on,caching-mode=on{remapping}")


def _expanders(lab: LabFile) -> tuple[str, ...]:
    arguments: list[str] = []
    for node in range(len(lab.nodes)):
        bus = _FIRST_EXPANDER_BUS + node * _stride(lab)
        arguments += ["-device", f"pxb-pcie,id=pxb{node},bus=pcie.0,bus_nr=0x{bus:02x},numa_node={node}"]
    return tuple(arguments)


def _ports_and_devices(lab: LabFile) -> tuple[str, ...]:
    arguments: list[str] = []
    for node in (*range(len(lab.nodes)), None):
        for place, (number, device) in enumerate(_devices_of(lab, node)):
            bus = "pcie.0" if node is None else f"pxb{node}"
            # Ports of no known node stand on pcie.0, which the firmware ties to none; 0x10 on is free there.
            slot = place + 0x10 if node is None else place
            arguments += [
                "-device",
                f"pcie-root-port,id=rp{number},bus={bus},addr=0x{slot:x},chassis={number + 1},"
                f"slot={number + 1},x-speed={_SPEEDS[device.link_speed_gts]},x-width={device.link_width}",
            ]
            arguments += _device(number, device)
    return tuple(arguments)


def _device(number: int, device: LabDevice) -> list[str]:
    if device.kind == "nvme":
        return []  # plugged in once the machine runs: QEMU cannot save an NVMe controller in a snapshot
    place = f"id=dev{number},bus=rp{number},addr=0x0"
    if not device.companion:
        return ["-device", f"{_KINDS[device.kind]},{place}"]
    return [
        *("-device", f"{_KINDS[device.kind]},{place},multifunction=on"),
        *("-device", f"ich9-intel-hda,id=dev{number}f1,bus=rp{number},addr=0x0.1"),
    ]


def can_be_kept(lab: LabFile) -> bool:
    """Whether QEMU can save such a machine: its amd-iommu cannot be (measured with QEMU 10.0)."""
    return lab.iommu != "amd"


def nvme_devices(lab: LabFile) -> tuple[int, ...]:
    """Numbers of the devices that are plugged in after the start: ``devK`` behind ``rpK``."""
    return tuple(number for number, device in enumerate(lab.devices) if device.kind == "nvme")


def _platform(paths: MachinePaths) -> tuple[str, ...]:
    """Disk, network, entropy, image share and keys; all on pcie.0, or QEMU may put them on an expander."""
    return (
        *("-drive", f"file={_escape(paths.disk)},if=none,id=disk0,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,id=vda,drive=disk0,bus=pcie.0,addr=0x8"),
        *("-netdev", f"user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:{paths.ssh_port}-:22"),
        *("-device", "virtio-net-pci,id=nic0,netdev=net0,bus=pcie.0,addr=0x9,romfile="),
        *("-device", "virtio-rng-pci,id=rng0,bus=pcie.0,addr=0xa"),
        *("-fsdev", f"local,id=images,path={_escape(paths.images)},security_model=none,readonly=on"),
        *("-device", "virtio-9p-pci,id=share0,fsdev=images,mount_tag=images,bus=pcie.0,addr=0xb"),
        *("-fw_cfg", f"name={KEY_BLOB},file={_escape(paths.authorized_key)}"),
        *("-fw_cfg", f"name={HOST_KEY_BLOB},file={_escape(paths.host_key)}"),
        *("-qmp", monitor_argument(paths.monitor)),
        *("-chardev", f"file,id=serial0,path={_escape(paths.serial_log)}", "-serial", "chardev:serial0"),
        *("-rtc", "base=utc,clock=host"),
    )


def _escape(path: Path) -> str:
    """A path inside a QEMU option: commas are doubled."""
    return str(path).replace(",", ",,")


def kernel_arguments(lab: LabFile, accelerator: str) -> str:
    """The kernel command line of the lab host."""
    words = ["root=/dev/vda", "rw", "console=ttyS0", "quiet", "net.ifnames=0", "nowatchdog", "audit=0"]
    words += ["mitigations=off", "nokaslr", "fsck.mode=skip", "systemd.show_status=0"]
    # Zeroing every page at its allocation would touch all memory set aside as hugepages: the machine
    # would take gigabytes here before a guest has used any.
    words += ["init_on_alloc=0", "numa_balancing=disable"]
    # For lapic_guard, which reads and writes the local APIC's page.
    words.append("iomem=relaxed")
    if accelerator != "kvm":
        words.append("tsc=reliable")
    if lab.iommu != "none":
        words += [f"{lab.iommu}_iommu=on", "iommu=pt"]
    if any(node.hugepages_2m for node in lab.nodes):
        counts = ",".join(f"{number}:{node.hugepages_2m}" for number, node in enumerate(lab.nodes))
        words += ["default_hugepagesz=2M", "hugepagesz=2M", f"hugepages={counts}"]
    return " ".join([*words, *lab.kernel_arguments])
