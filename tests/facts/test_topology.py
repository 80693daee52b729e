"""CPUs, nodes, IOMMU and domains from captured attributes."""

from __future__ import annotations

import pytest

from harness.facts.ask import CPU, GROUPS, NODE
from harness.facts.assemble import assemble
from harness.facts.frames import Frames, Output
from harness.model.pci import PciAddress
from harness.model.topology import DeviceHolder, HostFacts


def host(
    files: dict[str, str] | None = None,
    *,
    cpus: int = 0,
    nodes: tuple[int, ...] = (),
    commands: dict[str, Output] | None = None,
    listings: dict[str, tuple[str, ...]] | None = None,
    present: tuple[str, ...] = (),
) -> HostFacts:
    """The facts of a host with these files."""
    names = {f"{CPU}/cpu{n}" for n in range(cpus)} | {f"{NODE}/node{n}" for n in nodes}
    return assemble(
        Frames(
            files={path: text.encode() for path, text in (files or {}).items()},
            present=names | set(present),
            commands=commands or {},
            listings=listings or {},
        )
    )


def test_an_offline_cpu_has_no_place() -> None:
    facts = host(
        {
            f"{CPU}/online": "0,2",
            f"{CPU}/cpu1/topology/core_id": "1",
            f"{CPU}/cpu0/topology/core_id": "0",
            f"{CPU}/cpu0/topology/physical_package_id": "0",
            f"{CPU}/cpu0/topology/thread_siblings_list": "0,2",
            f"{NODE}/node0/cpulist": "0-2",
        },
        cpus=3,
        nodes=(0,),
    )
    assert [c.online for c in facts.cpus] == [True, False, True]
    offline = facts.cpus[1]
    assert (offline.node, offline.package, offline.core, offline.siblings) == (None, None, None, ())
    assert facts.cpus[0].siblings == (0, 2)
    assert facts.numa_nodes[0].cpus == (0, 2)


def test_a_package_of_minus_one_is_unknown() -> None:
    facts = host({f"{CPU}/online": "0", f"{CPU}/cpu0/topology/physical_package_id": "-1"}, cpus=1)
    assert facts.cpus[0].package is None


def test_a_cpu_on_two_nodes_is_on_no_known_node() -> None:
    facts = host({f"{NODE}/node0/cpulist": "0", f"{NODE}/node1/cpulist": "0"}, cpus=1, nodes=(0, 1))
    assert facts.cpus[0].node is None
    assert "CPU 0 is listed on nodes [0, 1]: its node is unknown" in facts.warnings


def test_isolated_and_tickless_cpus() -> None:
    facts = host({f"{CPU}/isolated": "1-2", f"{CPU}/nohz_full": "1-2"}, cpus=3)
    assert [c.isolated for c in facts.cpus] == [False, True, True]
    assert facts.nohz_full == (1, 2)
    assert host({f"{CPU}/nohz_full": "(null)"}).nohz_full == ()


def test_distances_of_sparse_nodes_follow_the_list_of_online_nodes() -> None:
    facts = host({f"{NODE}/online": "0,33", f"{NODE}/node33/distance": "21 10"}, nodes=(0, 33))
    assert facts.numa_nodes[1].distances == {0: 21, 33: 10}


@pytest.mark.parametrize("text", ["10", "10 21 21", "10 -1", "10 x", ""])
def test_distances_that_do_not_fit_the_nodes_are_unknown(text: str) -> None:
    facts = host({f"{NODE}/online": "0-1", f"{NODE}/node0/distance": text}, nodes=(0, 1))
    assert facts.numa_nodes[0].distances == {}


def test_nodes_without_cpus_or_memory_are_nodes() -> None:
    facts = host(
        {
            f"{NODE}/node0/cpulist": "0",
            f"{NODE}/node0/meminfo": "Node 0 MemTotal:        0 kB\nNode 0 MemFree:   0 kB\n",
            f"{NODE}/node1/cpulist": "",
            f"{NODE}/node1/meminfo": "Node 1 MemTotal:   1024 kB\nNode 1 MemFree:  512 kB\n",
            f"{NODE}/has_generic_initiator": "1",
        },
        cpus=1,
        nodes=(0, 1, 2),
    )
    first, second, third = facts.numa_nodes
    assert (first.cpus, first.memory_bytes) == ((0,), 0)
    assert (second.cpus, second.memory_bytes, second.free_bytes) == ((), 1 << 20, 1 << 19)
    assert (first.generic_initiator, second.generic_initiator) == (False, True)
    assert (third.memory_bytes, third.free_bytes) == (None, None)


