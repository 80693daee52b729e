"""``shakedown log``: a kernel log, journal or serial console, read as a run reads its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Said, shakedown

XID = "[   12.345678] NVRM: Xid (PCI:0000:41:00): 79, pid=1, GPU has fallen off the bus."
FATAL = "pcieport 0000:40:00.0: AER: Uncorrected (Fatal) error received: 0000:41:00.0"
KEYS = ["lines", "family", "code", "subcode", "device", "severity", "action", "meaning", "sources"]
SEVERITIES = {"note", "retest", "stop", "config", "unknown"}


def log(where: Path, content: bytes | str, *options: str) -> Said:
    file = where / "kernel.log"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return shakedown("log", str(file), *options, cwd=where)


def events(said: Said) -> list[dict[str, Any]]:
    assert (said.status, said.err) == (0, "")
    return json.loads(said.out)


def test_json_holds_just_what_scripts_rely_on(tmp_path: Path) -> None:
    said = events(log(tmp_path, f"usb 1-1: x\n{XID}\n{FATAL}\n", "--json"))
    assert [list(event) for event in said] == [KEYS, KEYS]
    assert all(event["severity"] in SEVERITIES for event in said)
    first, second = said
    assert [first[key] for key in KEYS[:3]] == [[2, 2], "xid", 79]
    assert first["device"] == "0000:41:00.0"
    assert first["sources"]
    assert all(isinstance(source, str) for source in first["sources"])
    assert (second["lines"], second["code"], second["subcode"], second["sources"]) == ([3, 3], None, None, [])


def test_a_line_that_follows_another_is_a_note_that_says_so(tmp_path: Path) -> None:
    (event,) = events(log(tmp_path, "NVRM: Xid (PCI:0000:05:00): 45, Ch 0000001a\n", "--json"))
    assert event["severity"] == "note"
    assert "follow the event that it comes with" in event["meaning"]


@pytest.mark.parametrize("content", ["", "\n\n", "Linux version 6.8\n", "no line end"])
def test_a_quiet_log_is_no_failure(tmp_path: Path, content: str) -> None:
    assert events(log(tmp_path, content, "--json")) == []


def test_a_person_gets_a_row_an_event_and_a_sum(tmp_path: Path) -> None:
    said = log(tmp_path, f"{XID}\n{FATAL}\nhrtimer: interrupt took 31415926 ns\n")
    head, *rows, last = said.out.splitlines()
    assert head.split() == ["lines", "severity", "event", "device", "action", "meaning"]
    assert [row.split()[:4] for row in rows] == [
        ["1", "stop", "xid", "79"],
        ["2", "stop", "aer", "0000:41:00.0"],
        ["3", "note", "kernel", "-"],
    ]
    assert "RESEAT" in rows[1]
    assert "the link lost data" in rows[1]
    assert last.startswith("3 events (2 stop, 1 note) in 3 lines of ")


def test_a_serial_console_is_read_by_its_line_feeds(tmp_path: Path) -> None:
    text = f"boot\r\n\x1b[31m{XID}\x1b[0m\r\r\n-\r/\r|\r{FATAL}\r\n"
    assert [event["lines"] for event in events(log(tmp_path, text, "--json"))] == [[2, 2], [3, 3]]


def test_records_of_dev_kmsg_are_read_with_their_own_lines_counted(tmp_path: Path) -> None:
    words = XID.partition("] ")[2]
    text = f"6,1,1000,-;x\n SUBSYSTEM=pci\n3,2,12345678,-;{words}\n DEVICE=+pci:0000:41:00.0\n"
    (event,) = events(log(tmp_path, text, "--json", "--kmsg"))
    assert (event["lines"], event["code"]) == ([3, 3], 79)


@pytest.mark.parametrize(
    "content",
    [
        '{"MESSAGE":"NVRM: Xid (PCI:0000:41:00): 79"}\n',
        '{ "__CURSOR" : "x" }\n',
        '{\n   "dmesg": [\n',
        "[\n{}\n]\n",
    ],
    ids=["journal", "journal-pretty", "dmesg", "list"],
)
def test_json_is_refused_since_it_would_read_as_a_quiet_log(tmp_path: Path, content: str) -> None:
    said = log(tmp_path, content)
    assert said.status == 2
    assert "this is JSON" in said.err
    assert "journalctl -k" in said.err


def test_a_record_in_braces_is_no_json(tmp_path: Path) -> None:
    said = events(
        log(
            tmp_path,
            "{1}[Hardware Error]: Hardware error from APEI Generic Hardware Error Source: 1\n",
            "--json",
        )
    )
    assert len(said) == 1


def test_a_file_of_another_form_is_no_quiet_log(tmp_path: Path) -> None:
    said = log(tmp_path, f"{XID}\n", "--kmsg", "--json")
    assert said.status == 2
    assert "leave out --kmsg" in said.err


@pytest.mark.parametrize("name", ["missing.log", ".", "a\x01b"])
def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, name: str) -> None:
    said = shakedown("log", name, cwd=tmp_path)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("shakedown: ")
    assert "\x01" not in said.err


def _piped(
    where: Path, *options: str, feed: bytes = b"", stream: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """The command with its standard input from ``feed``, or from a program that writes without end in sight:
    then within 1 GiB of address space, most of which Python's libraries take."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    command = [sys.executable, "-P", "-m", "harness", "log", "-", *options]
    if not stream:
        return subprocess.run(command, cwd=where, input=feed, capture_output=True, check=False)
    writer = subprocess.Popen([sys.executable, "-c", stream], stdout=subprocess.PIPE)
    try:
        return subprocess.run(
            command, cwd=where, stdin=writer.stdout, capture_output=True, check=False, preexec_fn=bounded
        )
    finally:
        if writer.stdout is not None:
            writer.stdout.close()
        writer.wait()


def test_standard_input_may_hold_any_bytes(tmp_path: Path) -> None:
    feed = bytes(range(256)) * 20 + b"\n\xff\xfe" + XID.encode() + b"\xff\n\xed\xa0\x80\n" + FATAL.encode()
    said = _piped(tmp_path, "--json", feed=feed)
    assert (said.returncode, said.stderr) == (0, b"")
    assert [event["family"] for event in json.loads(said.stdout)] == ["xid", "aer"]


@pytest.mark.parametrize(
    ("stream", "last"),
    [
        ("import sys; [sys.stdout.write('x' * 1000000) for _ in range(600)]", "no event in 1 lines"),
        ("import sys; [sys.stdout.write('a\\r' * 1000) for _ in range(200)]", "no event in 1 lines"),
        ("import sys; [sys.stdout.write('\\n' * 100000) for _ in range(10)]", "no event in 1000000 lines"),
    ],
)
def test_a_log_without_end_takes_bounded_memory(tmp_path: Path, stream: str, last: str) -> None:
    said = _piped(tmp_path, stream=stream)
    assert (said.returncode, said.stderr) == (0, b"")
    assert said.stdout.decode().startswith(last)


def test_a_line_that_is_cut_is_told(tmp_path: Path) -> None:
    said = log(tmp_path, f"{XID} {'x' * 20000}\n{FATAL}\n")
    assert "2 events" in said.out
    assert "1 of them longer than 16384 bytes and cut" in said.out
