"""Nothing outside ``harness.attach`` asks for an attach mode by its name."""

from __future__ import annotations

import ast

import pytest

from harness.attach import ATTACHMENT_NAMES
from harness.attach.bare import ATTACHMENT as BARE
from tests.gates.source import imports, modules, tree

NAMED = {
    "harness.model.guest": "the one default, of profiles that name no mode",
    "harness.facts.tree": "the prefix of the kernel's VFIO modules, not a mode",
    "harness.telemetry.kernel.forms_gpu": "what those modules write before their lines",
    "harness.telemetry.host.table": "a part of the paths of VFIO's device files",
    "harness.commands.compare": "a key of its JSON, which outsiders read: the reference run",
}
"""Modules that name a mode, and why."""
_OURS = "harness.attach"


def _names(module: str) -> set[str]:
    """Modes that a module names: as a text of its own, or by importing their module."""
    found = {
        node.value
        for node in ast.walk(tree(modules()[module]))
        if isinstance(node, ast.Constant) and node.value in ATTACHMENT_NAMES
    }
    return found | {name for name in ATTACHMENT_NAMES if f"{_OURS}.{name}" in imports(module)}


def test_no_module_outside_names_a_mode() -> None:
    found = {
        module: sorted(names)
        for module in modules()
        if not module.startswith(_OURS) and (names := _names(module))
    }
    assert sorted(found) == sorted(NAMED), found


@pytest.mark.parametrize("word", ["AttachMode", "VFIO_MODE", "is_bare"])
def test_no_module_keeps_a_list_of_modes_of_its_own(word: str) -> None:
    assert [m for m, path in modules().items() if word in path.read_text(encoding="utf-8")] == []


def test_every_mode_of_the_folder_is_listed_once() -> None:
    inside = {m.rpartition(".")[2] for m in modules() if m.startswith(f"{_OURS}.")}
    assert sorted(ATTACHMENT_NAMES) == sorted(inside)
    assert not BARE.in_guests
