"""The shipped suites: what is asked of a candidate host. Without one there is nothing to ask."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Skipping everything would look like health, so it is wrong usage."""
    if not (config.getoption("candidate", None) or config.getoption("resume", None)):
        raise pytest.UsageError("the suites ask a candidate host: give --candidate NAME (for a try: lab)")
