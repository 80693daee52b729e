"""Wrong usage and wrong files: exit 2, the nearest valid name, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import shakedown

WRONG = {
    "a host that does not exist": (("qualify", "--host", "lba"), "did you mean 'lab'?"),
    "a profile that does not exist": (("qualify", "--profile", "smoek"), "did you mean 'smoke'?"),
    "guests that are no numbers": (("qualify", "--gpus", "x"), "'x' is not a number of GPUs"),
    "a guest of no GPUs": (("qualify", "--gpus", "1,0"), "'0' is not a number of GPUs"),
    "a guest larger than any host": (("qualify", "--gpus", "99"), "from 1 to 16"),
    "an empty place in a list": (("qualify", "--gpus", "1,,2"), "'' is not a number"),
    "neighbours without a number": (("qualify", "--gpus", "1+"), "'' is not a number of GPUs"),
    "neighbours for whom there is no room": (("qualify", "--gpus", "2+3"), "need 5 GPUs at the same time"),
    "an option that pytest does not have": (
        ("qualify", "--", "--no-such"),
        "unrecognized arguments: --no-such",
    ),
    "tests that are not there": (("qualify", "--", "own"), "file or directory not found: own"),
    "a run to resume that is none": (("qualify", "--resume", "."), "not a run directory"),
    "a host file that is not there": (("qualify", "--host", "./none.yaml"), "none.yaml: no such file"),
    "facts of two places": (("facts", "--host", "lab", "--sysroot", "."), "--host NAME, --sysroot DIR"),
    "facts of no place": (("facts",), "--host NAME, --sysroot DIR"),
    "a tree that was never captured": (("facts", "--sysroot", "nowhere"), "nowhere"),
    "a transcript that is none": (("facts", "--transcript", "other.json"), "remedy"),
    "facts that are none": (("plan", "--facts", "other.json", "--gpus", "1"), "other.json"),
    "facts that are not there": (("plan", "--facts", "none.json", "--gpus", "1"), "none.json"),
    "a directory that is no run": (("judge", "."), "not a run directory"),
    "a run that is not there": (("judge", "runs/none"), "runs/none"),
    "a report of no run": (("report", "."), "not a run directory"),
    "a format that does not exist": (("report", ".", "--format", "docx"), "unknown report format 'docx'"),
    "a lab that does not exist": (("lab", "up", "four-node"), "did you mean 'four-nodes'?"),
    "a kind that does not exist": (("inventory", "list", "skuz"), "hosts, profiles, labs, waivers"),
    "a file of no kind": (("inventory", "check", "other.json"), "--kind"),
    "a command that does not exist": (("qualfy",), "No such command 'qualfy'"),
    "an option that does not exist": (("qualify", "--gpu", "1"), "No such option"),
    "an option without its value": (("plan", "--gpus"), "requires an argument"),
}


@pytest.mark.parametrize(("arguments", "words"), WRONG.values(), ids=WRONG)
def test_wrong_input_exits_2_with_words(arguments, words, tmp_path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({"a": 1}))
    said = shakedown(*arguments, cwd=tmp_path)
    assert words in said.err, said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert said.status == 2


def test_a_run_that_cannot_be_written_down_exits_4(tmp_path) -> None:
    """Without a record there is no verdict, and no host is touched."""
    (tmp_path / "runs").write_text("a file, not a directory")
    said = shakedown("qualify", "--host", "lab", cwd=tmp_path)
    assert said.status == 4
    assert "Traceback" not in said.err
    assert "runs" in said.err


def test_a_lab_that_does_not_run_is_told_with_its_remedy(tmp_path) -> None:
    said = shakedown("lab", "ssh", "--", "true", cwd=tmp_path)
    assert said.status == 4
    assert "remedy: shakedown lab up default" in said.err


def test_status_without_any_lab_is_empty_and_fine(tmp_path) -> None:
    said = shakedown("lab", "status", "--json", cwd=tmp_path)
    assert (said.status, json.loads(said.out)) == (0, [])
    assert shakedown("lab", "down", "--all", cwd=tmp_path).status == 0


def test_a_reader_that_goes_away_is_no_failure(tmp_path) -> None:
    """``shakedown inventory list | head -1``."""
    import subprocess
    import sys

    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -P -m harness inventory list | head -n 1'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("hosts")
    assert "Traceback" not in done.stderr


def _inventory(directory: Path, text: str) -> Path:
    path = directory / "hosts" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_inventory_check_reads_files_as_a_run_would(tmp_path) -> None:
    path = _inventory(tmp_path, "name: mine\nssh: {address: a.example}\nexpected_gpuss: 8\n")
    said = shakedown("inventory", "check", str(path), cwd=tmp_path)
    assert said.status == 2
    assert "mine.yaml" in said.out
    assert "expected_gpus" in said.out


def test_inventory_check_says_first_that_a_file_is_not_there(tmp_path) -> None:
    said = shakedown("inventory", "check", "rack12.yaml", cwd=tmp_path)
    assert said.status == 2
    assert "rack12.yaml: no such file" in said.err


def test_inventory_check_follows_the_names_in_a_host_file(tmp_path) -> None:
    path = _inventory(tmp_path, "name: mine\nssh: {address: a.example}\nwaivers: [labb]\n")
    said = shakedown("inventory", "check", str(path), cwd=tmp_path)
    assert said.status == 2
    assert "did you mean 'lab'?" in said.out


WAIVED = "waivers:\n  - {id: ID, check: host.kvm, owner: A, reason: b, expires: DAY}\n"
REFUSED = {
    "an unknown image": ("guest_image: nvidja\n", 3, "did you mean 'nvidia'?"),
    "an image that is not there": ("guest_image: ./own.qcow2\n", 3, "own.qcow2 cannot be read"),
    "an image that is none": ("guest_image: ./text.qcow2\n", 3, "is not a qcow2 image"),
    "an unknown scenario": ("subject: lab\nnvml_standin: helthy-h200\n", 4, "did you mean 'healthy-h200'?"),
    "an expired waiver": ("waivers: [./old.yaml]\n", 2, "waiver 'old' has expired"),
    "a name that another file has": ("description: x\n", 1, "'mine' is also the name in "),
}


@pytest.mark.parametrize(("text", "line", "words"), REFUSED.values(), ids=REFUSED)
def test_inventory_check_finds_what_a_run_would_refuse(text, line, words, tmp_path) -> None:
    path = _inventory(tmp_path / "inventory", f"name: mine\nssh: {{address: a.example}}\n{text}")
    if "is also" in words:
        (path.parent / "other.yaml").write_text("# a copy\nname: mine\nssh: {address: b.example}\n")
    (tmp_path / "text.qcow2").write_text("not an image")
    (tmp_path / "old.yaml").write_text(WAIVED.replace("ID", "old").replace("DAY", "2020-01-01"))
    said = shakedown("inventory", "check", str(path), cwd=tmp_path)
    assert said.status == 2, said.out
    assert words in said.out
    assert f".yaml, line {line}: " in said.out
    assert said.err == ""


def test_inventory_check_looks_behind_what_has_no_shape(tmp_path) -> None:
    """A required key that is missing, or a number out of bounds, hides nothing of the rest."""
    file = tmp_path / "hosts" / "h.yaml"
    file.parent.mkdir()
    file.write_text(
        "name: bad name\nssh: {user: root, port: 22000000, identity_file: /nowhere/key}\n"
        "expected_gpus: -1\nguest_image: nvidja\nwaivers: [nobody]\nwork_dir: here\n"
    )
    done = shakedown("inventory", "check", str(file), cwd=tmp_path)
    assert done.status == 2
    for line, words in (
        (1, "name: not a usable name"),
        (2, "ssh.address: this key is required"),
        (2, "ssh.port: not a port"),
        (2, "ssh.identity_file: /nowhere/key is not on this machine"),
        (3, "expected_gpus: -1"),
        (4, "did you mean 'nvidia'?"),
        (5, "no waiver named 'nobody'"),
        (6, "work_dir: paths on the host are absolute"),
    ):
        assert f"line {line}: " in next(row for row in done.out.splitlines() if words in row)


def test_inventory_check_names_missing_keys_and_says_what_it_could_not_tell(tmp_path) -> None:
    text = (
        "name: mine\nssh:\n  address: a.example\n  identity_file: ./none\n  known_hosts: ./folder\n"
        "image_dirs: [/srv/images]\nwork_dir: /srv/shakedown\nwaivers: [labb]\n"
    )
    (tmp_path / "folder").mkdir()
    path = _inventory(tmp_path, text)
    said = shakedown("inventory", "check", str(path), cwd=tmp_path)
    assert said.status == 2
    lines = said.out.splitlines()
    wrong = [line for line in lines if line.startswith("WRONG")]
    notes = [line for line in lines if line.startswith("note")]
    assert len(wrong) == 3
    for number, words in ((4, "is not on this machine"), (5, "not a readable file"), (8, "mean 'lab'?")):
        assert [line for line in wrong if f"line {number}: " in line and words in line]
    assert len(notes) == 2
    assert all("is on the host, which was not contacted" in line for line in notes)


def test_a_host_whose_files_are_all_there_is_fine(tmp_path) -> None:
    (tmp_path / "key").write_text("a key")
    (tmp_path / "own.qcow2").write_bytes(b"QFI\xfb" + b"\0" * 100)
    (tmp_path / "valid.yaml").write_text(WAIVED.replace("ID", "ok").replace("DAY", "2099-01-01"))
    path = _inventory(
        tmp_path,
        "name: mine\nssh: {address: a.example, identity_file: ./key}\nguest_image: ./own.qcow2\n"
        "waivers: [./valid.yaml]\n",
    )
    said = shakedown("inventory", "check", str(path), cwd=tmp_path)
    assert (said.status, said.out) == (0, f"ok     {path}\n")


def test_what_is_shipped_passes_its_own_check(tmp_path) -> None:
    said = shakedown("inventory", "check", cwd=tmp_path)
    assert said.status == 0
    assert "WRONG" not in said.out
    assert said.out.count("ok ") >= 10
