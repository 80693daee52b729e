"""``shakedown inventory list``: the data that runs are made from."""

from __future__ import annotations

from harness.config import files as config
from harness.shown import say, say_json


def show(kind: str = "", *, as_json: bool = False) -> int:
    """Print names and files of one kind, or of all; returns 0. Raises ConfigError for an unknown kind."""
    kinds = (kind,) if kind else config.KINDS
    found = {k: {name: str(config.find(k, name)) for name in config.list_names(k)} for k in kinds}
    if as_json:
        say_json(found, indent=2)
        return 0
    for each, names in found.items():
        for name, path in names.items():
            say(f"{each:9} {name:20} {path}")
    return 0
