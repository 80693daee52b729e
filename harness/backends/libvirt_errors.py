"""What libvirt's and QEMU's words mean to a person who prepares a host for passthrough."""

from __future__ import annotations

import re

# Pattern over libvirt's message, remedy. First match counts. The words are those of libvirt 9-10 and
# QEMU 7-10 (hw/vfio, util/mmap-alloc); the situations are listed in VFIO's kernel documentation.
_REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"Failed to connect socket|Connection refused|libvirt-sock|nc: |virt-ssh-helper",
        "install and start libvirt on the host: `apt install libvirt-daemon-system`, "
        "`systemctl enable --now libvirtd.socket`",
    ),
    (
        r"group \d+ is not viable",
        "bind every endpoint of that IOMMU group to vfio-pci or leave it without driver "
        "(`ls -l /sys/kernel/iommu_groups/N/devices/*/driver`), or give the whole group to one guest",
    ),
    (
        r"in use by driver|is in use by|already in use by|is in use by driver|is not assignable",
        "another domain or driver holds the device: stop that domain, or wait for its release",
    ),
    (
        r"VFIO_MAP_DMA|vfio_dma_map|vfio_container_dma_map|cannot limit locked memory"
        r"|VFIO.*Cannot allocate memory",
        "the guest's memory could not be pinned for DMA: raise the locked-memory limit, free memory, or see "
        "that guest RAM and BARs fit the IOMMU's address width",
    ),
    (
        r"interrupt remapping|No interrupt remapping|unsafe_interrupts",
        "enable interrupt remapping in the firmware (and remove `intremap=off`); "
        "`vfio_iommu_type1.allow_unsafe_interrupts=1` only hides the security hole",
    ),
    (
        r"hugepage|unable to map backing store|os_mem_prealloc|preallocate memory|Cannot allocate memory"
        r"|cannot set up guest memory|Insufficient free host memory|out of memory",
        "the planned node has too few free hugepages: compare "
        "/sys/devices/system/node/node*/hugepages/*/free_hugepages with the plan",
    ),
    (
        r"IOMMU|no iommu_group|iommu group for device .*not found|host doesn't support passthrough",
        "enable the IOMMU: VT-d or AMD-Vi in the firmware, and `intel_iommu=on` on the kernel command "
        "line of Intel hosts; then reboot",
    ),
    (
        r"Unable to change power state|header type '127'|Unknown PCI header type",
        "the device no longer responds: power the host off and on; set vfio_pci.disable_idle_d3=1 if it "
        "happens again",
    ),
    (
        r"could not open '/dev/vfio|open /dev/vfio|Device or resource busy",
        "something still uses the device or its group: look for leftover QEMU processes (`fuser "
        "/dev/vfio/*`) and wait until they are gone",
    ),
    (
        r"KVM is not available|/dev/kvm|invalid argument: could not find capabilities|does not support.*kvm",
        "enable virtualisation (VT-x or AMD-V) in the firmware and load kvm_intel or kvm_amd",
    ),
    (
        r"Permission denied",
        "QEMU's user (libvirt-qemu) cannot read that path: keep images below /var/lib, never in /root",
    ),
    (
        r"Device [0-9a-f:.]+ not found|/sys/bus/pci/devices/",
        "the device is not on the host: compare `lspci -D` with the plan; a card that fell off the bus "
        "needs a power cycle",
    ),
    (
        r"XML document failed to validate|unsupported configuration|XML error",
        "the host's libvirt refuses the domain XML (kept in the run directory); compare versions",
    ),
    (
        r"Cannot access storage file|No such file or directory|Could not open",
        "the guest image is missing on the host; run again so that it is copied",
    ),
    (
        r"cannot recv data|End of file while reading|socket is closed|client socket",
        "the connection to libvirt was lost: check that the host is up and that libvirtd did not crash",
    ),
    (
        r"network .*(is not active|not found)|no network with matching name",
        "start the guest network again; `virsh net-list --all` on the host shows it",
    ),
    (r"No space left on device", "free disk space on the host below the host file's `work_dir`"),
)

_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), remedy) for pattern, remedy in _REMEDIES)


def remedy_for(words: str) -> str:
    """The remedy for libvirt's words; a pointer to its log for words we do not know."""
    for pattern, remedy in _COMPILED:
        if pattern.search(words):
            return remedy
    return "see `journalctl -u libvirtd` and /var/log/libvirt/qemu/ on the host"
