"""The tables of workloads in README.md and CONTRIBUTING.md, made of what each folder says of itself."""

from __future__ import annotations

import re
from pathlib import Path

from harness.workloads.registry import specs
from tests.gates.source import ROOT

TABLES = {
    ROOT / "README.md": "| load | what it does | what proves the answer | engines |",
    ROOT / "CONTRIBUTING.md": "  | workload | needs | with GPUs also |",
}
"""Document to the head of its table."""
_TELEMETRY = (
    "telemetry",
    "",
    "`pynvml.py` in `/usr/lib/python3/dist-packages`, and `libnvidia-ml.so.1`",
)


def _rows(document: Path) -> list[tuple[str, ...]]:
    if document.name == "README.md":
        return [(f"`{one.name}`", one.row.does, one.row.proves, one.row.engines) for one in specs()]
    needs = [(f"`{one.name}`", one.row.needs, one.row.needs_with_gpus) for one in specs()]
    return [*(row for row in needs if any(row[1:])), _TELEMETRY]


def with_table(document: Path) -> str:
    """The document's text, its table made anew."""
    head = TABLES[document]
    indent = " " * (len(head) - len(head.lstrip()))
    rows = [f"{indent}| {' | '.join(row)} |".replace("|  |", "| |") for row in _rows(document)]
    rule = f"{indent}|{'---|' * (head.count('|') - 1)}"
    table = "\n".join([head, rule, *rows]) + "\n"
    pattern = rf"^{re.escape(head)}\n(?: *\|.*\n)+"
    text, found = re.subn(pattern, lambda _: table, document.read_text(), flags=re.MULTILINE)
    assert found == 1, f"{document.name} has no such table: {head}"
    return text
