"""Is this host fit to pass GPUs through? Asked before any guest is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugin.cell import Cell


@pytest.mark.readiness
def test_readiness(cell: Cell) -> None:
    """The host, or one of its GPUs, is ready."""
    cell.judge()
