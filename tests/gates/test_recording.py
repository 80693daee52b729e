"""What a run can record, it records: checks of a kind of evidence that nothing writes could never fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.record import recorder
from harness.record.recorder import Recorder
from tests.gates.source import modules, tree

JUDGE = "harness.record.judge"
"""The one module of its own room that may be a method's only caller: it finishes a run."""


def _calls(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Each call of a method: the name before the last dot, and the method's."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute):
            owner = each.func.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            yield name, each.func.attr


def _methods(module: ast.Module) -> dict[str, ast.FunctionDef]:
    recorders = [n for n in module.body if isinstance(n, ast.ClassDef) and n.name == Recorder.__name__]
    return {n.name: n for n in recorders[0].body if isinstance(n, ast.FunctionDef)}


def recording(module: ast.Module) -> set[str]:
    """The public methods of Recorder that write an event, themselves or by another one."""
    methods = _methods(module)
    called = {name: set(_calls(node)) for name, node in methods.items()}
    writing = {name for name, calls in called.items() if ("log", "append") in calls}
    while more := {n for n, calls in called.items() if {("self", w) for w in writing} & calls} - writing:
        writing |= more
    return {name for name in writing if not name.startswith("_")}


def called_in(trees: list[ast.Module]) -> set[str]:
    """The methods that are called of something named like a recorder: ``session.recorder``, ``Recorder``."""
    calls = (call for each in trees for call in _calls(each))
    return {method for owner, method in calls if owner.lower().endswith("recorder")}


def uncalled(module: ast.Module, callers: list[ast.Module]) -> set[str]:
    """Recording methods that neither the callers call, nor a recording method that they call."""
    live = recording(module) & called_in(callers)
    methods = _methods(module)
    while more := {m for n in live for o, m in _calls(methods[n]) if o == "self" and m in methods} - live:
        live |= more
    return recording(module) - live


def _callers() -> list[ast.Module]:
    return [
        tree(path)
        for name, path in modules().items()
        if name.startswith("harness.") and (not name.startswith("harness.record.") or name == JUDGE)
    ]


def test_every_recording_method_is_called_by_the_product() -> None:
    source = tree(Path(recorder.__file__))
    found = recording(source)
    assert {"begin", "facts", "stage", "stage_ended", "released", "absorb_notes", "save"} <= found
    assert not {"path", "file_path"} & found
    assert uncalled(source, _callers()) == set()


@pytest.mark.parametrize("method", sorted(recording(tree(Path(recorder.__file__)))))
def test_a_method_that_lost_its_callers_would_be_noticed(method: str) -> None:
    """Renamed in Recorder alone, it is called by nobody any more."""
    text = Path(recorder.__file__).read_text().replace(f"def {method}(", "def forgotten(")
    module = ast.parse(text.replace(f"self.{method}(", "self.other("))
    assert "forgotten" in uncalled(module, _callers())
