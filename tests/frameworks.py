"""TensorFlow for the tests that compute with it: a tree that somebody names, or that of the cache.

``python -m tests.frameworks`` puts it there (tox does, before the tests): no test fetches anything itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from harness.errors import HarnessError
from harness.images import cache, frameworks

NAMED = os.environ.get("SHAKEDOWN_TENSORFLOW", "")
FITS = sys.version_info[:2] == tuple(int(part) for part in frameworks.PYTHON.split("."))
"""Its compiled modules load into one Python."""


def tensorflow() -> Path | None:
    """The tree, or None where there is none for this Python."""
    cached = cache.find(frameworks.CACHE_KIND, frameworks.tree_digest("cpu")) if FITS else None
    places = (Path(NAMED), *((cached / "tree",) if cached else ()), Path("/opt/tf"))
    return next((place for place in places if (place / "tensorflow/libtensorflow_cc.so.2").exists()), None)


def main() -> None:
    """Fetch it where it is missing; a machine without network goes on without, and its tests say so."""
    if tensorflow() is not None or not FITS:
        return
    try:
        frameworks.ensure_tensorflow(lambda text: print(text, file=sys.stderr, flush=True))
    except HarnessError as error:
        print(f"going on without TensorFlow: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
