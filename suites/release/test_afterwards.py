"""What became of the host over the whole run? Asked when all guests are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugin.cell import Cell


@pytest.mark.afterwards
@pytest.mark.usefixtures("settled")
def test_afterwards(cell: Cell) -> None:
    """The host is as it was, and nothing happened to it or its GPUs meanwhile."""
    cell.judge()