def test_hugepages_are_counted_by_node_and_size() -> None:
    base = f"{NODE}/node0/hugepages/hugepages-2048kB"
    facts = host({f"{base}/nr_hugepages": "8", f"{base}/free_hugepages": "x"}, nodes=(0,))
    pool = facts.numa_nodes[0].hugepages[2 << 20]
    assert (pool.total, pool.free) == (8, None)


BOOT = "[    0.000000] Linux version 6.1.0\n"
IR_LINE = "[    1.2] DMAR-IR: Enabled IRQ remapping in xapic mode"


@pytest.mark.parametrize(
    ("log", "interrupts", "expected"),
    [
        (BOOT + IR_LINE, None, True),
        (BOOT + "[    1.0] AMD-Vi: Interrupt remapping enabled", "remapped 9\nplain 0", True),
        (BOOT + "[    1.0] DMAR: IOMMU enabled", None, False),
        ("[  900.0] later line\n", None, None),
        ("[  900.0] later line\n", "remapped 3\nplain 0", True),
        ("[  900.0] later line\n", "remapped 0\nplain 5", False),
        (BOOT + IR_LINE, "remapped 0\nplain 5", False),
        ("", "remapped 0\nplain 0", None),
        ("", None, None),
    ],
)
def test_interrupt_remapping_is_on_off_or_unknown(
    log: str, interrupts: str | None, expected: bool | None
) -> None:
    commands = {"dmesg": Output(status=0, text=log)}
    if interrupts is not None:
        commands["interrupts"] = Output(status=0, text=interrupts)
    assert host(commands=commands).iommu.interrupt_remapping is expected


def test_groups_and_vfio_parameters() -> None:
    facts = host(
        {
            f"{GROUPS}/15/type": "identity\n",
            "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "Y\n",
            "/sys/module/vfio_pci/parameters/disable_idle_d3": "N\n",
        },
        listings={
            GROUPS: ("15", "2"),
            f"{GROUPS}/15/devices": ("0000:41:00.1", "0000:41:00.0", "ACPI0010:00"),
            "/dev/vfio": ("15", "devices", "vfio"),
            "/dev/vfio/devices": ("vfio0",),
        },
        present=("/dev/iommu",),
    )
    assert [g.id for g in facts.iommu.groups] == [2, 15]
    group = facts.group(15)
    assert group is not None
    assert [str(a) for a in group.devices] == ["0000:41:00.0", "0000:41:00.1"]
    assert group.type == "identity"
    assert facts.iommu.unsafe_interrupts is True
    assert facts.iommu.vfio_parameters["vfio_pci.disable_idle_d3"] == "N"
    assert facts.iommu.vfio_device_nodes == ("/dev/vfio/15", "/dev/vfio/vfio", "/dev/vfio/devices/vfio0")
    assert facts.iommu.iommufd


UUID = "fece1e2c-3d6b-41df-b694-8da01853f16d"
OTHER = "11111111-3d6b-41df-b694-8da01853f16d"


def test_running_and_defined_domains_are_told_apart() -> None:
    command = [
        "/usr/bin/qemu-system-x86_64",
        "-name",
        "guest=tenant,debug-threads=on",
        "-uuid",
        UUID,
        "-device",
        '{"driver":"vfio-pci","host":"0000:41:00.0","id":"hostdev0","bus":"pci.2"}',
        "-device",
        "vfio-pci,host=0000:42:00.0,id=x",
        "-device",
        "virtio-net-pci,host=0000:43:00.0",
    ]
    facts = host(
        {"/proc/77/cmdline": "\n".join(command)},
        commands={"virsh": Output(status=0, text=f"{UUID} tenant\n{OTHER} my spare\n\n")},
        present=("/proc/1",),
    )
    assert facts.domains is not None
    spare, tenant = facts.domains
    assert (spare.name, spare.uuid, spare.pid, spare.running) == ("my spare", OTHER, None, False)
    assert (tenant.name, tenant.uuid, tenant.pid, tenant.running) == ("tenant", UUID, 77, True)
    assert tenant.hostdevs == (PciAddress(0, 0x41, 0, 0), PciAddress(0, 0x42, 0, 0))


