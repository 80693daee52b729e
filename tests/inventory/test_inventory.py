"""What is shipped in inventory/ loads, is complete and keeps its promises."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from harness.attach import attachment
from harness.checks.registry import CHECKS
from harness.config.files import list_names, load_host, load_lab, load_profile, load_waivers
from harness.model.inventory import Profile
from harness.model.outcome import Severity, SubjectKind
from harness.workloads.mix.loads import loads_of, parameters_in_mix
from harness.workloads.registry import NAMES
from tests.gates.test_registries import WITH_NEIGHBOURS


@pytest.mark.parametrize("name", list_names("profiles"))
def test_a_profile_gives_every_check_a_severity(name: str) -> None:
    profile = load_profile(name)
    askable = {c.id for c in CHECKS if attachment(profile.attach).observes(c.needs) and not c.on_demand}
    assert set(profile.checks) - WITH_NEIGHBOURS == askable - WITH_NEIGHBOURS
    assert profile.name == name


@pytest.mark.parametrize("name", list_names("profiles"))
def test_side_by_side_nobody_promises_a_frame_rate(name: str) -> None:
    """Loads of a mix share engines and time slices: a right card may keep no stream in real time."""
    given = load_profile(name).workload_parameters
    loads = loads_of(given.get("mix", {})) if "mix" in given else ()
    if "transcode" in loads:
        assert parameters_in_mix(given, "transcode")["min_streams"] == 0
    if "stream" in loads:
        assert float(parameters_in_mix(given, "stream")["min_rate_share"]) <= 0.2


@pytest.mark.parametrize("name", list_names("hosts"))
def test_a_host_file_is_named_like_its_host_and_names_waivers_that_exist(name: str) -> None:
    host = load_host(name)
    assert host.name == name
    load_waivers(host.waivers)
    if host.control.lab is not None:
        lab = load_lab(host.control.lab)
        assert sum(device.kind == "edu" for device in lab.devices) == host.expected_gpus


@pytest.mark.parametrize("name", list_names("labs"))
def test_a_lab_description_loads_under_its_own_name(name: str) -> None:
    assert load_lab(name).name == name


def test_the_default_lab_is_as_promised() -> None:
    lab = load_lab("default")
    gpus = [device for device in lab.devices if device.kind == "edu"]
    assert Counter(device.node for device in gpus) == {0: 2, 1: 2}
    assert sum(device.companion for device in gpus) == 2
    assert sum(node.cores for node in lab.nodes) * lab.threads_per_core == 8
    assert any(device.kind != "edu" for device in lab.devices)


def test_other_labs_are_a_matter_of_data() -> None:
    assert len(load_lab("four-nodes").nodes) == 4
    assert {device.node for device in load_lab("one-node-devices").devices} == {1}
    assert None in {device.node for device in load_lab("unknown-node").devices}
    assert len(load_lab("eight-devices").devices) == 8


def sizes(profile: Profile) -> list[list[int]]:
    """GPUs of each guest, those that live at the same time in one list."""
    return [[guest.gpus for guest in entry.members] for entry in profile.guests]


def demanded_by(profile: Profile) -> set[str]:
    return {workload for entry in profile.guests for guest in entry.members for workload in guest.workloads}


def test_smoke_and_nightly_demand_what_the_design_says() -> None:
    smoke, nightly = load_profile("smoke"), load_profile("nightly")
    assert sizes(smoke) == [[1, 1], [4], [4]]
    assert sizes(nightly) == [[1], [2], [3], [4], [4], [1, 1, 1, 1], [2, 2], [1, 3]]
    for profile in (smoke, nightly, load_profile("burnin")):
        assert demanded_by(profile) == set(NAMES)


def test_a_profile_on_a_base_differs_by_what_it_says_alone() -> None:
    smoke, nightly, bare, rehearsal = (load_profile(n) for n in ("smoke", "nightly", "bare", "rehearsal"))
    assert nightly.checks == {**smoke.checks, "tenants.disturbance": Severity.ADVISORY}
    assert nightly.workload_parameters == smoke.workload_parameters
    assert set(rehearsal.checks) == set(bare.checks)
    assert rehearsal.attach is bare.attach
    assert rehearsal.workload_parameters["mix.vram"] == bare.workload_parameters["mix.vram"]
    assert rehearsal.workload_parameters["tensor"] != bare.workload_parameters["tensor"]


def test_a_guests_burnin_and_the_bare_one_are_comparable() -> None:
    """Same loads, same sizes, rounds enough on both sides: else ``--compare`` would decide nothing."""
    guests, bare = load_profile("burnin"), load_profile("bare-burnin")
    loads = demanded_by(guests)
    assert loads - {"device"} == demanded_by(bare)
    mixed = {n for n in {*guests.workload_parameters, *bare.workload_parameters} if n.startswith("mix.")}
    for name in loads | mixed:
        assert guests.workload_parameters.get(name, {}) == bare.workload_parameters.get(name, {}), name
    assert guests.burn_seconds == bare.burn_seconds
    assert guests.virtualization == bare.virtualization


def test_lab_waivers_hold_on_labs_alone_for_blockers_and_not_for_ever() -> None:
    profile = load_profile("smoke")
    for waiver in load_waivers(["lab"]):
        assert waiver.subject_kinds == (SubjectKind.LAB,)
        assert profile.checks[waiver.check] is Severity.BLOCKER
        assert len(waiver.reason) > 60
        assert date.fromisoformat(waiver.expires) <= date(2027, 12, 31)
