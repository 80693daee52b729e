"""The rows of the table held to what the follower read: what changed of what must not, and who came.

Whose a process is follows from libvirt's own files and from the tree of our connection, never from a name
that somebody gave it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.model.host_change import HostChange, Weight
from harness.model.pci import PciAddress
from harness.telemetry.host.grounds import Grounds, GuestWindow
from harness.telemetry.host.lines import Asked, HostSpool
from harness.telemetry.host.table import NOTHING, About, Watched
from harness.telemetry.host.tasks import DAEMON

_PID_FILE = re.compile(r"[^:]*/(?P<domain>[^/:]{1,200})\.pid")
_SCOPE = re.compile(r"/machine-qemu-\d{1,10}-(?P<name>[^/]{1,200})\.scope/")


@dataclass(frozen=True, slots=True)
class _Series:
    """One file's values, and since which of the times they were so."""

    guest: str
    path: str
    values: Sequence[tuple[int, dict[str, str]]]
    times: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Seen:
    """Somebody of others: where, what of him, and from which reading to which."""

    path: str
    value: str
    first: int
    gone: int | None


class Rows:
    """One property after the other."""

    def __init__(self, spool: HostSpool, grounds: Grounds) -> None:
        self._spool = spool
        self._grounds = grounds
        self.asked: dict[str, int] = {}
        self._pids = _domains_of(spool)
        self._ours = frozenset[int]().union(*(look.ours for look in spool.looks))

    # -- what is ours ------------------------------------------------------------------------------------

    def changes(self, row: Watched) -> list[HostChange]:
        """Of one property, in each time in which it must not change."""
        asked = self._spool.asked.get(row.source, Asked(times=[], files={}))
        found: list[HostChange] = []
        for guest, start, end, mine in self._spans(row):
            name = f"{row.name} of {guest}" if guest else row.name
            seen = False
            for path, states in asked.files.items():
                values = [(place, self._values(row, path, lines, mine)) for place, lines in states]
                seen = seen or any(value for _, value in values)
                found += _changed(row, _Series(guest, path, values, asked.times), start, end)
            if row.due:
                reads = sum(1 for time in asked.times if start <= time <= end)
                self.asked[name] = reads if seen else 0
        return found

    def _spans(self, row: Watched) -> Iterator[tuple[str, float, float, Callable[[re.Match[str]], bool]]]:
        """Whose property, from when to when, and which matches are of them."""
        grounds = self._grounds
        if row.about is About.HOST:
            yield "", -math.inf, math.inf, lambda _match: True
        elif row.about is About.DEVICE and grounds.bare:
            yield "", -math.inf, math.inf, lambda match: _device(match) in grounds.gpus
        else:
            for window in grounds.windows:
                mine = self._device_of(window) if row.about is About.DEVICE else self._part_of(window)
                yield window.guest, window.start, window.until, mine

    @staticmethod
    def _device_of(window: GuestWindow) -> Callable[[re.Match[str]], bool]:
        return lambda match: _device(match) in window.devices

    def _part_of(self, window: GuestWindow) -> Callable[[re.Match[str]], bool]:
        def mine(match: re.Match[str]) -> bool:
            groups = match.groupdict()
            if groups.get("pid"):
                return self._pids.get(int(groups["pid"])) == window.domain
            if groups.get("domain"):
                return groups["domain"] == window.domain
            # A cgroup: systemd writes "-" of a name as "\\x2d", and libvirt cuts a long name.
            scope = _SCOPE.search(groups.get("what", "").replace("\\x2d", "-"))
            return scope is not None and window.domain.startswith(scope["name"])

        return mine

    @staticmethod
    def _values(
        row: Watched, path: str, lines: Iterable[str], mine: Callable[[re.Match[str]], bool]
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in lines:
            match = row.reads.match(f"{path}:{line}")
            if match is not None and mine(match):
                found[match["what"]] = (match["value"] or "").strip(" />")[:200]
        return found

    # -- what is not -------------------------------------------------------------------------------------

    def foreign(self, row: Watched) -> list[HostChange]:
        """Processes and domains of others that came, each once."""
        grounds, asked = self._grounds, self._spool.asked.get(row.source)
        if asked is None or (grounds.bare and row.name == "holder"):
            return []  # on a bare machine our own loads have the GPUs open; telemetry tells who else has
        self.asked[row.name] = len(asked.times)
        seen: dict[str, _Seen] = {}
        for path, states in asked.files.items():
            for (place, lines), after in zip(states, [*states[1:], None], strict=True):
                for line in lines:
                    match = row.reads.match(f"{path}:{line}")
                    who = self._foreigner(match) if match is not None else ""
                    if match is not None and who:
                        one = seen.get(who, _Seen(path, match["value"] or "defined", place, None))
                        gone = None if after is None else after[0]
                        seen[who] = replace(one, first=min(one.first, place), gone=gone)
        return [self._came(row, who, asked, one) for who, one in seen.items()]

    def _foreigner(self, match: re.Match[str]) -> str:
        """Who it is; empty for one that is ours or was there before."""
        groups, grounds = match.groupdict(), self._grounds
        if groups.get("pid"):
            pid = int(groups["pid"])
            daemon = next((p for p, name in self._pids.items() if name == DAEMON), 0)
            ours = self._pids.get(pid) in grounds.domains or pid in self._ours
            probe = daemon and self._spool.parents.get(pid) == daemon
            if ours or probe or str(pid) in grounds.known:
                return ""
            return f"process {pid} ({self._spool.names.get(pid, 'name unknown')})"
        name, value = groups["what"], groups["value"] or ""
        if name in grounds.domains or name in grounds.known or value in grounds.known or name == DAEMON:
            return ""
        return f"domain {name}"

    def _came(self, row: Watched, who: str, asked: Asked, seen: _Seen) -> HostChange:
        """One that shows in a single look at open files may be libvirt's probe of QEMU, or a tool that asks a
        driver: told. One that stays, and a domain, counts."""
        last = len(asked.times) if seen.gone is None else seen.gone
        passing = row.name == "holder" and last - seen.first < 2
        return HostChange(
            what=row.name,
            subject=who,
            before=NOTHING,
            after="there" if seen.value.isdecimal() else seen.value,
            since=asked.times[seen.first - 1] if seen.first else None,
            at=asked.times[seen.first],
            until=None if seen.gone is None else asked.times[seen.gone],
            source=seen.path,
            weight=Weight.TOLD if passing or self._grounds.sharing else row.weight,
            why=row.why,
        )


def _device(match: re.Match[str]) -> PciAddress | None:
    try:
        return PciAddress.parse(match["device"])
    except ValueError:
        return None


def _domains_of(spool: HostSpool) -> dict[int, str]:
    """Process to domain, of all that libvirt ever wrote down; ``driver`` is its daemon."""
    found: dict[int, str] = {}
    asked = spool.asked.get("libvirt", Asked(times=[], files={}))
    for path, states in asked.files.items():
        match = _PID_FILE.fullmatch(path)
        for _, lines in states if match is not None else ():
            if match is not None and lines and lines[0].isdecimal() and len(lines[0]) < 11:
                found[int(lines[0])] = match["domain"]
    for look in spool.looks:
        found.update({pid: name for name, pid in look.domains.items()})
    return found


def _changed(row: Watched, series: _Series, start: float, end: float) -> list[HostChange]:
    """The changes of one file within a time; the last value before it is what it is held to."""
    found: list[HostChange] = []
    times = series.times
    before = [value for place, value in series.values if times[place] <= start]
    inside = [(place, value) for place, value in series.values if start < times[place] <= end]
    held: dict[str, str] = before[-1] if before else {}
    if not before and inside and (inside[0][0] == 0 or not row.comes_and_goes):
        held = inside.pop(0)[1]  # when it was first asked, this was so
    first, going_on = dict(held), dict[str, int]()
    for place, value in inside:
        for what in sorted({*held, *value}):
            was, now = held.get(what), value.get(what)
            if was == now or not _counts(row, was, now):
                continue
            if what in going_on:
                number = going_on.pop(what)
                found[number] = replace(found[number], until=times[place])
                if now == first.get(what):
                    continue
            going_on[what] = len(found)
            found.append(
                HostChange(
                    what=row.name,
                    subject=what,
                    guest=series.guest,
                    before=was if was is not None else NOTHING,
                    after=now if now is not None else NOTHING,
                    since=times[place - 1] if place else None,
                    at=times[place],
                    source=series.path,
                    weight=row.weight,
                    why=row.why,
                )
            )
        held = dict(value) if row.comes_and_goes else {**held, **value}
    return found


def _counts(row: Watched, was: str | None, now: str | None) -> bool:
    if was is None or now is None:
        return row.comes_and_goes
    return row.differs(was, now)
