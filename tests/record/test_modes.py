"""Who may read a run directory is decided once, for every file in it; nobody but its owner writes to any."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.model.evidence import Note
from harness.record.judge import file_problems
from harness.record.notes import leave_note
from harness.workloads.base import Place
from harness.workloads.files import install, payload_tar
from tests.faults import clean
from tests.record.replay import begin, replay
from tests.record.unprivileged import nobody


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("umask", "folders", "files"),
    [
        (0o022, 0o755, 0o644),
        (0o027, 0o750, 0o640),
        (0o077, 0o700, 0o600),
        (0, 0o755, 0o644),
        (0o777, 0o700, 0o600),
    ],
)
def test_every_file_is_as_open_as_the_directory(umask: int, folders: int, files: int, tmp_path: Path) -> None:
    """The umask of the beginning counts, whatever a test makes of it afterwards."""
    before = os.umask(umask)
    try:
        recorder = begin(tmp_path, clean.evidence(), profile=clean.profile(), host=clean.HOST)
        os.umask(0o777 - umask)
        replay(recorder, clean.evidence())
        recorder.save_file("telemetry/deep/x", b"x")
        stream = LocalTransport().stream(("true",), recorder.file_path("telemetry/spool"))
        stream.close()
        leave_note(recorder.directory, Note(at="2026-11-22T00:05:00Z", by="a", text="b"))
    finally:
        os.umask(before)
    found = list(recorder.path.rglob("*"))
    assert len(found) > 5
    assert {mode(path) for path in found if path.is_file()} == {files}
    assert {mode(path) for path in (recorder.path, *found) if path.is_dir()} == {folders}


def test_a_file_that_another_may_not_read_is_no_tampering(tmp_path: Path) -> None:
    recorder = begin(tmp_path, clean.evidence(), profile=clean.profile(), host=clean.HOST)
    file = recorder.path / recorder.save_file("transcripts/x", b"x")
    file.chmod(0)
    with nobody():
        (problem,) = file_problems(recorder.directory, {"transcripts/x": "sha256:0"})
    assert problem == "evidence file transcripts/x could not be read: you may not read it"


def run(place: Path, umask: int = 0) -> subprocess.CompletedProcess[bytes]:
    argv = install(Place(payload=str(place)))
    return subprocess.run(argv, input=payload_tar(), capture_output=True, umask=umask, check=False)


def test_nobody_else_writes_where_the_payload_lies(tmp_path: Path) -> None:
    assert run(tmp_path / "a/b").returncode == 0
    assert [path for path in (tmp_path / "a").rglob("*") if mode(path) & 0o022] == []
    (tmp_path / "a/b").chmod(0o777)
    assert run(tmp_path / "a/b").returncode == 0
    assert mode(tmp_path / "a/b") == 0o755
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    assert run(tmp_path / "link").returncode == 73


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    done = run(tmp_path / "theirs")
    assert done.returncode == 73
    assert b"belongs to another user" in done.stderr
    assert list((tmp_path / "theirs").iterdir()) == []
