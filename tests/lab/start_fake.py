"""Starts the stand-in QEMU in a lab's directory."""

from __future__ import annotations

from pathlib import Path

from harness.identity import ProcessId
from harness.lab import process
from harness.lab.machine import monitor_argument
from harness.lab.state import LabDirectory

FAKE_QEMU = Path(__file__).with_name("fake_qemu.py")


def start_fake(lab: LabDirectory, *, tied: bool = False) -> ProcessId:
    """A running stand-in whose monitor answers."""
    arguments = ("-qmp", monitor_argument(lab.monitor))
    return process.start((str(FAKE_QEMU),), arguments, monitor=lab.monitor, log=lab.log, die_with_parent=tied)
