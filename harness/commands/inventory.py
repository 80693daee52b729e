"""``shakedown inventory list``: the data that runs are made from."""

from __future__ import annotations

import json
import sys

from harness import config


def show(kind: str = "", *, as_json: bool = False) -> int:
    """Print names and files of one kind, or of all; returns 0. Raises ConfigError for an unknown kind."""
    kinds = (kind,) if kind else config.KINDS
    found = {k: {name: str(config.find(k, name)) for name in config.list_names(k)} for k in kinds}
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    for each, names in found.items():
        for name, path in names.items():
            sys.stdout.write(f"{each:9} {name:20} {path}\n")
    return 0
