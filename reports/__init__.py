"""Renderers: RunRecord to html, md, json, junit, ocp, openmetrics.

Each renderer is a module with ``render(record) -> str``, pure, and one line in ``RENDERERS``. They are
imported when used, so that a command that renders nothing pays for none.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.errors import ConfigError, RecordError, why
from harness.model.record import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """A report format: its name on the command line, its file and its module."""

    format: str
    file: str
    module: str
    with_every_run: bool = True
    """Whether a finished run writes it unasked."""

    def render(self, record: RunRecord) -> str:
        """The report's text, ASCII-safe or UTF-8, ending in a newline."""
        return cast("str", importlib.import_module(self.module).render(record))


RENDERERS = (
    Renderer(format="html", file="report.html", module="reports.html"),
    Renderer(format="md", file="report.md", module="reports.markdown"),
    Renderer(format="junit", file="junit.xml", module="reports.junit"),
    Renderer(format="ocp", file="ocp.jsonl", module="reports.ocp"),
    Renderer(format="openmetrics", file="metrics.prom", module="reports.openmetrics"),
    Renderer(format="json", file="report.json", module="reports.json_record", with_every_run=False),
)


def renderer(name: str) -> Renderer:
    """The renderer of a format; raises ConfigError with the valid names."""
    found = next((r for r in RENDERERS if r.format == name), None)
    if found is None:
        valid = ", ".join(r.format for r in RENDERERS)
        raise ConfigError(f"unknown report format {name[:40]!r}", remedy=f"use one of: {valid}")
    return found


def render_one(file: Path, record: RunRecord, name: str) -> Path:
    """Write one report as ``file``, whole; returns it. Raises as ``render_all`` does."""
    from harness.record.files import write_whole  # noqa: PLC0415  as below

    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, renderer(name).render(record).encode("utf-8"))
    return file


def render_all(directory: Path, record: RunRecord, formats: Iterable[str] = ()) -> dict[str, Path]:
    """Write reports into ``directory``: those named, or all that come with every run.

    Returns format to file. Each file appears whole. Raises ConfigError for an unknown format and
    RecordError when a file cannot be written, or made of this record: the others are written before.
    """
    from harness.record.files import write_whole  # noqa: PLC0415  the one place here that touches the disk

    chosen = tuple(renderer(name) for name in formats) or tuple(r for r in RENDERERS if r.with_every_run)
    written = {}
    broken: list[str] = []
    for each in chosen:
        path = directory / each.file
        try:
            text = each.render(record).encode("utf-8")
        except Exception as error:  # noqa: BLE001  one format that breaks takes no other with it; raised below
            broken.append(f"{each.format} ({why(error)[:200]})")
            continue
        write_whole(path, text)
        written[each.format] = path
    if broken:
        raise RecordError(
            f"this record could not be rendered as {', '.join(broken)}",
            remedy="this is a bug in Shakedown, not a fault of the host: report it with this run directory",
        )
    return written
