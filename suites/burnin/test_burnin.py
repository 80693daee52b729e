"""Did the loads of each guest compute what they should, and what was seen of its GPUs meanwhile?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugin.cell import Cell


@pytest.mark.burnin
@pytest.mark.usefixtures("loaded")
def test_burnin(cell: Cell) -> None:
    """A load's answers are right, or a GPU was healthy under it."""
    cell.judge()
