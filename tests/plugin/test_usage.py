"""What bad input gets, what costs nothing, and what changes nothing."""

from __future__ import annotations

import sys

import pytest

from tests.plugin.sessions import CANDIDATE, ROOT, prepare, session, suites

SHAKEDOWN = (sys.executable, "-P", "-m", "harness")


@pytest.fixture
def where(tmp_path):
    prepare(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--candidate", "labb"), "did you mean 'lab'"),
        (("--candidate", "lab", "--profile", "smok"), "did you mean 'smoke'"),
        (
            ("--candidate", "lab", "--gpus", "2+3"),
            "need 5 GPUs at the same time, but the host file expects 4",
        ),
        (("--candidate", "lab", "--gpus", "x"), "'x' is not a number of GPUs"),
        (("--candidate", "lab", "--candidate", "local"), "one session runs on one host, not on 2"),
        (("--candidate", "lab", "--attach", "bare", "--profile", "smoke"), "not bare"),
        (("--candidate", "lab", "-n", "4"), "-n"),
        (("--resume", "nowhere"), "is not a run directory"),
        ((), "give --candidate NAME"),
    ],
)
def test_wrong_usage_is_pytests_usage_error_and_says_what_is_right(where, arguments, words) -> None:
    said = session(where, str(ROOT / "suites"), *arguments)
    assert said.status == 4, said.out
    assert words in said.out
    assert said.run is None


def test_processes_that_share_the_tests_are_refused_where_they_could(where) -> None:
    said = session(where, "--candidate", "lab", "-n", "4")
    assert said.status == 4
    assert "cannot be shared between processes" in said.out


def test_a_group_that_the_host_cannot_hold_names_file_and_line(where) -> None:
    (where / "wide.yaml").write_text(
        "name: wide\nbased_on: smoke\nguests:\n  - {gpus: 1}\n  - together: [{gpus: 3}, {gpus: 2}]\n"
    )
    for command in ((), (*SHAKEDOWN, "qualify")):
        host = ("--host", "lab") if command else ("--candidate", "lab")
        said = session(where, *host, "--profile", "./wide.yaml", command=command)
        assert said.status == (2 if command else 4), said.out
        assert "wide.yaml, line 5" in said.out
        assert "need 5 GPUs at the same time, and host lab has 4" in said.out


def test_collecting_only_shows_what_would_be_asked_and_touches_nothing(where) -> None:
    said = suites(where, "--collect-only", "-q")
    assert (said.status, said.run) == (0, None)
    assert "test_burnin[bare-hashing-workload.answer]" in said.out
    assert "test_burnin[bare-gpu1-telemetry.coverage]" in said.out
    assert "test_placement" not in said.out  # nothing of it is in the profile


def test_a_dry_run_lists_the_changes_and_makes_none(where) -> None:
    for command in ((), (*SHAKEDOWN, "qualify")):
        asked = ("--host", "./host.yaml") if command else (str(ROOT / "suites"), "--candidate", "./host.yaml")
        said = session(where, *asked, "--profile", "./short.yaml", "--dry-run", command=command)
        assert (said.status, said.run) == (0, None), said.out
        assert "run on bare metal: hashing" in said.out


def test_an_ordinary_session_keeps_its_own_exit_status_and_options(tmp_path) -> None:
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--profile', action='store_true')\n"
    )
    (tmp_path / "test_own.py").write_text(
        "def test_own(pytestconfig):\n    assert not pytestconfig.option.profile\n"
    )
    assert session(tmp_path).status == 0
    assert session(tmp_path, "--profile").status == 1


def test_without_a_candidate_tests_of_guests_skip_and_say_why(tmp_path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(guest):\n    assert guest\n")
    said = session(tmp_path, "-rs")
    assert said.status == 0
    assert "no candidate host: give --candidate NAME" in said.out


def test_the_marks_are_the_phases() -> None:
    from harness.checks.base import Phase
    from harness.plugin import PHASES

    assert list(PHASES) == [phase.value for phase in Phase]
    assert session(ROOT, *CANDIDATE[:0], "--markers").out.count("@pytest.mark.afterwards") == 1


def test_every_check_of_every_profile_has_its_test_in_the_suites() -> None:
    """A check that no suite collects would be missing for ever, and found only by a run."""
    from harness.config.files import list_names, load_host, load_profile
    from harness.plugin.collection import cells
    from harness.plugin.demand import Demand, choose_guests

    for name in list_names("profiles"):
        profile = load_profile(name)
        host = load_host("local-standin" if profile.attach == "bare" else "lab")
        guests = choose_guests(profile, "", expected_gpus=host.expected_gpus)
        planned = cells(Demand(host=host, profile=profile, guests=guests))
        assert {each.check for each in planned} == set(profile.checks)
        for each in planned:
            assert (each.phase.value in ("readiness", "afterwards")) or each.guest, each


def test_arguments_from_a_file_begin_a_run_by_the_defaults(where) -> None:
    """Pytest opens such a file after it has asked plugins for their options: the others are not there."""
    (where / "arguments.txt").write_text("--candidate\n./host.yaml\n")
    said = session(where, "@arguments.txt", str(ROOT / "suites"), "--collect-only", "-q")
    assert said.status == 0, said.out
    assert "test_placement[4gpu-placement.memory]" in said.out  # smoke, the default
