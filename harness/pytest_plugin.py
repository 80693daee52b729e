"""Pytest plugin: ``--candidate NAME --profile NAME`` and the fixtures of the suites."""
