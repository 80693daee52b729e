"""What a GPU model should do: every shipped description lints clean, and every slip we know of is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from harness.commands import rules
from harness.commands import skus as skus_command
from harness.config.files import SkuFile, find, list_names, load_profile, load_sku_file, load_skus
from harness.config.yaml_source import read_yaml
from harness.errors import ConfigError
from harness.model.inventory import LimitSpec
from harness.model.sku import Figure, Floor, Sku, describing
from harness.verdict.figures import FIGURE_OF, UNIT_OF, link_bandwidth
from harness.verdict.rules import lint_limits, lint_skus

CASES = sorted((Path(__file__).parent / "cases").glob("sku-*.yaml"))
DEMANDED = (
    "t4",
    "quadro-rtx-6000",
    "rtx-4000-ada",
    "a10",
    "a100-pcie-40gb",
    "a100-pcie-80gb",
    "a100-sxm-40gb",
    "a100-sxm-80gb",
    "l4",
    "l40s",
    "h100-pcie",
    "h100-sxm",
    "h200-sxm",
    "h200-nvl",
    "b200",
)


@pytest.fixture(scope="module")
def shipped() -> dict[str, SkuFile]:
    return {name: load_sku_file(name) for name in list_names("skus")}


def _mutated(name: str, change: dict[str, Any], folder: Path) -> SkuFile:
    """The shipped file with values at ``a/b/c`` replaced, or taken out where the new one is null."""
    data = copy.deepcopy(read_yaml(find("skus", name)).data)
    for path, value in change.items():
        *way, last = path.split("/")
        inner = data
        for step in way:
            inner = inner[step]
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    written = folder / f"{name}.yaml"
    with written.open("w") as stream:
        YAML(typ="safe").dump(data, stream)
    return load_sku_file(written)


def test_the_models_that_are_demanded_are_described(shipped: dict[str, SkuFile]) -> None:
    assert set(DEMANDED) <= set(shipped)


def test_every_shipped_description_lints_clean(shipped: dict[str, SkuFile]) -> None:
    assert lint_skus([file.sku for file in shipped.values()]) == ()
    assert [sku.name for sku in load_skus()] == sorted(shipped)


def test_every_number_has_a_source_or_is_unknown(shipped: dict[str, SkuFile]) -> None:
    for file in shipped.values():
        for name, figure in file.sku.figures.items():
            assert (figure.value is None) == (figure.source == "unknown"), (file.sku.name, name)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_slip_is_refused_with_its_place(case: Path, shipped: dict[str, SkuFile], tmp_path: Path) -> None:
    told = read_yaml(case).data
    mutant = _mutated(told["model"], told["change"], tmp_path)
    beside = [mutant.sku if name == told["model"] else file.sku for name, file in shipped.items()]
    found = [p for p in lint_skus(beside) if p.name == told["model"]]
    assert [
        p
        for p in found
        if ".".join(map(str, p.place)) == told["place"] and told["says"] in (f"{p.message} {p.remedy}")
    ], [(p.place, p.message) for p in found]
    assert all(len(p.remedy) > 5 for p in found)


def test_a_wrong_inventory_stops_a_run_and_the_lint_names_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "inventory" / "skus"
    folder.mkdir(parents=True)
    text = find("skus", "h200-sxm").read_text()
    wrong = text.replace("share: 0.48", "share: 0.000486")
    assert wrong != text
    (folder / "h200-sxm.yaml").write_text(wrong)
    monkeypatch.chdir(tmp_path)
    line = wrong.splitlines().index("    share: 0.000486") + 1
    assert rules.lint() == 2
    assert (
        f"WRONG  inventory/skus/h200-sxm.yaml, line {line}: floors.vram.bandwidth.share"
        in capsys.readouterr().out
    )
    assert rules.lint(as_json=True) == 2
    answer = json.loads(capsys.readouterr().out)
    assert [(f["line"], Path(f["file"]).name) for f in answer["findings"]] == [(line, "h200-sxm.yaml")]
    with pytest.raises(ConfigError, match=f"line {line}"):
        load_skus()


def test_an_unreadable_file_is_one_finding_and_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, name in (("skus", "t4"), ("profiles", "smoke"), ("kernel", "xids")):
        folder = tmp_path / "inventory" / kind
        folder.mkdir(parents=True)
        (folder / f"{name}.yaml").write_text("name: [\n")
    monkeypatch.chdir(tmp_path)
    assert rules.lint(as_json=True) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    # Profiles that are based on smoke are broken with it.
    assert {Path(f["file"]).stem for f in findings} >= {"t4", "smoke", "xids"}


def test_the_shipped_rules_lint_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules.lint() == 0
    assert "0 wrong rules" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "lower"), [("tensor.bf16.rate", 0.7), ("vram.bandwidth", 2_333_000.0)])
def test_a_limit_of_a_profile_that_no_model_can_mean_is_refused(
    name: str, lower: float, shipped: dict[str, SkuFile]
) -> None:
    known = [file.sku for file in shipped.values()]
    limits = {name: LimitSpec(lower=lower, reason="a slip of units")}
    profile = replace(load_profile("smoke"), limits=limits)
    assert [p.place for p in lint_limits(profile, known)] == [("limits", name, "lower")]


def test_a_limit_within_a_sane_share_is_no_finding(shipped: dict[str, SkuFile]) -> None:
    limits = {"vram.bandwidth": LimitSpec(lower=2400.0, reason="half of an H200's")}
    profile = replace(load_profile("smoke"), limits=limits)
    assert list(lint_limits(profile, [file.sku for file in shipped.values()])) == []


def test_a_device_is_one_model_and_a_subsystem_is_more_exact_than_an_id(shipped: dict[str, SkuFile]) -> None:
    known = [file.sku for file in shipped.values()]
    assert [s.name for s in describing(known, "10de:2335", None)] == ["h200-sxm"]
    assert [s.name for s in describing(known, "10de:20b2", "10de:1463")] == ["a100-sxm-80gb"]
    assert describing(known, "10de:20b2", "10de:1625") == ()
    assert describing(known, "10de:1e30", "10de:129e") == ()
    assert [s.name for s in describing(known, "1234:11e8", None)] == ["standin-edu"]
    assert describing(known, "10de:ffff", "10de:0000") == ()


def test_links_carry_what_the_specification_says() -> None:
    assert link_bandwidth(3, 16) == pytest.approx(15.754, abs=1e-3)
    assert link_bandwidth(5, 16) == pytest.approx(63.015, abs=1e-3)
    assert link_bandwidth(2, 4) == pytest.approx(2.0)
    assert link_bandwidth(4.5, 16) is None


def test_every_measurement_that_has_a_figure_has_its_unit() -> None:
    assert set(FIGURE_OF.values()) <= set(UNIT_OF)


def test_a_model_is_shown_with_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert skus_command.show("rtx-4000-ada") == 0
    said = capsys.readouterr().out
    assert "memory_bandwidth   unknown" in said
    assert "sources disagree" in said
    assert skus_command.show() == 0
    assert len(capsys.readouterr().out.splitlines()) == len(list_names("skus"))
    with pytest.raises(ConfigError, match="h200-sxm"):
        skus_command.show("h200-smx")


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("h200", ["h200-nvl", "h200-sxm"]),
        ("H100", ["h100-pcie", "h100-sxm"]),
        ("a100-sxm", ["a100-sxm-40gb", "a100-sxm-80gb"]),
        ("rtx", ["rtx-4000-ada"]),
    ],
)
def test_the_beginning_of_a_name_lists_the_models_that_have_it(
    name: str, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert skus_command.show(name) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == models
    assert skus_command.show(name, as_json=True) == 0
    assert list(json.loads(capsys.readouterr().out)) == models


_VALUES = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, 3.0, 16.0])
_FIGURES = st.builds(Figure, value=_VALUES, unit=st.sampled_from([*UNIT_OF.values(), ""]), source=st.text())
_FLOORS = st.builds(Floor, of=st.sampled_from([*UNIT_OF, "x"]), share=st.floats(-1, 2), reason=st.text())
_SKUS = st.builds(
    Sku,
    name=st.sampled_from(["a", "b"]),
    title=st.text(),
    pci_ids=st.lists(st.sampled_from(["10de:2335", "1234:11e8", ""]), max_size=3).map(tuple),
    family=st.sampled_from(["f", "g"]),
    figures=st.dictionaries(st.sampled_from([*UNIT_OF, "x"]), _FIGURES, max_size=6),
    floors=st.dictionaries(st.sampled_from([*FIGURE_OF, "x"]), _FLOORS, max_size=4),
    engines=st.dictionaries(st.sampled_from(["nvenc", "x"]), st.none() | st.integers(-1, 99), max_size=2),
    precisions=st.lists(st.sampled_from(["bf16", "x"]), max_size=2).map(tuple),
    codecs=st.lists(st.sampled_from(["h264", "x"]), max_size=2).map(tuple),
    sources=st.dictionaries(st.sampled_from(["pci_ids", "engines"]), st.text(), max_size=2),
)


@given(st.lists(_SKUS, max_size=4))
def test_the_lint_has_words_for_whatever_a_file_says(skus: list[Sku]) -> None:
    for problem in lint_skus(skus):
        assert problem.message
        assert problem.remedy
        assert problem.name in {sku.name for sku in skus}
