"""What is asked of a host: the script, and the attribute names that script and captured trees share.

Sources: kernel documentation ``ABI/testing/sysfs-bus-pci``, ``sysfs-devices-system-cpu``,
``sysfs-devices-node``, ``sysfs-kernel-iommu_groups`` and ``admin-guide/mm/hugetlbpage``.
"""

from __future__ import annotations

from harness.scripts.script import Script
from harness.vendors.names import DEVICE_FILES, LOG_WORDS

PCI = "/sys/bus/pci/devices"
CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"
GROUPS = "/sys/kernel/iommu_groups"
DMI = "/sys/class/dmi/id"

SYSTEM_FILES = (
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/arch",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sys/kernel/numa_balancing",
    "/proc/uptime",
    "/etc/machine-id",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
DMI_ATTRIBUTES = (
    "sys_vendor",
    "product_name",
    "product_serial",
    "board_vendor",
    "board_name",
    "board_version",
    "bios_vendor",
    "bios_version",
    "bios_date",
)
CPU_LISTS = ("online", "offline", "possible", "present", "isolated", "nohz_full")
CPU_ATTRIBUTES = (
    "online",
    "topology/physical_package_id",
    "topology/core_id",
    "topology/core_cpus_list",
    "topology/thread_siblings_list",
)
NODE_LISTS = ("online", "has_cpu", "has_memory", "has_generic_initiator")
NODE_ATTRIBUTES = ("cpulist", "distance", "meminfo")
POOL_ATTRIBUTES = ("nr_hugepages", "free_hugepages")
PCI_ATTRIBUTES = (
    "vendor",
    "device",
    "class",
    "subsystem_vendor",
    "subsystem_device",
    "revision",
    "numa_node",
    "local_cpulist",
    "driver_override",
    "current_link_speed",
    "current_link_width",
    "max_link_speed",
    "max_link_width",
    "reset_method",
    "resource",
    "aer_dev_correctable",
    "aer_dev_nonfatal",
    "aer_dev_fatal",
    "aer_rootport_total_err_cor",
    "aer_rootport_total_err_nonfatal",
    "aer_rootport_total_err_fatal",
    "power_state",
    "d3cold_allowed",
    "power/control",
    "boot_vga",
    "sriov_totalvfs",
    "sriov_numvfs",
    "label",
)
PCI_LINKS = ("driver", "iommu_group", "physfn")
PCI_MARKS = ("reset", "reset_method", *(f"resource{bar}_resize" for bar in range(6)))

OLDER_CPU_ATTRIBUTES = ("topology/core_cpus", "topology/thread_siblings")
"""Masks that captured trees of old kernels have instead of lists (``cpulist`` since Linux 2.6.26)."""
OLDER_NODE_ATTRIBUTES = ("cpumap",)
OLDER_PCI_ATTRIBUTES = ("local_cpus",)

KERNEL_WORDS = (
    "iommu|dmar|amd-vi|smmu|remap|vfio|aer[: ]|bus error|dpc[: ]|edr:|eeh:|pciehp|slot[(]|link (down|"
    "lost|up|layer|train)|retrain|hardware error|machine check|mce|edac|memory failure|poison|"
    f"corrupt|soft.?offlin|{'|'.join(LOG_WORDS)}|gpu|kvm|hugetlb|hugepage|d3cold|d3hot|"
    "power state|ready [0-9]|config space|rom header|unknown header|reset|adapter removed|(^|"
    "[^e])bug[: ]|oops|panic|(^|[^e])fault|trap|invalid opcode|unable to handle|internal error|"
    "serror|lockup|lockdown|hung task|blocked |stall|starved|out of memory|oom|of (unsigned )?module|"
    "about version of symbol|unknown symbol|version magic|firmware (load|over|version: 655)|memlock|"
    ": can.t (reserve|enable)|"
    "watchdog|time-?out|timed out|temperature|nmi|nobody cared|i/o error|error, dev|warning: |"
    "unstable|interrupt took|took too long|died|not responding|compromised|unavailable|power on the pcie|"
    "dazed|disabling irq|fs error|read-only|aborting journal|jbd2|failed (command|result)|probe failure|"
    "status: |device offlined|bad device|exception emask|btrfs|state error"
)
"""What a line of a kernel log must hold to be looked at, in lower case: an extended regular expression
without backslashes, which awk, grep and Python read alike. It is wider than the forms of
``harness.telemetry.kernel.forms``, which decide."""

LAST_NAMES = frozenset(
    path.rpartition("/")[2]
    for path in (
        *SYSTEM_FILES,
        *DMI_ATTRIBUTES,
        *CPU_LISTS,
        *CPU_ATTRIBUTES,
        *NODE_LISTS,
        *NODE_ATTRIBUTES,
        *POOL_ATTRIBUTES,
        *PCI_ATTRIBUTES,
        "firmware_revision",
        "scaling_governor",
        "smp_affinity_list",
        "address",
        "type",
    )
)
"""How every path that the script gives to ``grep -H`` ends; module parameters end in any name."""

SECTIONS = ("system", "cpus", "nodes", "pci", "iommu", "processes", "versions", "log")
"""The parts of a complete answer."""

SCRIPT = Script(
    name="facts",
    package="harness.facts",
    file="collect.sh",
    needs="a POSIX sh with grep, head, od, awk, df, date and tr",
)
"""All that one round trip asks: WORK_DIR KERNEL_WORDS DEVICE_FILE..., the last two as ``ARGUMENTS``."""

ARGUMENTS = (KERNEL_WORDS, *(f"/dev/{file}" for file in DEVICE_FILES))
