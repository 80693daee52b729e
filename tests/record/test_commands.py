"""``judge`` and ``report`` as commands: output, exit status, refusals."""

from __future__ import annotations

import json

import pytest

from harness.commands import judge, report
from harness.errors import ConfigError, RecordError
from tests.reports import records as example


@pytest.fixture
def run_dir(tmp_path):
    example.record(tmp_path / "runs", example.WITH_WAIVERS)
    return tmp_path / "runs" / "lab" / example.RUN


def judged(run_dir, capsys) -> tuple[int, dict]:
    status = judge.run(run_dir=run_dir, json_output=True, checker=example.checker)
    return status, json.loads(capsys.readouterr().out)


def test_judge_agrees_with_an_untouched_run(run_dir, capsys):
    status, said = judged(run_dir, capsys)
    assert status == 0
    assert said["verdict"] == said["recorded_verdict"] == "GO_WITH_WAIVERS"
    assert said["agrees"] is True
    assert said["checks"] == {"pass": 15, "fail": 7, "error": 0, "skip": 0, "missing": 0}


def test_judge_of_a_flipped_verdict_exits_3_and_says_why(run_dir, capsys):
    record = run_dir / "run.json"
    record.write_text(record.read_text().replace('"GO_WITH_WAIVERS"', '"GO"'))
    status, said = judged(run_dir, capsys)
    assert status == 3
    assert said["verdict"] == "INCONCLUSIVE"
    assert "run.json differs from its recorded hash" in said["problems"][0]


def test_judge_of_a_refused_host_exits_1(tmp_path, capsys):
    example.record(tmp_path, example.REFUSED)
    assert judge.run(run_dir=tmp_path / "lab" / example.RUN, json_output=False, checker=example.checker) == 1
    out = capsys.readouterr().out
    assert out.startswith("NO_GO  lab  (recorded: NO_GO; agrees)\n")
    assert "workload.answers on g1/transcode failed" in out


def test_judge_of_unreadable_events_exits_3(run_dir, capsys):
    (run_dir / "events.jsonl").write_bytes(b"\x00\xff\n")
    status, said = judged(run_dir, capsys)
    assert status == 3
    assert said["verdict"] == "INCONCLUSIVE"


def test_judge_of_something_else_is_wrong_usage(tmp_path):
    with pytest.raises(ConfigError):
        judge.run(run_dir=tmp_path, json_output=False)


def test_report_writes_the_named_formats_beside_the_record(run_dir, capsys):
    assert report.run(checker=example.checker, runs=(run_dir,), formats=("md", "json"), output=None) == 0
    assert capsys.readouterr().out.splitlines() == [str(run_dir / "report.md"), str(run_dir / "report.json")]
    assert judge.run(run_dir=run_dir, json_output=False, checker=example.checker) == 0


def test_report_of_several_runs_keeps_them_apart(run_dir, tmp_path):
    example.record(tmp_path / "runs", example.HARDWARE)
    other = tmp_path / "runs" / "gpu-host-07" / example.RUN
    assert (
        report.run(checker=example.checker, runs=(run_dir, other), formats=("md",), output=tmp_path / "out")
        == 0
    )
    assert len(list((tmp_path / "out").glob("*/report.md"))) == 2


def test_report_of_an_altered_record_never_shows_the_verdict_it_claims(run_dir, tmp_path, capsys):
    record = run_dir / "run.json"
    record.write_text(record.read_text().replace('"GO_WITH_WAIVERS"', '"GO"'))
    report.run(checker=example.checker, runs=(run_dir,), formats=("md",), output=tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("# INCONCLUSIVE: lab")
    assert "altered" in capsys.readouterr().err


def test_report_without_a_record_says_what_to_do(run_dir):
    (run_dir / "run.json").unlink()
    with pytest.raises(RecordError, match="no usable record"):
        report.run(checker=example.checker, runs=(run_dir,), formats=(), output=None)


def test_report_of_an_unknown_format_writes_nothing(run_dir):
    with pytest.raises(ConfigError, match="docx"):
        report.run(checker=example.checker, runs=(run_dir,), formats=("html", "docx"), output=None)
    assert not (run_dir / "report.html").exists()


def test_report_of_a_run_whose_evidence_is_gone_is_inconclusive_too(run_dir, tmp_path, capsys):
    next(path for path in sorted((run_dir / "transcripts").iterdir())).unlink()
    report.run(checker=example.checker, runs=(run_dir,), formats=("md",), output=tmp_path)
    assert (tmp_path / "report.md").read_text().startswith("# INCONCLUSIVE: lab")
    assert "is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("mine.html", "<!doctype html>"),
        ("deep/er/x.MD", "# "),
        ("a.xml", "<?xml"),
        ("a.jsonl", "{"),
        ("a.prom", "# "),
    ],
)
def test_an_output_that_is_named_like_a_file_is_that_file(run_dir, tmp_path, capsys, name, begins):
    target = tmp_path / "there" / name
    assert report.run(runs=(run_dir,), output=target) == 0
    assert target.read_text().startswith(begins)
    assert capsys.readouterr().out == f"{target}\n"
    assert [path for path in target.parent.iterdir() if path != target] == []


def test_one_file_is_not_for_two_runs_and_not_of_another_format(run_dir, tmp_path):
    for runs, formats in (((run_dir, run_dir), ()), ((run_dir,), ("md",)), ((run_dir,), ("html", "md"))):
        with pytest.raises(ConfigError, match=r"--output .*x\.html"):
            report.run(runs=runs, formats=formats, output=tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_a_folder_with_such_a_name_stays_a_folder(run_dir, tmp_path):
    folder = tmp_path / "old.html"
    folder.mkdir()
    assert report.run(runs=(run_dir,), formats=("md",), output=folder) == 0
    assert (folder / "report.md").exists()
