"""Pytest set-up that ``tests`` and ``suites`` share; options and fixtures live in harness.pytest_plugin."""

from __future__ import annotations

import importlib.util

pytest_plugins = ("harness.pytest_plugin",)

if importlib.util.find_spec("hypothesis") is not None:
    from hypothesis import settings

    # Time limits for single examples say more about a shared machine than about the code.
    settings.register_profile("shakedown", deadline=None)
    settings.load_profile("shakedown")
