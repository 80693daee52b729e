"""Did each guest give back what it was lent?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugin.cell import Cell


@pytest.mark.release
@pytest.mark.usefixtures("released")
def test_release(cell: Cell) -> None:
    """Devices, memory and files are as they were before it."""
    cell.judge()
