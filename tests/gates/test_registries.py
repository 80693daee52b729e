"""Registries are explicit tuples: a module that was written and not listed would silently never run."""

from __future__ import annotations

import importlib
import re
from types import ModuleType

import pytest

from harness.attach import attachment
from harness.checks import registry as checks
from harness.config.files import list_names, load_profile
from harness.faults import registry as faults
from harness.model.outcome import Severity
from harness.vendors.registry import VENDORS
from reports import RENDERERS
from tests.gates.source import modules

WITH_NEIGHBOURS = frozenset({"tenants.disturbance"})
"""Checks of guests that live together, for profiles with one of their size alone: others cannot ask them."""


def _of_a_vendor(module: str, kind: str) -> bool:
    return re.fullmatch(rf"harness\.vendors\.\w+\.{kind}(\..+)?", module) is not None


def _having(package: str, attribute: str) -> dict[str, ModuleType]:
    kind = package.rpartition(".")[2]
    inside = [m for m in modules() if m.startswith(f"{package}.") or _of_a_vendor(m, kind)]
    loaded = {m: importlib.import_module(m) for m in inside}
    return {name: module for name, module in loaded.items() if hasattr(module, attribute)}


def test_every_check_module_is_listed() -> None:
    listed = {id(check) for check in checks.CHECKS}
    lost = [
        f"{name}: {check.id}"
        for name, module in _having("harness.checks", "CHECKS").items()
        for check in module.CHECKS
        if id(check) not in listed
    ]
    assert lost == []
    assert len(checks.CHECKS) >= 40


def test_check_ids_are_unique_and_say_their_subject() -> None:
    assert len(set(checks.CHECK_IDS)) == len(checks.CHECK_IDS)
    assert [i for i in checks.CHECK_IDS if i.count(".") != 1 or i != i.lower()] == []


def test_every_check_says_what_it_asks_and_why() -> None:
    assert [c.id for c in checks.CHECKS if len(c.title) < 10 or len(c.why) < 20] == []


def test_every_fault_module_is_listed_and_trips_a_check_that_exists() -> None:
    listed = {id(fault) for fault in faults.FAULTS}
    found = [f for module in _having("harness.faults", "FAULTS").values() for f in module.FAULTS]
    assert [f.id for f in found if id(f) not in listed] == []
    assert [f.id for f in faults.FAULTS if f.must_trip not in checks.CHECK_IDS] == []


@pytest.mark.parametrize("profile", list_names("profiles"))
def test_every_blocker_has_a_fault_that_trips_it(profile: str) -> None:
    """A required check that nothing can trip proves nothing."""
    blockers = {c for c, severity in load_profile(profile).checks.items() if severity is Severity.BLOCKER}
    tripped = {name for fault in faults.FAULTS for name in (fault.must_trip, *fault.also)}
    assert sorted(blockers - tripped) == []


@pytest.mark.parametrize("profile", list_names("profiles"))
def test_every_check_stands_in_every_shipped_profile(profile: str) -> None:
    """A new check is required, advisory or left out on purpose, never forgotten."""
    loaded = load_profile(profile)
    askable = {c.id for c in checks.CHECKS if attachment(loaded.attach).observes(c.needs) and not c.on_demand}
    assert sorted(askable - set(loaded.checks) - WITH_NEIGHBOURS) == []


def test_every_report_module_with_a_renderer_is_listed() -> None:
    found = set(_having("reports", "render"))
    assert found - {"reports"} == {renderer.module for renderer in RENDERERS}


def test_every_vendor_is_listed() -> None:
    """A vendor is its folder and its line."""
    folders = {m.split(".")[2] for m in modules() if m.startswith("harness.vendors.") and m.count(".") > 2}
    assert sorted(VENDORS) == sorted(folders - {"payload"})  # which chooses among them in a guest
