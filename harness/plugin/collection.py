"""Which tests a session has, in which order, and what each of them stands for in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from harness.checks.base import USER, Phase
from harness.checks.engine import Planned, planned
from harness.checks.registry import CHECKS
from harness.model.evidence import LedgerRow
from harness.plugin import fixtures
from harness.plugin.demand import Demand
from harness.plugin.fixtures import OURS
from harness.plugin.subjects import Member
from harness.record.assemble import demanded

GROUP, MEMBER, PLANNED = "shakedown_group", "shakedown_member", "shakedown_planned"
"""The fixtures that take parameters."""
_PHASES = {phase.value: phase for phase in Phase}
_RANK = {Phase.PLACEMENT: 0, Phase.BURNIN: 1, Phase.RELEASE: 3}
"""Within a group; users' own tests come before the release."""
_USERS = 2


@dataclass(frozen=True, slots=True)
class Asks:
    """What one test asks: a planned cell of the ledger, or a user's own question."""

    check: str
    slot: str
    planned: Planned | None = None

    @property
    def own(self) -> bool:
        """True for a test that is not of a check: a user's."""
        return self.planned is None


def cells(demand: Demand) -> tuple[Planned, ...]:
    """All that the profile demands of this host and these guests."""
    return planned(CHECKS, demand.profile, demand.host, demanded(demand.profile, demand.guests))


def parametrize(metafunc: pytest.Metafunc, demand: Demand, whole: Iterable[Planned]) -> None:
    """One test for each cell of its phase, or for each guest, GPU or load that it is about."""
    names = ours(metafunc.definition)
    if PLANNED in names:
        _over_cells(metafunc, demand, whole)
    elif MEMBER in names:
        _over_members(metafunc, demand)
    elif GROUP in names:
        metafunc.parametrize(GROUP, demand.groups, indirect=True, scope="session", ids=demand.groups)


def _over_cells(metafunc: pytest.Metafunc, demand: Demand, whole: Iterable[Planned]) -> None:
    phases = {_PHASES[m.name] for m in metafunc.definition.iter_markers() if m.name in _PHASES}
    mine = [each for each in whole if each.phase in phases]
    if GROUP not in metafunc.fixturenames:
        ids = [_id(each) for each in mine]
        metafunc.parametrize(PLANNED, mine, indirect=True, scope="session", ids=ids)
        return
    groups = {guest.request.name: guest.group for guest in demand.guests}
    pairs = [(groups[each.guest], each) for each in mine if each.guest]
    metafunc.parametrize(
        (GROUP, PLANNED),
        pairs,
        indirect=True,
        scope="session",
        ids=[_id(each) for _, each in pairs],
    )


def _id(each: Planned) -> str:
    return each.check if each.slot in ("host", "none") else f"{each.slot}-{each.check}"


def _over_members(metafunc: pytest.Metafunc, demand: Demand) -> None:
    pairs = []
    for guest in demand.guests:
        name = guest.request.name
        gpus = range(guest.request.gpus) if "gpu" in metafunc.fixturenames else (0,)
        loads = guest.workloads if "load" in metafunc.fixturenames else ("",)
        for number in gpus:
            for load in loads:
                parts = [
                    name,
                    *([f"gpu{number}"] if "gpu" in metafunc.fixturenames else []),
                    *filter(None, [load]),
                ]
                pairs.append((guest.group, Member(guest=name, gpu=number, workload=load), "-".join(parts)))
    metafunc.parametrize(
        (GROUP, MEMBER),
        [(group, member) for group, member, _ in pairs],
        indirect=True,
        scope="session",
        ids=[name for _, _, name in pairs],
    )


def asks(item: pytest.Item) -> Asks | None:
    """What a test stands for; None for one that is not about the candidate at all."""
    if not ours(item) or nothing_planned(item):
        return None
    chosen = params(item).get(PLANNED)
    if isinstance(chosen, Planned):
        return Asks(chosen.check, chosen.slot, chosen)
    callspec = getattr(item, "callspec", None)
    name = getattr(item, "originalname", None) or item.name
    return Asks(f"{USER}{name}", callspec.id if callspec is not None else "host")


def ours(item: pytest.Item) -> set[str]:
    """The fixtures of this plugin that a test uses; one of the same name of somebody else's is not ours."""
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return {
        name
        for name in OURS & set(found)
        if found[name] and found[name][-1].func.__module__ == fixtures.__name__
    }


def nothing_planned(item: pytest.Item) -> bool:
    """Whether this is pytest's stand-in for a test of the suites that has nothing to be about."""
    given = params(item)
    return PLANNED in given and not isinstance(given[PLANNED], Planned)


def params(item: pytest.Item) -> Mapping[str, Any]:
    """The parameters of a test by name."""
    callspec = getattr(item, "callspec", None)
    found: Mapping[str, Any] = callspec.params if callspec is not None else {}
    return found


def in_order(items: list[pytest.Item], groups: tuple[str, ...]) -> list[pytest.Item]:
    """Readiness, then each group from placement to release, then what is asked afterwards; else as collected.

    Tests that are not about the candidate come first: nobody's guests wait for them.
    """
    place = {name: number for number, name in enumerate(groups)}

    def key(item: pytest.Item) -> tuple[int, int, int]:
        asked = asks(item)
        if asked is None:
            return (0, 0, 0)
        group = params(item).get(GROUP)
        if group in place:
            phase = asked.planned.phase if asked.planned is not None else None
            return (2, place[group], _RANK.get(phase, _USERS) if phase is not None else _USERS)
        if asked.planned is None or asked.planned.phase is Phase.READINESS:
            return (1, 0, int(asked.planned is None))
        return (3, 0, 0)

    return sorted(items, key=key)


def ledger(
    items: Iterable[pytest.Item], made: Iterable[pytest.Item], whole: Iterable[Planned]
) -> list[LedgerRow]:
    """A row for each test about the candidate that will run; for each that was ``made`` and then left out, by
    whatever means; and for each planned cell that no test was made for."""
    rows = {item.nodeid: row for item in items if (row := _row(item)) is not None}
    for item in made:
        row = _row(item)
        if row is not None and item.nodeid not in rows:
            rows[item.nodeid] = replace(row, deselected=True)
    known = {(row.check, row.slot) for row in rows.values()}
    absent = [each for each in whole if (each.check, each.slot) not in known]
    return [
        *rows.values(),
        *(LedgerRow(check=each.check, slot=each.slot, test="", deselected=True) for each in absent),
    ]


def _row(item: pytest.Item) -> LedgerRow | None:
    asked = asks(item)
    return None if asked is None else LedgerRow(check=asked.check, slot=asked.slot, test=item.nodeid)


def wanted(items: Iterable[pytest.Item], demand: Demand) -> dict[str, tuple[str, ...]]:
    """The loads that these tests ask about, by guest, in the order of the profile.

    A guest whose burn is asked about as a whole (its telemetry, say) gets all of its loads.
    """
    named: dict[str, set[str]] = {}
    whole: set[str] = set()
    for item in items:
        given = params(item)
        chosen, member = given.get(PLANNED), given.get(MEMBER)
        if isinstance(member, Member) and member.workload:
            named.setdefault(member.guest, set()).add(member.workload)
        if isinstance(chosen, Planned) and chosen.workload:
            named.setdefault(chosen.guest, set()).add(chosen.workload)
        elif isinstance(chosen, Planned) and chosen.phase is Phase.BURNIN:
            whole.add(chosen.guest)
    return {
        guest.request.name: tuple(
            load
            for load in guest.workloads
            if guest.request.name in whole or load in named.get(guest.request.name, ())
        )
        for guest in demand.guests
    }
