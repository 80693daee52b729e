"""What tells the makers of GPUs apart in text: ids, driver modules, device files, words before a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorNames:
    """The names of one maker of GPUs, as PCI, kernel and libraries use them."""

    name: str
    """As people write it: ``NVIDIA``."""
    pci_ids: tuple[str, ...]
    """PCI vendor ids, four lower-case hex digits each."""
    modules: tuple[str, ...]
    """Kernel modules that drive its GPUs, the vendor's own first."""
    waiting: tuple[str, ...] = ()
    """Those of its modules that wait without end for a GPU's users when the GPU is taken from them."""
    stop_users: str = ""
    """How a person ends the programs that hold its GPUs: shell words."""
    switches: tuple[tuple[str, str], ...] = ()
    """Switches between its GPUs: PCI vendor id, and what the class begins with."""
    repeats: tuple[str, ...] = ()
    """Modules that say their name again behind the device: ``amdgpu 0000:41:00.0: amdgpu: ring ...``."""
    marks: tuple[str, ...] = ()
    """What stands before the words of its drivers instead of driver and device, as ``NVRM:``."""
    device_files: tuple[str, ...] = ()
    """Patterns below /dev of the files by which programs reach its GPUs; ``*`` stands for any text."""
