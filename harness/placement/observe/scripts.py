"""The two scripts that see where a guest runs: one on its host, one inside."""

from __future__ import annotations

from harness.scripts.script import Script

HOST = Script(
    name="placement-host",
    package="harness.placement.observe",
    file="host.sh",
    needs="a POSIX sh with grep, sed, tr, sort, cat and ls",
)
"""Arguments: a domain's name or its QEMU's pid, and the functions that were handed to it."""

GUEST = Script(
    name="placement-guest",
    package="harness.placement.observe",
    file="guest.sh",
    needs="a POSIX sh with grep",
)
"""Without arguments."""
