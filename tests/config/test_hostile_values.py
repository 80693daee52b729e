"""Every value of an inventory file that no machine can use is refused with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.files import load_host, load_profile
from harness.errors import ConfigError

HEAD = "name: x\nssh: {address: h}\n"
PROFILE = "based_on: smoke\nname: x\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("%YAML 1.9\n---\nname: x\n", "line 1: %-directives"),
        ("# c\n\n%TAG ! x:\n---\nname: x\n", "line 3: %-directives"),
        (HEAD + "expected_gpus: " + "9" * 5000 + "\n", "line 3: expected_gpus: not a plain number"),
        (HEAD + "expected_gpus: 1" + "0" * 400 + "\n", "line 3: expected_gpus: not a plain number"),
        (HEAD + "expected_gpus: 0x" + "f" * 30 + "\n", "line 3: expected_gpus"),
        (HEAD + "expected_gpus: 1000000000000\n", "line 3: expected_gpus: 1000000000000 is not between"),
        (HEAD + "expected_gpus: -1\n", "line 3: expected_gpus: -1 is not between"),
        (HEAD + "expected_link: {speed_gts: .nan}\n", "line 3: expected_link.speed_gts: not a plain number"),
        (HEAD + "expected_link: {speed_gts: 1e400}\n", "line 3: expected_link.speed_gts: not a plain number"),
        (HEAD + 'description: "\\ud800"\n', "line 3: description: holds half of a surrogate pair"),
        (HEAD + '"\\udc00": 1\n', "line 3: a key must be plain text"),
        (
            HEAD + 'placement: {selector: {addresses: ["0000:00:3f.3"]}}\n',
            "line 3: placement.selector.addresses",
        ),
    ],
)
def test_a_host_file(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_host(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "telemetry: {host_max_gap_seconds: 7}\n",
            "line 3: telemetry.host_max_gap_seconds: 7.0 is not between 10.0 and 120.0",
        ),
        ("virtualization: {least_runs: 1}\n", "line 3: virtualization.least_runs: 1 is not between 2"),
        ("disturbance: {least_runs: 1}\n", "line 3: disturbance.least_runs: 1 is not between 2"),
        ("guests: [{gpus: 1000000000000}]\n", "gpus: 1000000000000 is not between"),
        ("burn_seconds: 1.0e+300\n", "line 3: burn_seconds"),
        ("valid_days: 99999999999\n", "line 3: valid_days"),
        (
            "limits: {vram.rate: {lower: .inf, reason: r}}\n",
            "line 3: limits.vram.rate.lower: not a plain number",
        ),
    ],
)
def test_a_profile(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(PROFILE + text)
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert words in str(caught.value)
