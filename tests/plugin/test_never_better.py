"""No way of calling pytest makes a verdict better: what was not asked is missing, the worst answer stands."""

from __future__ import annotations

import os
import re
import shutil
import sys

import pytest

from tests.plugin.sessions import CANDIDATE, ROOT, junit, prepare, session, suites

pytestmark = [
    pytest.mark.skipif(shutil.which("john") is None, reason="no john (apt-get install john)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a bare run claims this machine: it needs root"),
]


@pytest.fixture
def where(tmp_path):
    prepare(tmp_path)
    return tmp_path


@pytest.mark.parametrize("option", ["--setup-plan", "--setup-only", "--runxfail"])
def test_options_under_which_no_test_says_what_it_says_are_refused(where, option) -> None:
    said = suites(where, option)
    assert (said.status, said.run) == (4, None), said.out


def test_a_run_that_is_taken_up_again_is_given_nothing_else(where) -> None:
    said = session(where, str(ROOT / "suites"), "--resume", "runs/here/x", "--profile", "./short.yaml")
    assert said.status == 4
    assert "the record holds the run's options" in said.out


def test_one_test_picked_by_its_id_answers_for_itself_alone(where) -> None:
    file = str(ROOT / "suites" / "burnin" / "test_burnin.py")
    said = session(where, f"{file}::test_burnin[bare-gpu0-telemetry.coverage]", *CANDIDATE)
    assert said.verdict == "INCONCLUSIVE"
    outcomes = {c["slot"]: c["outcome"] for c in said.cells().values() if c["check"] == "telemetry.coverage"}
    assert outcomes == {"bare-gpu0": "PASS", "bare-gpu1": None}, said.out


def test_what_failed_before_is_asked_again_alone_and_the_rest_is_missing(where) -> None:
    (where / "test_own.py").write_text("def test_own(candidate):\n    assert False\n")
    pytest_with_cache = (
        sys.executable,
        "-m",
        "pytest",
        "--import-mode=importlib",
        "-o",
        f"cache_dir={where}/c",
    )
    arguments = (str(ROOT / "suites"), "test_own.py", *CANDIDATE)
    assert session(where, *arguments, command=pytest_with_cache).verdict == "NO_GO"
    (where / "test_own.py").write_text("def test_own(candidate):\n    assert True\n")
    again = session(where, *arguments, "--lf", command=pytest_with_cache)
    assert again.verdict == "INCONCLUSIVE", again.out
    assert again.cells()["user.test_own", "host"]["outcome"] == "PASS"


def test_a_demanded_test_is_demanded_of_every_gpu(where) -> None:
    profile = (where / "short.yaml").read_text()
    (where / "short.yaml").write_text(f"{profile}  user.test_own: blocker\n")
    (where / "test_own.py").write_text("def test_own(gpu):\n    assert gpu.host\n")
    whole = suites(where, "test_own.py")
    assert whole.verdict == "GO", whole.out
    half = suites(where, "test_own.py::test_own[bare-gpu0]")
    assert half.verdict == "INCONCLUSIVE", half.out
    assert half.cells()["user.test_own", "bare-gpu1"]["outcome"] is None


def test_a_test_that_fails_and_cannot_be_torn_down_has_failed(where) -> None:
    (where / "test_own.py").write_text(
        "import pytest\n@pytest.fixture\ndef broken():\n    yield\n    raise RuntimeError('teardown')\n"
        "def test_own(candidate, broken):\n    assert False\n"
    )
    assert suites(where, "test_own.py").cells()["user.test_own", "host"]["outcome"] == "FAIL"


def test_a_file_that_cannot_be_imported_is_never_go(where) -> None:
    (where / "test_own.py").write_text("import nothing_of_that_name\n")
    said = suites(where, "test_own.py", "--continue-on-collection-errors")
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3), said.out
    assert said.record["evidence"]["errors"][0]["stage"] == "collect"


def test_users_tests_have_one_colour_too(where) -> None:
    profile = (where / "short.yaml").read_text()
    demands = "  user.test_advisory: advisory\n  user.test_skips_though_demanded: blocker\n"
    (where / "short.yaml").write_text(profile + demands)
    (where / "test_own.py").write_text(
        "import pytest\n"
        "def test_advisory(candidate):\n    assert False\n"
        "def test_skips(candidate):\n    pytest.skip('not here')\n"
        "def test_skips_though_demanded(candidate):\n    pytest.skip('not here')\n"
        "@pytest.mark.xfail(reason='known')\ndef test_known(candidate):\n    assert False\n"
    )
    said = suites(where, "test_own.py", "-rA", "--junitxml=pytest.xml")
    cells = said.cells()
    found = {name: cells[f"user.test_{name}", "host"] for name in ("advisory", "skips", "known")}
    assert [c["outcome"] for c in found.values()] == ["FAIL", "SKIP", "SKIP"]
    assert {c["severity"] for c in found.values()} == {"advisory"}
    assert re.search(r"XFAIL .*test_advisory", said.out)
    assert re.search(r"ERROR .*test_skips_though_demanded", said.out)
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3)
    ours = junit(said.run / "junit.xml")
    assert {ours[f"user.test_{name}", "host"] for name in found} == {"skipped"}
    assert ours["user.test_skips_though_demanded", "host"] == "error"


def test_a_fixture_of_ones_own_with_a_name_of_ours_is_ones_own(where) -> None:
    (where / "conftest.py").write_text(
        "import pytest\n@pytest.fixture(params=[1, 2])\ndef group(request):\n    return request.param\n"
        "@pytest.fixture\ndef run():\n    return 'mine'\n"
    )
    (where / "test_own.py").write_text("def test_own(group, run):\n    assert run == 'mine'\n")
    said = suites(where, "test_own.py")
    assert said.verdict == "GO", said.out
    assert not [key for key in said.cells() if key[0].startswith("user.")]


def test_a_signal_that_a_test_swallows_ends_the_session_all_the_same(where) -> None:
    (where / "test_own.py").write_text(
        "import os, signal\n"
        "def test_swallows(guest):\n"
        "    try:\n        os.kill(os.getpid(), signal.SIGINT)\n    except BaseException:\n        pass\n"
        "def test_never(guest):\n    raise AssertionError('it ran')\n"
    )
    said = suites(where, "test_own.py")
    assert (said.verdict, said.status) == ("INCONCLUSIVE", 3), said.out
    assert said.record["evidence"]["interrupted"] is True


def test_a_time_limit_of_somebodys_set_up_does_not_break_off_a_check(where) -> None:
    (where / "conftest.py").write_text(
        "import pytest\ndef pytest_collection_modifyitems(items):\n"
        "    for item in items: item.add_marker(pytest.mark.timeout(1, method='thread'))\n"
    )
    (where / "test_own.py").write_text("import time\ndef test_own(guest):\n    time.sleep(30)\n")
    said = suites(where, "test_own.py")
    assert said.cells()["workload.answer", "bare/hashing"]["outcome"] == "PASS", said.out
    assert said.cells()["user.test_own", "bare"]["outcome"] == "FAIL"
