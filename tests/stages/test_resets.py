"""Exercised resets: what was asked of the kernel, and what it answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.errors import ParseError
from harness.model.evidence import ResetTrial
from harness.model.pci import PciAddress
from harness.stages.host.resets import SCRIPT, exercise_resets
from tests.fakes import FakeHost, FakeTransport
from tests.fakes.scripts import answering, really

GPU = PciAddress.parse("0000:41:00.0")
GPU2 = PciAddress.parse("0000:42:00.0")
AUDIO = PciAddress.parse("0000:41:00.1")


def exercise(*rows: str, gpus: tuple[PciAddress, ...] = (GPU,), **options: object) -> tuple[ResetTrial, ...]:
    host = FakeHost()
    host.on("resets", answering("resets", {"resets": "\n".join(rows)}))
    trials = exercise_resets(FakeTransport(host), gpus, **options)  # type: ignore[arg-type]
    assert len(host.calls) == 1
    return trials


def test_an_accepted_reset_says_nothing_yet_of_cleared_state() -> None:
    (trial,) = exercise(f"{GPU}\t1\t1\tflr bus\tflr bus\t1\t")
    assert (trial.attempted, trial.accepted, trial.state_cleared) == (True, True, None)
    assert trial.methods == ("flr", "bus")
    assert trial.detail == ""


def test_a_listed_method_that_the_kernel_refuses_is_a_refusal_in_its_words() -> None:
    words = "printf: write error: Inappropriate ioctl for device"
    (trial,) = exercise(f"{GPU}\t1\t0\tbus\t\t1\t{words}")
    assert trial.accepted is False
    assert words in trial.detail
    assert "reset methods were bus, are none" in trial.detail


def test_a_device_lost_after_its_reset_was_not_reset() -> None:
    (trial,) = exercise(f"{GPU}\t1\t1\tbus\tbus\t0\t")
    assert trial.accepted is False
    assert "all ones" in trial.detail


def test_a_device_in_use_is_left_alone() -> None:
    (trial,) = exercise(f"{GPU}\t0\t\tbus\t\t\tbound to nvidia: a device in use is not reset")
    assert (trial.attempted, trial.accepted) == (False, None)
    assert "nvidia" in trial.detail


def test_companions_are_exempt_and_never_reset() -> None:
    trials = exercise(f"{GPU}\t1\t1\tbus\tbus\t1\t", companions=(AUDIO,), methods={AUDIO: ("pm",)})
    assert [t.device for t in trials] == [GPU, AUDIO]
    assert trials[1].exempt
    assert (trials[1].attempted, trials[1].methods) == (False, ("pm",))


def test_a_gpu_that_nothing_is_said_of_is_an_error() -> None:
    with pytest.raises(ParseError, match=r"no answer about 0000:42:00.0"):
        exercise(f"{GPU}\t1\t1\tbus\tbus\t1\t", gpus=(GPU, GPU2))


@pytest.mark.parametrize(
    "row",
    ["", "reset", f"other\t{GPU}\t1\t1\t\t\t1\t", f"{GPU}\tx\t1\t\t\t1\t", "x\t1\t1\t\t\t1\t"],
)
def test_a_row_that_is_no_trial_is_an_error(row: str) -> None:
    with pytest.raises(ParseError):
        exercise(row)


def test_the_real_script_says_of_an_absent_device_that_nothing_was_tried() -> None:
    absent = PciAddress.parse("ffff:ff:1f.7")
    (trial,) = exercise_resets(LocalTransport(), (absent,))
    assert (trial.attempted, trial.accepted, trial.detail) == (False, None, "no such device")


@pytest.mark.parametrize(
    ("node", "attempted"),
    [
        ("/dev/vfio/7", False),
        ("/dev/vfio/devices/vfio3", False),
        ("/dev/vfio/8", True),
        ("/dev/vfio/devices/vfio9", True),
        ("/dev/null", True),
    ],
)
def test_the_real_script_never_resets_a_device_that_a_process_has_open(
    tmp_path: Path, node: str, attempted: bool
) -> None:
    sysfs, processes = tmp_path / "devices", tmp_path / "proc"
    device = sysfs / str(GPU)
    for directory in (device / "vfio-dev" / "vfio3", tmp_path / "groups" / "7", processes / "12" / "fd"):
        directory.mkdir(parents=True)
    (device / "iommu_group").symlink_to(tmp_path / "groups" / "7")
    (device / "vendor").write_text("0x1234\n")
    (device / "reset").write_text("")
    (device / "config").write_bytes(bytes(64))
    (processes / "12" / "fd" / "9").symlink_to(node)
    places = {"/sys/bus/pci/devices": str(sysfs), "/proc/[": f"{processes}/["}
    (row,) = really(SCRIPT, str(GPU), changes=places).rows("resets")
    assert row[:2] == (str(GPU), "1" if attempted else "0")
    assert (device / "reset").read_text() == ("1" if attempted else "")
    assert attempted or node in row[-1]


def test_the_real_script_never_resets_a_device_that_has_virtual_functions(tmp_path: Path) -> None:
    """A reset of the card is one of all its parts, also of those that a running guest has."""
    device = tmp_path / "devices" / str(GPU)
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1234\n")
    (device / "reset").write_text("")
    (device / "virtfn0").symlink_to("../0000:41:10.0")
    (device.parent / "0000:41:10.0").mkdir()
    (row,) = really(SCRIPT, str(GPU), changes={"/sys/bus/pci/devices": str(tmp_path / "devices")}).rows(
        "resets"
    )
    assert row[:2] == (str(GPU), "0")
    assert "virtual functions" in row[-1]
    assert (device / "reset").read_text() == ""


def test_no_gpus_are_no_trials_and_no_question() -> None:
    host = FakeHost()
    assert exercise_resets(FakeTransport(host), ()) == ()
    assert host.calls == []
