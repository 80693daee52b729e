"""Where the processors of a guest are that does not answer: what its console does not say, QEMU knows."""

from __future__ import annotations

import json

from harness.errors import HarnessError
from harness.ports import Clock, Hypervisor
from harness.record.recorder import Recorder

QUERY = json.dumps({"execute": "human-monitor-command", "arguments": {"command-line": "info registers -a"}})
"""All registers of all vCPUs as text (QEMU's human monitor; QMP has no command for them)."""
_BETWEEN_SECONDS = 1.0


def keep_vcpus(recorder: Recorder, hypervisor: Hypervisor, clock: Clock, *, guest: str, domain: str) -> str:
    """Keep the registers of the guest's vCPUs, read twice: a loop and a stop look alike in one reading.

    Returns the file's name in the run directory. What cannot be asked is in it in words: it explains a
    failure, and must not be one.
    """
    readings = []
    for number in range(2):
        if number:
            clock.sleep(_BETWEEN_SECONDS)
        try:
            readings.append(hypervisor.qmp(domain, QUERY))
        except HarnessError as error:
            readings.append(error.message)
    return recorder.save_file(f"transcripts/{guest}-vcpus.json", json.dumps(readings, indent=1).encode())
