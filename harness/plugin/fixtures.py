"""Fixtures: those of a run, its host and its guests for everybody's tests; ``cell`` and what it stands on
for the suites. Without ``--candidate`` they skip.

What breaks is recorded, and a fixture that hands out what is broken raises. ``shakedown_group`` and the acts
(``loaded``, ``released``, ``settled``) never do: a check may still have something to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.checks.engine import Planned
    from harness.model.gpu import GpuRef
    from harness.plugin.cell import Cell
    from harness.plugin.run import Run
    from harness.plugin.subjects import Candidate, Guest, Guests, Load, Member

PLUGIN = "shakedown-qualification"
_FOR_ALL = ("run", "candidate", "guests", "guest", "gpu", "load")
_FOR_SUITES = ("cell", "loaded", "released", "settled")
_INNER = ("shakedown_run", "shakedown_group", "shakedown_member", "shakedown_planned")
"""Under all of the others, by names that nobody has: a fixture ``run`` of somebody's own changes no suite."""
OURS = frozenset((*_FOR_ALL, *_FOR_SUITES, *_INNER))
"""A test that uses one of them is about the candidate host."""


@pytest.fixture(scope="session")
def run(shakedown_run: Run) -> Run:
    """The run that this session is: ``path`` (its directory), ``id``, ``host``, ``profile``, ``evidence``."""
    return shakedown_run


@pytest.fixture(scope="session")
def shakedown_run(request: pytest.FixtureRequest) -> Run:
    """The run, begun with the session."""
    session: Any = request.config.pluginmanager.get_plugin(PLUGIN)
    if session is None:
        pytest.skip("no candidate host: give --candidate NAME")
    begun: Run = session.run
    return begun


@pytest.fixture(scope="session")
def candidate(shakedown_run: Run) -> Candidate:
    """The candidate host: reached, discovered, claimed and watched. ``facts``, ``run(*argv)``, ``infra``."""
    from harness.plugin.subjects import Candidate  # noqa: PLC0415  ordinary sessions must not pay for it

    return Candidate.of(shakedown_run)


@pytest.fixture(scope="session")
def shakedown_group(shakedown_run: Run, request: pytest.FixtureRequest) -> Iterator[str]:
    """The group of guests that a test is about: provisioned here, given back whatever happens in between."""
    name: str = request.param
    shakedown_run.provision(name)
    yield name
    shakedown_run.release(name)


@pytest.fixture
def guests(shakedown_run: Run, shakedown_group: str) -> Guests:
    """The guests that live at the same time, all of them up: one, or those of a profile's ``together``."""
    from harness.plugin.subjects import Guests  # noqa: PLC0415  as above

    return Guests.of(shakedown_run, shakedown_group)


@pytest.fixture(scope="session")
def shakedown_member(request: pytest.FixtureRequest) -> Member:
    """Which guest of the group, and which GPU or load of it, a test is about."""
    chosen: Member = request.param
    return chosen


@pytest.fixture
def guest(shakedown_run: Run, shakedown_group: str, shakedown_member: Member) -> Guest:
    """One guest, up and in place: ``name``, ``gpus``, ``plan``, ``run(*argv)``, ``infra``."""
    from harness.plugin.subjects import Guest  # noqa: PLC0415  as above

    return Guest.of(shakedown_run, shakedown_group, shakedown_member.guest)


@pytest.fixture
def gpu(guest: Guest, shakedown_member: Member) -> GpuRef:
    """One GPU of one guest: ``host`` and ``guest`` address, ``slot``, ``serial``, ``uuid``."""
    return guest.gpu(shakedown_member.gpu)


@pytest.fixture
def load(shakedown_run: Run, guest: Guest, shakedown_member: Member) -> Load:
    """One load of one guest, after it ran: ``name``, ``results``."""
    return guest.load(shakedown_run, shakedown_member.workload)


@pytest.fixture(scope="session")
def shakedown_planned(request: pytest.FixtureRequest) -> Planned:
    """The check, and the place in the plan, that a test of the suites asks about."""
    chosen: Planned = request.param
    return chosen


@pytest.fixture
def loaded(shakedown_run: Run, shakedown_group: str) -> str:
    """Act: the loads that this session asks about ran in the guests of the group, at the same time."""
    shakedown_run.burn(shakedown_group)
    return shakedown_group


@pytest.fixture
def released(shakedown_run: Run, shakedown_group: str) -> str:
    """Act: the guests of the group were given back."""
    shakedown_run.release(shakedown_group)
    return shakedown_group


@pytest.fixture
def settled(shakedown_run: Run) -> None:
    """Act: all guests are gone, the host was looked at again and is no longer claimed."""
    shakedown_run.settle()


@pytest.fixture
def cell(shakedown_run: Run, shakedown_planned: Planned, request: pytest.FixtureRequest) -> Cell:
    """What one check says of one subject, once the acts of its phase are done.

    The test is an error where nothing can be said, and xfails where a waiver carries the failure or it is
    advisory.
    """
    return shakedown_run.cell(shakedown_planned, request)
