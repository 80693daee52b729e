"""Starts a module of the packed tree: ``start.py MODULE JSON`` calls its ``main`` with the JSON text.

An interpreter in isolated mode looks for modules in no folder of ours; this names the one that was packed
(``harness/workloads/files.py``). A module that is imported is compiled once and kept, a script is not.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # <root>/harness/payload/start.py
    sys.path.insert(0, __file__.rpartition("/harness/payload/")[0])
    __import__(sys.argv[1])
    sys.modules[sys.argv[1]].main(sys.argv[2])
