"""Pytest's root of the project. Options and fixtures of runs come with the plugin, ``harness.plugin``; what
only the project's own tests need is in ``tests/conftest.py``, so that ``pytest suites`` need not load it."""
