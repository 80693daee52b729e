"""The project's source as data for the gates: modules, what they import, and their text."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "inventory", "reports", "suites")
"""What is shipped."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name to file of every shipped Python module."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    """A file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _statements(node: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Import statements that can run, also those inside functions."""
    if _for_types_only(node):
        return []
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [node]
    return [each for child in ast.iter_child_nodes(node) for each in _statements(child)]


def _names(statement: ast.Import | ast.ImportFrom, inside: str) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    base = statement.module or ""
    if statement.level:
        parts = inside.split(".")[: -statement.level]
        base = ".".join([*parts, *([base] if base else [])])
    return [f"{base}.{alias.name}" for alias in statement.names]


@cache
def imports(module: str) -> frozenset[str]:
    """Modules that ``module`` imports, ours by their full name, others as written."""
    known = modules()
    found = set()
    for statement in _statements(tree(known[module])):
        for name in _names(statement, module):
            # ``from a.b import c`` imports the module a.b.c where there is one, and a.b otherwise.
            owner = name.rpartition(".")[0] if isinstance(statement, ast.ImportFrom) else name
            found.add(name if name in known or not owner else owner)
    return frozenset(found)


def is_payload(module: str) -> bool:
    """Whether a module runs in a guest: it lies in a folder named ``payload``."""
    return "payload" in module.split(".")[:-1] or module.endswith(".payload")


def ours(name: str) -> bool:
    """Whether an imported name is one of the project's packages."""
    return name.split(".", maxsplit=1)[0] in (*PACKAGES, "tests", "bench")


def text_files() -> list[Path]:
    """Every text file of the project that a person wrote, generated and ignored ones left out."""
    skipped = {
        ".git",
        ".venv",
        ".tox",
        ".hypothesis",
        "runs",
        "build",
        "dist",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        "golden",
        "captures",
        "shakedown.egg-info",
    }
    kinds = {".py", ".sh", ".md", ".yaml", ".toml", ".ini", ".j2", ".css", ".txt", ".json", ""}
    return sorted(
        path
        for path in ROOT.rglob("*")
        if not skipped & set(path.relative_to(ROOT).parts) and path.is_file() and path.suffix in kinds
    )
