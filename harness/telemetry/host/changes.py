"""What changed on the host, or of its guests, while loads ran.

What a guest has must not change in its own time: from the first look at it after its boot to the last one
after its loads. Before and after that, libvirt and we change it on purpose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from harness.model.host_change import HostChange, Weight
from harness.telemetry.host.events import told_by_libvirt
from harness.telemetry.host.grounds import Grounds
from harness.telemetry.host.lines import HostSpool
from harness.telemetry.host.rows import Rows
from harness.telemetry.host.table import HUGEPAGES, WATCHED, About

MOST_CHANGES = 300
"""So many are kept. Whoever changes more has changed the host."""
_HUGE = re.compile(r"/sys/devices/system/node/node(\d{1,6})/hugepages/hugepages-(\d{1,12})kB/free_hugepages")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The changes in the order of time, how often each property was read, and what could not be kept."""

    changes: tuple[HostChange, ...]
    asked: dict[str, int]
    problems: tuple[str, ...] = ()


def find_changes(spool: HostSpool, grounds: Grounds) -> Found:
    """All of them. Never raises for what a host printed."""
    reader = Rows(spool, grounds)
    found: list[HostChange] = []
    for row in WATCHED:
        found += reader.foreign(row) if row.about is About.FOREIGN else reader.changes(row)
    found += told_by_libvirt(spool, grounds, found)
    found += _hugepages(spool, grounds)
    found.sort(key=lambda change: (change.at or 0.0, change.what, change.subject))
    worst = sorted(found, key=lambda change: change.weight is not Weight.HARMFUL)[:MOST_CHANGES]
    more = len(found) - len(worst)
    return Found(
        changes=tuple(change for change in found if change in worst) if more else tuple(found),
        asked=reader.asked,
        problems=(f"{more} more changes of the host are not kept",) if more else (),
    )


def _hugepages(spool: HostSpool, grounds: Grounds) -> list[HostChange]:
    """Pages that were taken or given back while guests ran that have theirs."""
    found: dict[tuple[str, float], HostChange] = {}
    for window in grounds.windows:
        for path, changes in spool.changes.items():
            match = _HUGE.fullmatch(path)
            values = [(spool.times[place], lines[0]) for place, lines in changes if lines] if match else []
            held = [value for value in values if value[0] <= window.start][-1:]
            inside = [value for value in values if window.start < value[0] <= window.until]
            for (since, was), (at, now) in pairwise([*held, *inside]):
                subject = f"node {int(match[1])}, pages of {int(match[2])} KiB" if match else ""
                found[subject, at] = HostChange(
                    what=HUGEPAGES.name,
                    subject=subject,
                    before=f"{was[:20]} free",
                    after=f"{now[:20]} free",
                    since=since,
                    at=at,
                    source=path,
                    weight=HUGEPAGES.weight,
                    why=HUGEPAGES.why,
                )
    return list(found.values())
