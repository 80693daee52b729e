"""What the terminal says when a stage broke: where, what, what to do; not a hundred consequences."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from harness.commands import qualify
from harness.errors import ConfigError


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    """The file of a host where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    image = tmp_path / "own.qcow2"
    image.write_bytes(b"QFI\xfb" + b"\0" * 100)
    path = tmp_path / "rack12.yaml"
    path.write_text(
        f"name: rack12\nexpected_gpus: 8\nguest_image: {image}\n"
        f"ssh: {{address: 127.0.0.1, port: {port}, connect_timeout_seconds: 2}}\n"
    )
    return path


def test_a_broken_stage_is_told_with_its_remedy_and_its_consequences_in_one_line(
    refusing: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert qualify.run(host=str(refusing), runs=tmp_path / "runs") == 3
    said = capsys.readouterr().out
    assert "INCONCLUSIVE  rack12" in said
    assert "stage host failed on rack12: ssh to root@127.0.0.1" in said
    assert "remedy: check that sshd runs" in said
    assert "command log: transcripts/0001-connect.txt" in said
    assert "checks could not be judged because of it" in said
    assert len(said.splitlines()) < 12


def test_a_run_that_has_ended_is_not_resumed(refusing: Path, tmp_path: Path) -> None:
    qualify.run(host=str(refusing), runs=tmp_path / "runs")
    (run,) = (tmp_path / "runs" / "rack12").iterdir()
    events = (run / "events.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="has ended: there is nothing to resume"):
        qualify.run(host="lab", resume=run)
    assert (run / "events.jsonl").read_bytes() == events
