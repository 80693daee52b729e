"""Lines of a kernel log as events: codes of GPU drivers by the tables, all else by the kernel's own words.

There is one reader, by which the spools of a run, the looks at a log before and after it, and
``shakedown log`` are read.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from harness.model.kernel_codes import KernelCodes
from harness.model.outcome import Action
from harness.model.pci import PciAddress
from harness.model.telemetry import Family, KernelEvent, Ruling
from harness.telemetry.kernel.dialect import Coded
from harness.telemetry.kernel.form import Form, Part
from harness.telemetry.kernel.forms import form_of
from harness.telemetry.kernel.forms_bus import READY, WAITING
from harness.telemetry.kernel.records import MOST_TEXT, Mark, mark_of, read_record
from harness.telemetry.kernel.sentences import Speaker
from harness.telemetry.kernel.text import LONGEST, Line, Message, message, pieces, plain
from harness.vendors.dialects import DIALECTS

MOST_LINES = 1_000_000
"""Lines of one log that are kept: some 300 MB, and ten lines a second for a day. A log that has more is a
storm, whose rest counts as lost."""
MOST_ALIKE = 100
"""Events of one kind and device that are told from the beginning, and as many from the end."""

_RECORD_LINES, _RECORD_SECONDS = 40, 10.0
"""How far the lines of one hardware-error record may lie apart; the kernel prints them in one go."""
_WAIT_LINES, _WAIT_SECONDS = 4000, 200.0
"""How long a device that is waited for stays open; the kernel gives up after 60 s
(``PCIE_RESET_READY_POLL_MS``)."""
_DETAIL_LINES = 12
_MOST_OPEN = 1000
"""Groups of lines that are open at once; the oldest is closed when a log opens more."""

_WAITING = re.compile(WAITING, re.IGNORECASE | re.DOTALL)
_ANSWERED = re.compile(rf"{READY}|not ready \d+ ?ms after .{{1,60}}; giving up", re.IGNORECASE | re.DOTALL)
_DETAIL = re.compile(
    r"(?:AER: *)?(?:device \[\w{4}:\w{4}\] error status|\[ ?\d{1,2}\] \w|TLP Header|Error of this Agent)",
    re.IGNORECASE,
)
_ANEW = (re.compile(r"Linux version "), *(each.starts for each in DIALECTS if each.starts is not None))
"""A driver or a kernel that begins: what was wrong with its predecessor is over."""
_UNFINISHED = Form(
    kind="device trouble",
    family=Family.KERNEL,
    pattern=_WAITING,
    ruling=Ruling.RETEST,
    action=Action.RESTART_HOST,
    meaning="the kernel waited for a device, and the log does not show that it came back",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An event and where it stands."""

    first: int
    last: int
    """Numbers of its first and last line."""
    kind: str
    """Name of the trouble, for messages."""
    event: KernelEvent


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a line stands."""

    number: int
    at: float | None
    raw: str


@dataclass(slots=True)
class _Open:
    """Lines that belong together and are not all there yet."""

    key: tuple[str, ...]
    first: int
    here: _Place
    """Its first line, or the one that was told."""
    last: int
    device: PciAddress | None = None
    texts: list[str] = field(default_factory=list)
    told: Told | None = None
    """What it is already, where only its end is not known."""


def read_kernel(lines: Iterable[Line], source: str, codes: KernelCodes) -> tuple[KernelEvent, ...]:
    """What matters among the lines, in order. Never raises: a log may hold anything.

    A code that the tables do not know is an event of ruling ``unknown``, and so is a line that calls itself
    a code and cannot be read. Of a storm of events that are alike the first and the last ``MOST_ALIKE`` are
    told.
    """
    early: list[tuple[int, KernelEvent]] = []
    late: dict[tuple[object, ...], deque[tuple[int, KernelEvent]]] = {}
    seen: Counter[tuple[object, ...]] = Counter()
    for place, told in enumerate(tell(lines, codes)):
        event = replace(told.event, source=source)
        kind = (event.family, event.code, event.device, event.ruling)
        seen[kind] += 1
        if seen[kind] <= MOST_ALIKE:
            early.append((place, event))
        else:
            late.setdefault(kind, deque(maxlen=MOST_ALIKE)).append((place, event))
    kept = [*early, *(each for some in late.values() for each in some)]
    return tuple(event for _, event in sorted(kept, key=lambda each: each[0]))


def tell(lines: Iterable[Line], codes: KernelCodes) -> Iterator[Told]:
    """Each event of a log with its lines, counted from 1, in the order of their first ones.

    Never raises and holds a bounded part of the log. What several lines say together is one event.
    """
    yield from tell_numbered(((number, at, raw) for number, (at, raw) in enumerate(lines, 1)), codes)


def tell_numbered(lines: Iterable[tuple[int, float | None, str]], codes: KernelCodes) -> Iterator[Told]:
    """As ``tell``, for lines that bring their own ascending numbers."""
    reader = _Reader(codes)
    for number, at, raw in lines:
        yield from reader.take(number, at, raw)
    yield from reader.end()


class _Reader:
    def __init__(self, codes: KernelCodes) -> None:
        self._codes = codes
        self._open: dict[tuple[str, ...], _Open] = {}
        self._ready: list[tuple[int, int, Told]] = []
        self._count = 0
        self._causes: dict[PciAddress | None, str] = {}
        """Devices whose setting is known to be wrong, and how; None: one that was not named."""
        self._speakers = [Speaker(each, each.sentences) for each in DIALECTS if each.sentences is not None]
        self._now: float | None = None

    def take(self, number: int, at: float | None, raw: str) -> Iterator[Told]:
        for piece in pieces(raw):
            said = plain(piece)
            if said is not None:
                self._line(_Place(number, said[0] if at is None else at, raw[:LONGEST]), said[1])
        return self._released(number)

    def end(self) -> Iterator[Told]:
        for group in list(self._open.values()):
            self._close(group)
        return self._released(0)

    def _released(self, number: int) -> Iterator[Told]:
        if not self._open and not self._ready:
            return
        for group in list(self._open.values()):
            waits = group.key[0] == "wait"
            lines, seconds = (_WAIT_LINES, _WAIT_SECONDS) if waits else (_RECORD_LINES, _RECORD_SECONDS)
            at = self._now
            late = at is not None and group.here.at is not None and at - group.here.at > seconds
            if number and (number - group.last > lines or late):
                self._close(group)
        before = min((group.first for group in self._open.values()), default=None)
        while self._ready and (before is None or self._ready[0][0] < before):
            yield heapq.heappop(self._ready)[2]

    def _tell(self, told: Told) -> None:
        self._count += 1
        heapq.heappush(self._ready, (told.first, self._count, told))

    def _line(self, here: _Place, text: str) -> None:
        self._now = here.at if here.at is not None else self._now
        known = message(text)
        if any(begins.match(known.body) for begins in _ANEW):
            self._causes.clear()
        mark = mark_of(known)
        if mark is not None:
            self._recorded(here, mark)
            return
        if self._waited(here, known) or self._detailed(here, known):
            return
        said = _code(known.body, self._codes)
        if said is not None:
            # A code stands behind driver and device, unless its own words name the device.
            device = said.event.device or known.device
            event = replace(said.event, at=here.at, line=here.raw, device=device)
            self._tell(Told(first=here.number, last=here.number, kind=said.kind, event=event))
            return
        first = here.number
        speaker = next((each for each in self._speakers if each.speaks(known.body)), None)
        if speaker is not None:
            first, known = speaker.joined(here.number, known, lambda whole: form_of(whole) is not None)
        found = form_of(known)
        if found is not None:
            for each in self._speakers:
                each.over()
            self._formed(first, here, known, found)

    def _formed(self, first: int, here: _Place, known: Message, found: Form) -> None:
        device = known.device
        speaker = next((each for each in self._speakers if each.speaks(known.body)), None)
        if device is None and speaker and (first < here.number or found.family is Family.BUS):
            device = speaker.named
        ruling, action, meaning = found.ruling, found.action, found.meaning
        lost = speaker.dialect.lost if speaker and found.family is Family.BUS else None
        if lost is not None and (table := lost(self._codes)) is not None:
            ruling, action, meaning = table.ruling, table.action, table.meaning
        if found.part is Part.CAUSE:
            self._causes[device] = meaning
        cause = self._cause_of(device, known.body) if found.part is Part.EFFECT else ""
        if cause:
            ruling, action, meaning = (
                Ruling.CONFIG,
                Action.FIX_CONFIG,
                f"follows from a wrong setting: {cause}",
            )
        event = KernelEvent(
            source="",
            at=here.at,
            family=found.family,
            line=here.raw,
            device=device,
            ruling=ruling,
            action=action,
            meaning=meaning,
        )
        told = Told(first=first, last=here.number, kind=found.kind, event=event)
        if "Bus Error:" in known.body:
            self._hold(_Open(("detail", str(device)), first, here, here.number, told=told))
        else:
            self._tell(told)

    def _cause_of(self, device: PciAddress | None, body: str) -> str:
        """Why a driver could not take this device, where a line before said so of it. A cause that named no
        device is why the driver took none, and not why one that it took does not start."""
        if device is None:
            return next(iter(self._causes.values()), "")
        return self._causes.get(device) or (self._causes.get(None, "") if "probe" in body else "")

    def _waited(self, here: _Place, known: Message) -> bool:
        """A device that is waited for: nothing when it came back, else one event over all of it."""
        waits = _WAITING.match(known.body) is not None
        if not waits and not _ANSWERED.match(known.body):
            return False
        key = ("wait", str(known.device))
        if waits:
            group = self._open.get(key)
            if group is None:
                self._hold(_Open(key, here.number, here, here.number, known.device))
            else:
                group.last = here.number
            return True
        group = self._open.get(key)
        if group is None:
            return False
        del self._open[key]
        if known.body.lower().startswith("ready"):
            return True
        found = form_of(known)
        if found is not None:
            self._formed(group.first, here, known, found)
        return True

    def _detailed(self, here: _Place, known: Message) -> bool:
        """A line that only says more of the PCIe error before it; it has no ruling of its own."""
        if not _DETAIL.match(known.body) or known.device is None:
            return False
        group = self._open.get(("detail", str(known.device)))
        if group is not None and group.told is not None and here.number - group.last <= _DETAIL_LINES:
            group.last = here.number
            group.told = replace(group.told, last=here.number)
        return True

    def _recorded(self, here: _Place, mark: Mark) -> None:
        key = ("record", *mark.key)
        group = self._open.get(key)
        if group is not None and mark.begins(group.texts):
            self._close(group)
            group = None
        if group is None:
            group = _Open(key, here.number, here, here.number, mark.device)
            self._hold(group)
        group.last = here.number
        if len(group.texts) < MOST_TEXT:
            group.texts.append(mark.rest)

    def _hold(self, group: _Open) -> None:
        older = self._open.get(group.key)
        if older is not None:
            self._close(older)
        if len(self._open) >= _MOST_OPEN:
            self._close(next(iter(self._open.values())))
        self._open[group.key] = group

    def _close(self, group: _Open) -> None:
        self._open.pop(group.key, None)
        if group.told is not None:
            self._tell(group.told)
            return
        if group.key[0] == "wait":
            family, kind = _UNFINISHED.family, _UNFINISHED.kind
            ruling, action, meaning = _UNFINISHED.ruling, _UNFINISHED.action, _UNFINISHED.meaning
            device = group.device
        else:
            record = read_record(group.texts, group.key[1], group.device)
            family, kind, device = record.family, record.kind, record.device
            ruling, action, meaning = record.ruling, record.action, record.meaning
        event = KernelEvent(
            source="",
            at=group.here.at,
            family=family,
            line=group.here.raw,
            device=device,
            ruling=ruling,
            action=action,
            meaning=meaning,
        )
        self._tell(Told(first=group.first, last=group.last, kind=kind, event=event))


def _code(body: str, codes: KernelCodes) -> Coded | None:
    readers = (dialect.coded for dialect in DIALECTS if dialect.coded is not None)
    return next((said for reader in readers if (said := reader(body, codes)) is not None), None)
