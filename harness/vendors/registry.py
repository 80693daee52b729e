"""Which makers of GPUs there are: one line each, the name of its folder.

A folder holds ``names.py`` with ``NAMES`` and, of the rest, what there is: ``log.py`` with ``DIALECT``,
``sensors.py`` with ``SENSORS``, ``REASONS`` and ``PROPERTIES``, ``checks/`` with ``CHECKS``,
``checks/series.py`` with ``RULES``, ``faults/`` with ``FAULTS``, ``config/standin.py`` with
``check_standin``. All are loaded by name when they are asked for, so that whoever needs the names alone loads
no check.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.util import find_spec
from typing import Any

VENDORS = (
    "nvidia",
    "amd",
    "intel",
    "edu",
)
"""Every vendor; a test compares them with the folders beside this file."""


@cache
def parts(module: str, attribute: str) -> tuple[Any, ...]:
    """``attribute`` of that module of each vendor's folder, in order; a folder without it gives none."""
    paths = (f"{__package__}.{vendor}.{module}" for vendor in VENDORS)
    return tuple(getattr(importlib.import_module(path), attribute) for path in paths if _is_there(path))


def _is_there(path: str) -> bool:
    try:
        return find_spec(path) is not None
    except ModuleNotFoundError:  # not even its folder is
        return False
