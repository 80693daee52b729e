"""Every lab description of the inventory can be built."""

from __future__ import annotations

import pytest

from harness.config.files import list_names, load_lab
from harness.lab.machine import ANYWHERE, machine_arguments


@pytest.mark.parametrize("name", list_names("labs"))
def test_the_description_gives_a_command_line_with_all_its_devices(name: str) -> None:
    lab = load_lab(name)
    arguments = " ".join(machine_arguments(lab, ANYWHERE, accelerator="tcg"))
    for number in range(len(lab.devices)):
        assert f"id=rp{number}," in arguments
    assert arguments.count("edu,dma_mask") == sum(device.kind == "edu" for device in lab.devices)
    assert arguments.count("memory-backend-ram") == len(lab.nodes)