def test_libvirts_own_probe_of_qemu_is_not_a_guest() -> None:
    probe = ["/usr/bin/qemu-system-x86_64", "-S", "-nodefaults", "-machine", "none,accel=kvm:tcg"]
    version = "qemu-system-x86_64\n--version\n"
    facts = host({"/proc/468/cmdline": "\n".join(probe), "/proc/469/cmdline": version}, present=("/proc/1",))
    assert facts.domains == ()


def test_no_domains_and_not_asked_differ() -> None:
    assert host().domains is None
    assert host(present=("/proc/1",)).domains == ()
    broken = host(commands={"virsh": Output(status=1, text="error: failed to connect")})
    assert broken.domains is None
    assert any("libvirt did not list its domains" in w for w in broken.warnings)


def test_holders_of_device_files() -> None:
    found = host(commands={"holders": Output(status=1, text="/proc/7/fd/3 /dev/vfio/15\nrubbish\n")})
    assert found.device_holders == (DeviceHolder(pid=7, path="/dev/vfio/15"),)
    assert host(commands={"holders": Output(status=127, text="")}).device_holders is None


def test_firmware_that_says_nothing_is_unknown() -> None:
    facts = host(
        {
            "/sys/class/dmi/id/product_serial": "To Be Filled By O.E.M.",
            "/sys/class/dmi/id/sys_vendor": "ACME",
            "/sys/class/dmi/id/product_name": "X1",
        }
    )
    assert (facts.product, facts.serial) == ("ACME X1", None)


def test_storage_of_the_working_directory() -> None:
    text = (
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 6102624 904876 4866792 16% /\n"
    )
    facts = host(commands={"df /var/lib/shakedown": Output(status=0, text=text)})
    assert facts.storage[0].path == "/var/lib/shakedown"
    assert (facts.storage[0].total_bytes, facts.storage[0].free_bytes) == (6102624 * 1024, 4866792 * 1024)
    broken = host(commands={"df /x": Output(status=1, text="df: no such file\n")})
    assert broken.storage[0].free_bytes is None


@pytest.mark.parametrize("end", ["", "\n", "\n\0", "\0", "\0\n"])
@pytest.mark.parametrize("name", ["thread_siblings_list", "core_cpus_list"])
def test_lists_may_end_in_nul_and_siblings_go_by_either_name(name: str, end: str) -> None:
    facts = host(
        {
            f"{CPU}/online": f"0-1{end}",
            f"{NODE}/online": f"0{end}",
            f"{NODE}/node0/cpulist": f"0-1{end}",
            **{f"{CPU}/cpu{cpu}/topology/{name}": f"0-1{end}" for cpu in (0, 1)},
        },
        cpus=2,
        nodes=(0,),
    )
    assert facts.numa_nodes[0].cpus == (0, 1)
    assert [cpu.siblings for cpu in facts.cpus] == [(0, 1), (0, 1)]


@pytest.mark.parametrize("name", ["thread_siblings", "core_cpus"])
def test_a_mask_says_which_threads_share_a_core_where_no_list_does(name: str) -> None:
    masks = {f"{CPU}/cpu{cpu}/topology/{name}": "00000000,00000005\0" for cpu in (0, 2)}
    facts = host({f"{CPU}/online": "0-2", **masks}, cpus=3)
    assert [cpu.siblings for cpu in facts.cpus] == [(0, 2), (), (0, 2)]


@pytest.mark.parametrize(
    ("files", "architecture"),
    [
        ({"/proc/sys/kernel/arch": "riscv64\n"}, "riscv64"),
        ({"/proc/sys/kernel/arch": "aarch64", "/proc/cpuinfo": "vendor_id\t: GenuineIntel\n"}, "aarch64"),
        ({"/proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\n"}, "x86_64"),
        ({"/proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\n"}, "aarch64"),
        ({"/proc/cpuinfo": "processor\t: 0\ncpu\t\t: POWER9, altivec supported\n"}, "ppc64le"),
        ({"/proc/cpuinfo": "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdcv\n"}, "riscv64"),
        ({"/proc/cpuinfo": "vendor_id       : IBM/S390\n# processors    : 4\n"}, "s390x"),
        ({"/proc/cpuinfo": "system type\t\t: generic-loongson-machine\n\nprocessor\t: 0\n"}, "loongarch64"),
        ({"/proc/cpuinfo": "processor\t: 0\n"}, None),
        ({"/proc/sys/kernel/arch": "$(reboot)"}, None),
        ({}, None),
    ],
)
def test_the_architecture_is_the_kernels_word_or_what_only_one_says(
    files: dict[str, str], architecture: str | None
) -> None:
    assert host(files).architecture == architecture
