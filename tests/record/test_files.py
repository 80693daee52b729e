"""Run directories, transcripts and names: whole, safe, never overwritten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ParseError, RecordError
from harness.ports import CommandResult
from harness.record.directory import RunDirectory, new_run_id
from harness.record.files import safe_name
from harness.record.transcripts import from_bytes, to_bytes
from harness.regular import sha256_of
from tests.reports import records as example


def test_a_run_directory_is_never_overwritten(tmp_path):
    RunDirectory.create(tmp_path, "lab", "one")
    with pytest.raises(RecordError, match="never overwritten"):
        RunDirectory.create(tmp_path, "lab", "one")


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\nb", "x" * 200, "-x"])
def test_names_that_would_leave_the_directory_are_refused(tmp_path, name):
    with pytest.raises(RecordError, match="cannot name"):
        RunDirectory.create(tmp_path, "lab", name)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "lab"])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", "transcripts/../../x"])
def test_a_recorded_file_lies_inside_the_run_directory(tmp_path, name):
    directory = RunDirectory.create(tmp_path, "lab", "one")
    with pytest.raises(RecordError, match="inside"):
        directory.file(name)


def test_run_ids_sort_by_time():
    assert new_run_id("2026-03-10T12:00:00.123Z").startswith("20260310T120000Z-")
    assert new_run_id("2026-03-10T12:00:00Z") != new_run_id("2026-03-10T12:00:00Z")


@given(st.text())
def test_any_label_makes_a_plain_file_name(label):
    name = safe_name(label)
    assert 0 < len(name) <= 60
    assert not name.startswith((".", "-"))
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def result(stdout: bytes, stderr: bytes = b"") -> CommandResult:
    return CommandResult(argv=("cat", "/x\n\ud800"), status=3, stdout=stdout, stderr=stderr, seconds=0.5)


@given(stdin=st.binary(), stdout=st.binary(), stderr=st.binary())
def test_a_transcript_keeps_every_byte_whatever_it_holds(tmp_path_factory, stdin, stdout, stderr):
    recorder = example.begin(tmp_path_factory.mktemp("t"), example.WITH_WAIVERS)
    done = result(stdout, stderr)
    path = recorder.path / recorder.save("a label", done.argv, len(stdin), done)
    saved = from_bytes(path.read_bytes())
    recorder.log.close()
    assert (saved.stdin_bytes, saved.stdout, saved.stderr) == (len(stdin), stdout, stderr)
    assert (saved.argv, saved.status, saved.seconds) == (done.argv, 3, 0.5)
    whole = replace(saved, stdin=stdin)
    assert from_bytes(to_bytes(whole)) == whole


def test_a_transcript_with_headings_inside_is_still_read_right(tmp_path):
    recorder = example.begin(tmp_path, example.WITH_WAIVERS)
    done = result(b"\n==== stderr ====\nfake\n")
    path = recorder.path / recorder.save("x", done.argv, 12, done)
    recorder.log.close()
    saved = from_bytes(path.read_bytes())
    assert saved.stdout == done.stdout
    assert saved.stderr == b""
    assert saved.stdin_bytes == 12


@given(st.integers(0, 400))
def test_a_truncated_transcript_is_a_parse_error(tmp_path_factory, cut):
    recorder = example.begin(tmp_path_factory.mktemp("t"), example.WITH_WAIVERS)
    done = result(b"x" * 40)
    data = (recorder.path / recorder.save("x", done.argv, 2, done)).read_bytes()
    recorder.log.close()
    if cut >= len(data):
        return
    with pytest.raises(ParseError):
        from_bytes(data[:cut])


@given(st.binary(max_size=300))
def test_any_bytes_are_a_transcript_or_a_parse_error(data):
    with pytest.raises(ParseError):
        from_bytes(data)


def test_saved_files_are_hashed_numbered_and_leave_no_temporary_files(tmp_path):
    recorder = example.begin(tmp_path, example.WITH_WAIVERS)
    first = recorder.save_file("domain/g1.xml", b"<a/>")
    second = recorder.save_file("domain/g1.xml", b"<b/>")
    labelled = recorder.save("../../etc/passwd", ("x",), 0, result(b""))
    recorder.log.close()
    assert (first, second) == ("domain/g1.xml", "domain/g1-2.xml")
    assert labelled == "transcripts/0001-etc-passwd.txt"
    assert sha256_of(recorder.path / second).startswith("sha256:")
    assert not [p for p in recorder.path.glob("**/*") if p.name.startswith(".writing")]
