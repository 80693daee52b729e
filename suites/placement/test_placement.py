"""Did each guest land where it was planned? Asked while all guests of its group run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.plugin.cell import Cell


@pytest.mark.placement
@pytest.mark.usefixtures("shakedown_group")
def test_placement(cell: Cell) -> None:
    """QEMU, the host's kernel and the guest agree with the plan."""
    cell.judge()
