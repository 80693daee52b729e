"""What libvirt said of domains while they ran, also of what was over again before anybody looked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from harness.model.host_change import HostChange, Weight
from harness.telemetry.host.grounds import Grounds
from harness.telemetry.host.lines import HostSpool
from harness.telemetry.host.table import EVENTS, NOTHING, by_name

_EVENT = re.compile(
    r"(?P<when>\S+ \S+): event '(?P<kind>[a-z-]{1,40})' for domain '?(?P<domain>[^':]{1,200})'?:?"
    r"(?: (?P<rest>.*))?"
)
_ENDED = re.compile(r"events of libvirt ended with status (?P<status>.+)")
_COMING = frozenset({"Defined", "Started", "Resumed"})


def told_by_libvirt(spool: HostSpool, grounds: Grounds, found: Sequence[HostChange]) -> list[HostChange]:
    """What libvirt said of our guests in their time; and of domains of others that are not ``found`` yet:
    they came and went between two looks."""
    told = {change.subject for change in found if change.what == "domain"}
    more: list[HostChange] = []
    for event in spool.events:
        match = _EVENT.fullmatch(event.text)
        if match is None:
            more += _ended(event.text, event.at, grounds)
            continue
        name, kind = match["domain"], match["kind"]
        word = (match["rest"] or "").partition(" ")[0] if kind == "lifecycle" else kind
        if name in grounds.domains:
            for window in grounds.windows:
                if window.domain == name and window.start <= event.at <= window.until and word in EVENTS:
                    what, weight = EVENTS[word]
                    change = _said(what, word, event.at, match)
                    more.append(replace(change, guest=window.guest, before="as it was", weight=weight))
        elif word in _COMING and name not in grounds.known and f"domain {name}" not in told:
            told.add(f"domain {name}")
            change = _said("domain", f"domain {name}", event.at, match)
            more.append(replace(change, weight=Weight.TOLD if grounds.sharing else change.weight))
    return more


def _said(what: str, subject: str, at: float, match: re.Match[str]) -> HostChange:
    row = by_name(what)
    return HostChange(
        what=what,
        subject=subject,
        before=NOTHING,
        after=f"{match['kind']}: {match['rest'] or ''} ({match['when'][:80]})"[:300],
        since=at,
        at=at,
        source="virsh event",
        weight=row.weight,
        why=row.why,
    )


def _ended(text: str, at: float, grounds: Grounds) -> list[HostChange]:
    ended = _ENDED.fullmatch(text)
    if ended is None or not grounds.windows:
        return []
    row = by_name("libvirt")
    words = "no virsh on the host" if ended["status"] == "127" else f"ended with status {ended['status']}"
    return [
        HostChange(
            what=row.name,
            subject="events",
            before="heard",
            after=f"{words}: a pause between two readings shows only in the guest's state",
            at=at,
            source="virsh event",
            weight=Weight.TOLD,
            why=row.why,
        )
    ]
