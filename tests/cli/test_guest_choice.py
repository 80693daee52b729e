"""Which guests a run tries: the profile's, or one for each number that was asked for."""

from __future__ import annotations

import dataclasses

import pytest

from harness.commands.qualify import MOST_GPUS, choose_guests, choose_profile
from harness.config import load_profile
from harness.errors import ConfigError
from harness.model.guest import AttachMode
from harness.model.inventory import GuestSpec


def names(demands) -> list[str]:
    return [demand.request.name for demand in demands]


def test_without_a_choice_the_profile_decides() -> None:
    profile = load_profile("smoke")
    demands = choose_guests(profile, "")
    assert names(demands) == ["g1-1gpu", "g2-4gpu", "g3-4gpu"]
    assert [d.workloads for d in demands] == [spec.workloads for spec in profile.guests]


def test_a_size_that_the_profile_lists_keeps_its_workloads_and_another_gets_the_default() -> None:
    profile = load_profile("smoke")
    two, four = choose_guests(profile, "2,4")
    assert two.workloads == profile.default_workloads
    assert four.workloads == profile.guests[1].workloads


def test_the_same_size_twice_is_two_guests() -> None:
    assert names(choose_guests(load_profile("smoke"), "1, 1")) == ["g1-1gpu", "g2-1gpu"]


def test_two_guests_of_one_size_keep_the_workloads_that_the_profile_gives_each() -> None:
    specs = (GuestSpec(gpus=1, workloads=("tensor",)), GuestSpec(gpus=1, workloads=("hashing",)))
    profile = dataclasses.replace(load_profile("smoke"), guests=specs)
    assert [d.workloads for d in choose_guests(profile, "")] == [("tensor",), ("hashing",)]


def test_a_size_asked_for_once_more_than_listed_gets_the_last_of_its_workloads_again() -> None:
    profile = load_profile("smoke")
    first, second, third = choose_guests(profile, "4,4,4")
    assert first.workloads == profile.guests[1].workloads
    assert second.workloads == third.workloads == profile.guests[2].workloads


ENDLESS = pytest.param("9" * 5000, id="5000 digits")


@pytest.mark.parametrize("gpus", ["x", "0", "-1", "1,,2", ",", "1.5", "²", str(MOST_GPUS + 1), ENDLESS])
def test_what_is_no_number_of_gpus_is_wrong_usage(gpus) -> None:
    with pytest.raises(ConfigError, match="--gpus"):
        choose_guests(load_profile("smoke"), gpus)


def test_bare_means_the_machine_with_all_the_gpus_it_should_have() -> None:
    profile = choose_profile("", "bare")
    assert (profile.name, profile.attach) == ("bare", AttachMode.BARE)
    (demand,) = choose_guests(profile, "", expected_gpus=8)
    assert (demand.request.name, demand.request.gpus) == ("bare", 8)
    with pytest.raises(ConfigError, match="--gpus is about guests"):
        choose_guests(profile, "2")


def test_profile_and_attach_mode_must_agree() -> None:
    assert choose_profile("", "").name == "smoke"
    assert choose_profile("bare", "").attach is AttachMode.BARE
    with pytest.raises(ConfigError, match="profile smoke is for attach mode vfio, not bare"):
        choose_profile("smoke", "bare")
    with pytest.raises(ConfigError, match="not one of vfio, bare"):
        choose_profile("", "sriov")
