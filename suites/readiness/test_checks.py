"""Is this host fit to pass GPUs through? One test for each check of the host and its GPUs."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.checks("host.*", "gpu.*")
def test_readiness(require: Callable[[str], None], check: str) -> None:
    """The check says PASS for each of its subjects, or a waiver carries its FAIL."""
    require(check)
