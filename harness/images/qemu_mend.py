"""One defect of QEMU's emulated SVM that no option works around, taken out of the builds that are known.

When a hypervisor inside (KVM of the lab host) hands an interrupt to its guest, ``helper_vmrun`` delivers it
itself and also leaves its vector in ``cpu->exception_index`` (target/i386/tcg/system/svm_helper.c, case
SVM_EVTINJ_TYPE_INTR; 11.1 has it). If something then makes that processor leave its loop before the next exit
(any device whose addresses change does), ``cpu_handle_interrupt`` finds a vector there, and the loop delivers
it once more, as an exception: also to a guest that has interrupts off. A second timer interrupt within the
code that keeps the time hangs that guest for good. Seen so on a guest of the lab, both frames on its stack.

The store of the vector is not needed. In a file that was looked at it becomes a no-operation; any other file
stays as it is, and that is told as a limit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mend:
    """One change of bytes in one file."""

    build: str
    """Of which package, in words."""
    sha256: str
    """Of the whole file as Debian ships it."""
    offset: int
    old: bytes
    new: bytes


MENDS = (
    Mend(
        build="qemu-system-x86 1:11.1.3+ds-1~bpo13+1 amd64",
        sha256="e69417a0c13d9b38221e515c79f890babc5026508767fc0657fd0b83bbfe40c3",
        offset=0x8C97A2,
        old=bytes.fromhex("89b350c2ffff"),  # mov %esi,-0x3db0(%rbx): cs->exception_index = vector
        new=bytes.fromhex("660f1f440000"),  # nopw 0x0(%rax,%rax,1)
    ),
)


def mend(binary: Path, known: tuple[Mend, ...] = MENDS) -> bool:
    """Mend a binary that is a known one. False, and nothing changed, for any other. Raises OSError."""
    data = bytearray(binary.read_bytes())
    found = hashlib.sha256(data).hexdigest()
    for each in known:
        end = each.offset + len(each.old)
        if each.sha256 == found and data[each.offset : end] == each.old and len(each.new) == len(each.old):
            data[each.offset : end] = each.new
            binary.write_bytes(data)
            return True
    return False
