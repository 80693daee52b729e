"""``python -m harness``: the same as the command ``shakedown``."""

from harness.cli.app import main

main()
