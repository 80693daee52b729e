"""Which guests a run tries, which of them live together, and what each of them is called."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config import files as config
from harness.config.files import load_host, load_profile
from harness.errors import ConfigError
from harness.model.evidence import ReleaseEvidence
from harness.model.guest import GuestDemand
from harness.model.inventory import GroupSpec, GuestSpec
from harness.model.outcome import Severity
from harness.plugin.demand import (
    MOST_GPUS,
    Demand,
    choose_guests,
    choose_profile,
    demand,
    resumed,
)
from harness.stages.guest.provision import guest_place
from tests.stages.stand_ins import RUN, a_demand, a_recorder

TWO_AND_TWO = GroupSpec(together=(GuestSpec(gpus=2, workloads=("tensor",)), GuestSpec(gpus=2)))


def names(demands: tuple[GuestDemand, ...]) -> list[str]:
    return [each.request.name for each in demands]


def groups(demands: tuple[GuestDemand, ...]) -> list[tuple[str, int, str]]:
    """Name, GPUs and group of each."""
    return [(each.request.name, each.request.gpus, each.group) for each in demands]


def test_without_a_choice_the_profile_decides() -> None:
    profile = load_profile("smoke")
    demands = choose_guests(profile, "")
    assert names(demands) == ["2x1gpu-a", "2x1gpu-b", "4gpu", "4gpu-second-tenant"]
    assert [d.workloads for d in demands] == [m.workloads for entry in profile.guests for m in entry.members]


def test_a_size_that_the_profile_lists_keeps_its_workloads_and_another_gets_the_default() -> None:
    profile = load_profile("smoke")
    two, four = choose_guests(profile, "2,4")
    assert two.workloads == profile.default_workloads
    assert four.workloads == profile.guests[1].workloads


def test_the_same_size_twice_is_two_guests() -> None:
    assert names(choose_guests(load_profile("smoke"), "1, 1")) == ["1gpu", "1gpu-second-tenant"]


def test_a_size_that_comes_again_and_again_is_one_tenant_after_the_other() -> None:
    assert names(choose_guests(load_profile("smoke"), "1,1,1,1,1"))[2:] == [
        "1gpu-third-tenant", "1gpu-tenant-4", "1gpu-tenant-5",
    ]  # fmt: skip


def test_two_guests_of_one_size_keep_the_workloads_that_the_profile_gives_each() -> None:
    specs = (GroupSpec(gpus=1, workloads=("tensor",)), GroupSpec(gpus=1, workloads=("hashing",)))
    profile = dataclasses.replace(load_profile("smoke"), guests=specs)
    assert [d.workloads for d in choose_guests(profile, "")] == [("tensor",), ("hashing",)]


def test_a_size_asked_for_once_more_than_listed_gets_the_last_of_its_workloads_again() -> None:
    profile = load_profile("smoke")
    first, second, third = choose_guests(profile, "4,4,4")
    assert first.workloads == profile.guests[1].workloads
    assert second.workloads == third.workloads == profile.guests[2].workloads


def test_a_guest_alone_is_a_group_of_its_own() -> None:
    for each in choose_guests(load_profile("smoke"), "1,2,2,4"):
        assert each.group == each.request.name


def test_a_plus_joins_guests_that_live_at_the_same_time() -> None:
    demands = choose_guests(load_profile("smoke"), "1,2+2,1 + 3")
    assert groups(demands) == [
        ("1gpu", 1, "1gpu"),
        ("2x2gpu-a", 2, "2x2gpu"),
        ("2x2gpu-b", 2, "2x2gpu"),
        ("1and3gpu-a", 1, "1and3gpu"),
        ("1and3gpu-b", 3, "1and3gpu"),
    ]


def test_a_group_that_comes_again_is_the_next_tenant_of_all_its_gpus() -> None:
    demands = choose_guests(load_profile("smoke"), "2+2,2+2")
    assert [d.group for d in demands] == ["2x2gpu"] * 2 + ["2x2gpu-second-tenant"] * 2
    assert names(demands)[2:] == ["2x2gpu-second-tenant-a", "2x2gpu-second-tenant-b"]


def test_a_profiles_guests_may_live_together_each_with_its_own_workloads() -> None:
    profile = dataclasses.replace(load_profile("smoke"), guests=(GroupSpec(gpus=1), TWO_AND_TWO))
    one, left, right = choose_guests(profile, "")
    assert groups((one, left, right)) == [
        ("1gpu", 1, "1gpu"), ("2x2gpu-a", 2, "2x2gpu"), ("2x2gpu-b", 2, "2x2gpu"),
    ]  # fmt: skip
    assert (left.workloads, right.workloads) == (("tensor",), ())
    # Asked for by size, each gets what the profile gives a guest of that size, wherever it lists it.
    assert [d.workloads for d in choose_guests(profile, "2,2")] == [("tensor",), ()]


def test_the_groups_of_a_demand_come_in_the_order_in_which_they_were_asked_for() -> None:
    profile = load_profile("smoke")
    chosen = Demand(host=load_host("lab"), profile=profile, guests=choose_guests(profile, "2+2,1,2+2"))
    assert chosen.groups == ("2x2gpu", "1gpu", "2x2gpu-second-tenant")
    assert names(chosen.of_group("2x2gpu")) == ["2x2gpu-a", "2x2gpu-b"]
    assert chosen.of_group("nobody") == ()


SMOKE = load_profile("smoke")
SIZES = st.lists(st.lists(st.integers(1, MOST_GPUS), min_size=1, max_size=8), min_size=1, max_size=12)


def asked_for(sizes: list[list[int]]) -> tuple[GuestDemand, ...]:
    return choose_guests(SMOKE, ",".join("+".join(map(str, members)) for members in sizes))


@given(SIZES)
def test_no_two_guests_of_a_run_have_one_name(sizes: list[list[int]]) -> None:
    demands = asked_for(sizes)
    assert [d.request.gpus for d in demands] == [size for members in sizes for size in members]
    assert len(set(names(demands))) == len(demands)
    members = Counter(each.group for each in demands)
    assert list(members.values()) == [len(each) for each in sizes]


@given(SIZES)
def test_no_two_guests_of_a_run_have_one_domain(sizes: list[list[int]]) -> None:
    """The second of them would be taken for the first, and its GPUs would never be handed over."""
    demands = asked_for(sizes)
    domains = [guest_place(RUN, d.request.name, n, "/srv").domain for n, d in enumerate(demands)]
    assert len(set(domains)) == len(domains)


ENDLESS = pytest.param("9" * 5000, id="5000 digits")


@pytest.mark.parametrize(
    "gpus",
    [
        *("x", "0", "-1", "1,,2", ",", "1.5", "²", str(MOST_GPUS + 1), ENDLESS),
        *("+", "1+", "+1", "1++2", "1+0", "1+x", "1+2,", f"1+{MOST_GPUS + 1}"),
    ],
)
def test_what_is_no_number_of_gpus_is_wrong_usage(gpus) -> None:
    with pytest.raises(ConfigError, match="--gpus"):
        choose_guests(load_profile("smoke"), gpus)


@pytest.mark.parametrize(("gpus", "fits"), [("2+2", True), ("2+3", False), ("1,1+1+1+1,1+4", False)])
def test_guests_that_live_together_need_room_for_all_of_them(gpus, fits) -> None:
    profile = load_profile("smoke")
    if fits:
        assert choose_guests(profile, gpus, expected_gpus=4)
        return
    with pytest.raises(
        ConfigError, match="need 5 GPUs at the same time, but the host file expects 4"
    ) as caught:
        choose_guests(profile, gpus, expected_gpus=4)
    assert "a comma runs them one after the other" in caught.value.remedy


def test_where_nobody_says_how_many_gpus_there_are_the_host_will() -> None:
    assert len(choose_guests(load_profile("smoke"), "8+8", expected_gpus=None)) == 2


def test_a_guest_alone_that_is_too_large_is_the_planners_to_refuse() -> None:
    """With every reason, in the record; a session may be there to show just that."""
    assert names(choose_guests(load_profile("smoke"), "8", expected_gpus=4)) == ["8gpu"]


def test_bare_means_the_machine_with_all_the_gpus_it_should_have() -> None:
    profile = choose_profile("", "bare")
    assert (profile.name, profile.attach) == ("bare", "bare")
    (only,) = choose_guests(profile, "", expected_gpus=8)
    assert groups((only,)) == [("bare", 8, "bare")]
    assert only.workloads == profile.guests[0].workloads
    with pytest.raises(ConfigError, match="--gpus is for guests"):
        choose_guests(profile, "2")


def test_profile_and_attach_mode_must_agree() -> None:
    assert choose_profile("", "").name == "smoke"
    assert choose_profile("bare", "").attach == "bare"
    with pytest.raises(ConfigError, match="profile smoke is for attach mode vfio, not bare"):
        choose_profile("smoke", "bare")
    with pytest.raises(ConfigError, match="not one of vfio, bare"):
        choose_profile("", "sriov")


CROWDED = """name: crowded
based_on: smoke
guests:
  - {gpus: 1}
  - together:
      - {gpus: 4}
      - {gpus: 1}
