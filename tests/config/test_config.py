"""Inventory files: what is wrong is said with file, line, key and the nearest name that exists."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import files as config
from harness.config.yaml_source import MAX_BYTES, parse_yaml
from harness.errors import ConfigError, ConfigErrors
from harness.model.inventory import HostFile
from harness.model.outcome import Severity
from harness.model.pci import PciAddress

CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
LOADERS: dict[str, Callable[[Path], Any]] = {
    "standins": config.load_standin,
    "hosts": config.load_host,
    "profiles": config.load_profile,
    "labs": config.load_lab,
    "waivers": lambda path: config.load_waivers([path]),
    "kernel": config.load_kernel_code_file,
}
GOOD = "name: rack-1\nssh: {address: gpu1.example}\nplacement:\n  selector:\n"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no inventory named in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(config.ENVIRONMENT, raising=False)
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_wrong_file_is_named_with_line_and_key(case: Path) -> None:
    kind, _, expected = case.read_text().partition("\n")[0].removeprefix("# ").partition(": ")
    with pytest.raises(ConfigError) as caught:
        LOADERS[kind](case)
    words = str(caught.value)
    assert str(case) in words
    for part in expected.split("; "):
        assert part.strip() in words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: the file is empty"),
        (b"name: x\n\x7fELF\x00\x01", "NUL byte"),
        (b"name: x\nb: \xff\xfe", "line 2: not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
        (b"name: \x1b[31mx", "not YAML"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = write(tmp_path / "h.yaml", content)
    with pytest.raises(ConfigError, match=r"h\.yaml") as caught:
        config.load_host(path)
    assert words in str(caught.value)


def test_a_directory_or_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load_host(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        config.load_host("./absent.yaml")


@pytest.mark.parametrize("address", ['"0000:41:00.0"', "0000:41:00.0", "41:00.0", "'10000:e1:00.0'"])
def test_addresses_stay_addresses_quoted_or_not(tmp_path: Path, address: str) -> None:
    path = write(tmp_path / "h.yaml", f"{GOOD}    addresses: [{address}]\n    ids: [1234:5678]\n")
    selector = config.load_host(path).placement.selector
    assert selector.addresses == (PciAddress.parse(address.strip("\"'")),)
    assert selector.ids == ("1234:5678",)


def test_names_are_looked_for_here_then_in_the_environment_then_in_the_package(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = config.load_host("lab")
    other = elsewhere / "other"
    text = "name: lab\ndescription: {}\nssh: {{address: a}}\n"
    write(other / "hosts" / "lab.yaml", text.format("environment"))
    monkeypatch.setenv(config.ENVIRONMENT, str(other))
    second = config.load_host("lab")
    write(elsewhere / "inventory" / "hosts" / "lab.yaml", text.format("here"))
    first = config.load_host("lab")
    assert [first.description, second.description] == ["here", "environment"]
    assert shipped.control.kind == "lab"


def test_an_unknown_name_is_answered_with_the_nearest(elsewhere: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load_profile("smokes")
    assert "did you mean 'smoke'" in str(caught.value)
    assert "nightly" in str(caught.value)
    with pytest.raises(ConfigError) as far:
        config.load_host("\x00\n" + "z" * 10_000)
    assert len(str(far.value)) < 1000
    assert "\n" not in far.value.message


def test_names_of_each_kind_are_listed(elsewhere: Path) -> None:
    assert set(config.list_names("hosts")) >= {"lab", "example"}
    assert set(config.list_names("labs")) >= {"default", "four-nodes", "unknown-node"}
    with pytest.raises(ConfigError, match="no inventory of kind"):
        config.list_names("host")


def test_every_problem_of_a_file_is_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = (
        "name: 1\nssh: {address: -x, port: 0}\nsubjekt: lab\nguest_image: nvidja\nwork_dir: here\n"
        "expected_gpus: 99\n"
    )
    path = write(tmp_path / "h.yaml", text)
    with pytest.raises(ConfigErrors) as caught:
        config.load_host(path)
    assert "and 6 more problems in this file" in caught.value.message
    words = str(caught.value)
    for line, said in (
        (1, "name"),
        (2, "ssh.address: not a host name"),
        (2, "ssh.port: not a port"),
        (3, "did you mean 'subject'?"),
        (4, "did you mean 'nvidia'?"),
        (5, "work_dir: paths on the host are absolute"),
        (6, "expected_gpus: 99 is not between"),
    ):
        assert re.search(rf"h\.yaml, line {line}: .*{re.escape(said)}", words), (said, words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("expected_gpus: eight", "a whole number was expected; found 'eight'"),
        ("expected_gpus: 2.5", "a whole number was expected; found 2.5"),
        ("allow_sharing: maybe", "true or false was expected; found 'maybe'"),
        ("guest_image: 3", "text was expected; found 3"),
        ("waivers: lab", "a list was expected; found 'lab'"),
        ("placement: []", "keys with values were expected; found []"),
        ("ssh: root@rack12", "keys with values were expected; found 'root@rack12'"),
        ("subject: hardwear", "'hardware', 'standin' or 'lab' was expected; found 'hardwear'"),
    ],
)
def test_a_wrong_shape_is_told_in_the_words_of_who_writes_the_file(
    tmp_path: Path, line: str, words: str
) -> None:
    reach = "" if line.startswith("ssh") else "ssh: {address: a}\n"
    path = write(tmp_path / "h.yaml", f"name: x\n{reach}{line}\n")
    with pytest.raises(ConfigError, match=re.escape(words)):
        config.load_host(path)


def test_what_the_rules_say_of_a_place_of_the_wrong_shape_is_not_told(tmp_path: Path) -> None:
    text = "name: p\nchecks: {host.kvm: blocker}\nguests:\n  - {gpus: two}\n  - {gpus: 99}\n"
    with pytest.raises(ConfigErrors) as caught:
        config.load_profile(write(tmp_path / "p.yaml", text))
    assert [str(each).partition(": ")[0][-6:] for each in caught.value.each] == ["line 4", "line 5"]


def test_of_a_file_that_lacks_a_key_the_shapes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="required") as caught:
        config.load_waivers([write(tmp_path / "w.yaml", "waivers:\n  - {id: a, chek: b}\n  - {id: 7}\n")])
    assert len(caught.value.each) >= 4


def test_every_waiver_of_a_file_is_looked_at(tmp_path: Path) -> None:
    one = "  - {id: ID, check: CHECK, owner: A, reason: b, expires: DAY}\n"
    text = "waivers:\n" + "".join(
        one.replace("ID", i).replace("CHECK", c).replace("DAY", d)
        for i, c, d in (
            ("a", "host.kvm", "x"),
            ("a", "host.kvm", "2099-01-01"),
            ("c", "host.kvn", "2099-01-01"),
        )
    )
    with pytest.raises(ConfigErrors) as caught:
        config.load_waivers([write(tmp_path / "w.yaml", text)])
    said = str(caught.value)
    assert [said.count(f"line {line}:") for line in (2, 3, 4)] == [1, 1, 1]
    assert "not a date" in said
    assert "given twice" in said
    assert "did you mean 'host.kvm'?" in said


def test_the_kinds_of_guest_images_are_those_that_are_built() -> None:
    from harness.config.rules import GUEST_IMAGES
    from harness.lab.guest_image import GUEST_KINDS

    assert set(GUEST_IMAGES) == set(GUEST_KINDS)


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_data_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):  # anything else fails the test
        assert parse_yaml(Path("any.yaml"), text).line(()) >= 1


def test_a_healthy_scenario_is_there_for_every_gpu_model(tmp_path: Path) -> None:
    for name in config.list_names("skus"):
        scenario = config.load_standin(f"healthy-{name}")
        assert scenario.name == f"healthy-{name}"
        assert scenario.follow_loads
    h100, t4 = (config.load_standin(f"healthy-{name}").card for name in ("h100-sxm", "t4"))
    assert (h100.power_limit, h100.pcie_gen, h100.pci_id, h100.nvlinks) == (700.0, 5, "10de:2330", 18)
    assert (t4.power_limit, t4.pcie_gen, t4.remap_banks, t4.nvlinks) == (70.0, 3, 0, 0)
    with pytest.raises(ConfigError, match="no standin named 'healthy-t5'"):
        config.load_standin("healthy-t5")


GROUPED = """name: grouped
based_on: smoke
guests:
  - {gpus: 1}
  - together:
      - {gpus: 1, workloads: [hashing]}
      - {gpus: 3}
