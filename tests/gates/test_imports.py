"""Who may import whom: the levels of ARCHITECTURE.md, held by reading every import statement."""

from __future__ import annotations

from tests.gates.source import imports, is_payload, modules, ours

LEVELS: dict[str, int] = {
    "harness.model": 0,
    "harness.payload": 0,
    "harness.errors": 0,
    "harness.cleanups": 0,
    "harness.polling": 0,
    "harness.ports": 0,
    "harness.serial": 0,
    "harness.regular": 0,
    "harness.reading": 0,
    "harness.shown": 0,
    "harness.scripts": 1,
    "harness.facts": 1,
    "harness.placement": 1,
    "harness.attach": 1,
    "harness.workloads": 1,
    "harness.telemetry": 1,
    "harness.vendors": 1,
    "harness.checks": 2,
    "harness.verdict": 2,
    "harness.record": 3,
    "harness.backends": 3,
    "harness.images": 3,
    "harness.descriptors": 3,
    "harness.identity": 3,
    "harness.signals": 3,
    "harness.progress": 3,
    "harness.lab": 4,
    "harness.stages": 4,
    "harness.faults": 4,
    "harness.config": 6,
    "harness.commands": 6,
    "harness.plugin": 6,
    "harness.cli": 6,
    "harness.__main__": 6,
}
"""Room to level."""
IN_A_VENDOR = {"checks": 2, "faults": 4, "config": 6}
"""Folder inside a vendor's folder to level: each is loaded by the registry of its level."""

_ALLOWED_TO_REPORTS = (
    "harness.model",
    "harness.verdict",
    "harness.errors",
    "harness.serial",
    "harness.record.files",
    "harness.shown",
)
_ALLOWED_TO_SUITES = ("harness.model", "harness.plugin.cell")
"""``harness.plugin.cell`` is the type of their fixture."""
_WORLD = ("libvirt", "testinfra", "paramiko", "requests")
_SEAMS_OF_THE_LAB = {
    "harness.stages.host.access": "who starts a host, and what images its guests can have",
    "harness.commands.lab": "the command `lab`",
}
"""Modules that import the lab, and why: without it the engine is whole."""


def room(module: str) -> str:
    """``harness.facts.pci`` lives in ``harness.facts``."""
    return ".".join(module.split(".")[:2])


HARNESS = sorted(m for m in modules() if m.startswith("harness."))


def test_every_room_has_a_level() -> None:
    """A new folder or top-level module says where it stands before anything imports it."""
    rooms = {room(m) for m in HARNESS}
    assert rooms == set(LEVELS), "add the new room to LEVELS and to ARCHITECTURE.md"


def _level(module: str) -> int:
    parts = module.split(".")
    if is_payload(module):
        return LEVELS["harness.payload"]
    if room(module) == "harness.vendors" and len(parts) > 3:
        return IN_A_VENDOR.get(parts[3], LEVELS["harness.vendors"])
    return LEVELS.get(room(module), 0)


def test_no_module_imports_a_higher_level() -> None:
    upward = [
        f"{module} imports {name}"
        for module in HARNESS
        for name in sorted(imports(module))
        if name.startswith("harness.") and _level(name) > _level(module)
    ]
    assert upward == []


def test_the_engine_knows_neither_reports_nor_suites_nor_inventory() -> None:
    """Only the composition roots join them."""
    foreign = [
        f"{module} imports {name}"
        for module in HARNESS
        for name in imports(module)
        if _level(module) < 6 and ours(name) and not name.startswith("harness")
    ]
    assert foreign == []


def test_reports_see_records_and_verdicts_only() -> None:
    """A report is rendered from a record by anyone, anywhere: no host, no evidence reader, no check."""
    foreign = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if module.startswith("reports")
        and name.startswith("harness")
        and not name.startswith(_ALLOWED_TO_REPORTS)
    ]
    assert foreign == []


def test_suites_see_fixtures_and_the_model_only() -> None:
    foreign = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if module.startswith("suites")
        and name.startswith("harness")
        and not name.startswith(_ALLOWED_TO_SUITES)
    ]
    assert foreign == []


def test_the_engine_does_without_the_lab() -> None:
    """``harness/lab`` could be taken out of the tree: who names it is a seam, and says why."""
    users = {m for m in HARNESS if room(m) != "harness.lab" for n in imports(m) if room(n) == "harness.lab"}
    assert users == set(_SEAMS_OF_THE_LAB)


def test_the_model_imports_nothing_of_the_engine_but_itself() -> None:
    inside = [m for m in modules() if m.startswith("harness.model")]
    foreign = {n for m in inside for n in imports(m) if ours(n) and not n.startswith("harness.model")}
    assert foreign == set()


def test_third_party_input_and_output_has_one_home() -> None:
    """libvirt and testinfra are reached through ``harness.backends`` and nowhere else."""
    elsewhere = [
        (module, name)
        for module in modules()
        for name in imports(module)
        if name.split(".")[0] in _WORLD and room(module) != "harness.backends"
    ]
    assert elsewhere == []


def _walk(module: str, path: tuple[str, ...], done: set[str]) -> tuple[str, ...] | None:
    """The first chain of imports that comes back to itself, depth first."""
    if module in path:
        return (*path[path.index(module) :], module)
    if module in done:
        return None
    for name in sorted(imports(module)):
        if name in modules() and name != module:
            found = _walk(name, (*path, module), done)
            if found is not None:
                return found
    done.add(module)
    return None


def test_there_are_no_import_cycles() -> None:
    """Lazy imports count: a cycle that happens to work today breaks at the next reordering."""
    done: set[str] = set()
    cycles = [cycle for module in sorted(modules()) if (cycle := _walk(module, (), done)) is not None]
    assert cycles == []
