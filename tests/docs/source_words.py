"""The sentences that the product may show, read from its source: what ``docs/messages.md`` lists and what the
gate of phrases looks through."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.gates.source import ROOT

FOLDERS = ("harness", "reports")
GAP = "…"
"""Stands for a value that is known when the product runs."""
_CODE = re.compile(
    r"\\|\(\?|\[\^|\$\(|\$\{|&&|\|\||^#!|\{\{|<<|^[\w./-]+=|^\s*(set|cd|rm|for|chroot|mkdir|--)\b"
)
"""What makes a text a pattern or a script, which nobody reads as a sentence."""
_WORD = re.compile(r"(?<![\w.-])[A-Za-z][a-z']+(?![\w_(=])")
LEAST_WORDS = 3


@dataclass(frozen=True, slots=True, order=True)
class Sentence:
    """One text of the source, values as ``…``; with the remedy that is given beside it, if any."""

    text: str
    remedy: str = ""


def template(node: ast.AST | None) -> str:
    """The text of a string expression with ``…`` for its values; empty when it is no string."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = [v.value if isinstance(v, ast.Constant) else GAP for v in node.values]
        return "".join(str(part) for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = template(node.left), template(node.right)
        return f"{left or GAP}{right or GAP}" if left or right else ""
    if isinstance(node, ast.IfExp):
        return template(node.body) or template(node.orelse)
    return ""


def sentences(path: Path) -> list[Sentence]:
    """What a module may show, each text once: not docstrings, patterns or scripts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {each.text: each for each in _walk(tree, _docstrings(tree))}
    # A text that has a remedy in one place is listed with it.
    found |= {each.text: each for each in _walk(tree, _docstrings(tree)) if each.remedy}
    return sorted(found.values())


def modules() -> list[Path]:
    """Every module whose sentences count."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def is_prose(text: str) -> bool:
    """Whether a text is a sentence or a part of one: three words or more, no pattern and no script."""
    if "\n" in text.strip() or _CODE.search(text):
        return False
    return len(_WORD.findall(text)) >= LEAST_WORDS


def _docstrings(tree: ast.AST) -> set[int]:
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    return {
        id(line.value)
        for body in bodies
        if isinstance(body, list)
        for line in body
        if isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    }


def _walk(node: ast.AST, left_out: set[int]) -> Iterator[Sentence]:
    if id(node) in left_out:
        return
    text = " ".join(template(node).split())
    if text:
        if is_prose(text):
            yield Sentence(text)
        if not isinstance(node, ast.Constant):
            for child in ast.walk(node):
                if isinstance(child, ast.FormattedValue):
                    yield from _walk(child.value, left_out)
        return
    if isinstance(node, ast.Call):
        yield from _with_remedy(node)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, left_out)


def _with_remedy(call: ast.Call) -> Iterator[Sentence]:
    """``failed(message, remedy, ...)`` and ``SomeError(message, remedy=...)``."""
    if not call.args:
        return
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    second = call.args[1] if len(call.args) > 1 else None
    message = " ".join(template(call.args[0]).split())
    remedy = " ".join((template(named.get("remedy")) or template(second)).split())
    if is_prose(message) and is_prose(remedy):
        yield Sentence(message, remedy)