"""


def test_a_profile_that_the_host_has_no_room_for_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "crowded.yaml"
    path.write_text(CROWDED)
    with pytest.raises(ConfigError) as caught:
        demand(host="lab", profile=str(path))
    assert f"{path}, line 5: guests.1.together" in str(caught.value)
    assert "these guests need 5 GPUs at the same time, and host lab has 4 (expected_gpus)" in str(
        caught.value
    )
    assert "--gpus" in caught.value.remedy
    assert names(demand(host="lab", profile=str(path), gpus="1").guests) == ["1gpu"]


def test_a_profile_fits_a_host_that_does_not_say_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "crowded.yaml"
    path.write_text(CROWDED)
    profile = load_profile(path)
    config.require_fit(profile, path, dataclasses.replace(load_host("lab"), expected_gpus=None))
    config.require_fit(profile, path, dataclasses.replace(load_host("lab"), expected_gpus=5))


@pytest.mark.parametrize("name", config.list_names("profiles"))
def test_every_shipped_profile_fits_the_lab(name: str) -> None:
    config.require_fit(load_profile(name), name, load_host("lab"))


def _released(name: str) -> ReleaseEvidence:
    return ReleaseEvidence(
        guest=name, devices=(), hugepages_before={}, hugepages_after={}, leftover_processes=(),
        leftover_files=(), leftover_domains=(), leftover_networks=(), leftover_claims=(), seconds=1.0,
    )  # fmt: skip


def test_a_resumed_run_has_the_guests_of_its_first_life_and_tries_what_was_not_given_back(tmp_path) -> None:
    guests = (
        a_demand("1gpu", "hashing"),
        a_demand("2x1gpu-a", group="2x1gpu"),
        a_demand("2x1gpu-b", group="2x1gpu"),
        a_demand("4gpu", gpus=4),
    )
    recorder = a_recorder(tmp_path, guests=guests, profile=load_profile("burnin"))
    for name in ("1gpu", "2x1gpu-a"):
        recorder.released(_released(name))
    recorder.close()
    found = resumed(recorder.path)
    assert found.guests == guests
    assert found.done == {"1gpu"}, "of the pair one guest was not given back: both are tried again"
    assert (found.host, found.resume) == (load_host("lab"), recorder.path)


@pytest.mark.parametrize(
    ("severities", "given_back", "done"),
    [
        ({"device.residue": Severity.BLOCKER}, {"1gpu"}, set()),
        ({"gpu.reset_works": Severity.BLOCKER}, {"1gpu", "4gpu"}, set()),
        ({"device.residue": Severity.ADVISORY, "gpu.reset_works": Severity.ADVISORY}, {"1gpu"}, {"1gpu"}),
        ({"device.residue": Severity.BLOCKER}, {"1gpu", "4gpu", "last"}, {"1gpu", "4gpu", "last"}),
    ],
)
def test_where_hand_overs_are_judged_all_tenants_come_in_one_attempt(
    tmp_path, severities, given_back, done
) -> None:
    """What the first tenant left is not known to a second controller: it would leave a sound host open."""
    guests = (a_demand("1gpu"), a_demand("4gpu", gpus=4), a_demand("last", gpus=4))
    profile = dataclasses.replace(load_profile("smoke"), checks=severities)
    recorder = a_recorder(tmp_path, guests=guests, profile=profile)
    for name in given_back:
        recorder.released(_released(name))
    recorder.close()
    assert resumed(recorder.path).done == done


@pytest.mark.parametrize("part", [".", "events.jsonl"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o722])
def test_a_run_that_others_may_write_to_is_not_resumed(tmp_path, part, mode) -> None:
    """Its host file may name an ssh configuration, whose programs would run here."""
    recorder = a_recorder(tmp_path, guests=(a_demand("1gpu"),))
    recorder.close()
    (recorder.path / part).chmod(mode)
    with pytest.raises(ConfigError, match="others may write to it"):
        resumed(recorder.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_run_of_another_user_is_not_resumed(tmp_path) -> None:
    recorder = a_recorder(tmp_path, guests=(a_demand("1gpu"),))
    recorder.close()
    os.chown(recorder.path / "events.jsonl", 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        resumed(recorder.path)


def test_a_run_that_has_ended_is_not_resumed(tmp_path) -> None:
    recorder = a_recorder(tmp_path, guests=(a_demand("1gpu"),))
    recorder.run_ended()
    recorder.log.end()
    with pytest.raises(ConfigError, match="has ended: there is nothing to resume"):
        resumed(recorder.path)