checks:
  user.test_my_driver: blocker
  user.test_fans: advisory
"""


def test_guests_may_live_together_and_tests_of_ones_own_be_demanded(tmp_path: Path) -> None:
    profile = config.load_profile(write(tmp_path / "p.yaml", GROUPED))
    alone, pair = profile.guests
    assert [(guest.gpus, guest.workloads) for guest in alone.members] == [(1, ())]
    assert [(guest.gpus, guest.workloads) for guest in pair.members] == [(1, ("hashing",)), (3, ())]
    assert profile.checks["user.test_my_driver"] is Severity.BLOCKER
    assert profile.checks["user.test_fans"] is Severity.ADVISORY
    assert set(config.load_profile("smoke").checks) < set(profile.checks)


PIECES = st.sampled_from(
    [
        "name: x\n",
        "ssh:\n",
        "  address: a\n",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!int ",
        "? ",
        ": ",
        "|\n",
        "%",
    ]
)


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_scraps_of_yaml_are_a_host_or_a_config_error(tmp_path_factory: Any, scraps: list[str]) -> None:
    path = tmp_path_factory.mktemp("scraps") / "h.yaml"
    path.write_text("".join(scraps))
    with contextlib.suppress(ConfigError):  # anything else fails the test
        assert isinstance(config.load_host(path), HostFile)
