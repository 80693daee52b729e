"""The script itself, run by the local shell, and what becomes of a host's answer."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import ParseError, TransportError
from harness.facts import ask, collect, parse_transcript
from harness.ports import CommandResult

CASES = Path(__file__).parent / "cases"


@dataclass
class FakeTransport:
    """A host whose shell is the one given; its answer breaks off at ``cut``."""

    shell: tuple[str, ...] = ("sh",)
    cut: bytes | None = None
    status: int | None = None
    calls: int = 0
    name: str = "fake"

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        self.calls += 1
        done = subprocess.run(
            (*self.shell, *argv[1:]), input=stdin, capture_output=True, timeout=deadline, check=False
        )
        return CommandResult(
            argv=argv,
            status=done.returncode if self.status is None else self.status,
            stdout=done.stdout if self.cut is None else done.stdout.partition(self.cut)[0],
            stderr=done.stderr,
            seconds=0.0,
            transcript="transcripts/0001-facts.txt",
        )

    def put(self, source: Path, target: str, *, deadline: float = 600.0) -> None:
        raise AssertionError("facts copy nothing to the host")

    def close(self) -> None:
        return None


def test_a_running_guest_is_known_but_its_secrets_are_not_taken(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy(shell, program)
    arguments = ("-name", "guest=tenant,debug-threads=on", "-fw_cfg", "name=opt/key,string=TENANTS-SECRET")
    devices = ("-device", "vfio-pci,host=0000:41:00.0,id=hostdev0", "-device", "e1000,mac=52:54:00:00:00:01")
    guest = subprocess.Popen(
        (program, "-c", "read -r line", "qemu", *arguments, *devices), stdin=subprocess.PIPE
    )
    try:
        facts, raw = collect(FakeTransport(), work_dir="/nowhere")
    finally:
        guest.communicate(b"end\n", timeout=30)
    assert facts.domains is not None
    mine = next(domain for domain in facts.domains if domain.pid == guest.pid)
    assert (mine.name, [str(device) for device in mine.hostdevs]) == ("tenant", ["0000:41:00.0"])
    assert b"TENANTS-SECRET" not in raw
    assert b"e1000" not in raw


@pytest.mark.parametrize("shell", [("sh",), ("bash", "--posix"), ("busybox", "sh")])
def test_the_script_answers_in_one_round_trip_in_any_posix_shell(shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    transport = FakeTransport(shell=shell)
    facts, raw = collect(transport, work_dir="/nowhere/at all; rm -rf $x")
    assert transport.calls == 1
    assert facts == parse_transcript(raw)
    assert facts.versions.kernel == Path("/proc/sys/kernel/osrelease").read_text().strip()
    online = Path("/sys/devices/system/cpu/online").read_text().strip()
    assert online.endswith(str(max(c.id for c in facts.cpus if c.online)))
    assert facts.storage[0].path == "/nowhere/at all; rm -rf $x"
    assert facts.storage[0].total_bytes
    assert facts.collected_at is not None


def test_the_script_writes_no_file_on_the_host() -> None:
    """Its only redirections of output go to /dev/null, to its own error output and between its own parts."""
    lines = [line for line in ask.SCRIPT.text().splitlines() if not line.lstrip().startswith("#")]
    code = "\n".join(line for line in lines if "seen" not in line)
    targets = re.findall(r"(?<![=<>-])>\s*([^\s;)=]+)", code)
    assert set(targets) == {"/dev/null", "&2"}


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("system_files", ask.SYSTEM_FILES),
        ("dmi_attributes", ask.DMI_ATTRIBUTES),
        ("cpu_lists", ask.CPU_LISTS),
        ("cpu_attributes", ask.CPU_ATTRIBUTES),
        ("node_lists", ask.NODE_LISTS),
        ("node_attributes", ask.NODE_ATTRIBUTES),
        ("pci_attributes", ask.PCI_ATTRIBUTES),
        ("pci_links", ask.PCI_LINKS),
        ("pci_marks", ask.PCI_MARKS),
    ],
)
def test_script_and_captured_trees_ask_for_the_same(variable: str, names: tuple[str, ...]) -> None:
    text = ask.SCRIPT.text().replace("\\\n", "")
    match = re.search(rf'^{variable}="([^"]*)"', text, re.MULTILINE)
    assert match is not None
    assert tuple(match[1].split()) == names


def test_a_script_that_failed_is_a_transport_error_with_a_remedy() -> None:
    with pytest.raises(TransportError, match=r"on fake: .*status 127") as caught:
        collect(FakeTransport(status=127, cut=b"shakedown"), work_dir="/")
    assert "POSIX sh" in caught.value.remedy
    assert caught.value.transcript == "transcripts/0001-facts.txt"


def test_an_answer_to_another_question_is_refused() -> None:
    class Replayed(FakeTransport):
        def run(self, argv: tuple[str, ...], **options: object) -> CommandResult:
            return super().run(("sh", "-s", "--", "0" * 32, *argv[4:]), **options)  # type: ignore[arg-type]

    with pytest.raises(ParseError, match="another request"):
        collect(Replayed(), work_dir="/")


def test_a_cut_answer_names_host_and_what_is_missing() -> None:
    with pytest.raises(ParseError, match=r"on fake: facts: the answer breaks off in"):
        collect(FakeTransport(cut=b" part iommu "), work_dir="/")


@pytest.mark.parametrize("case", sorted(CASES.glob("*.txt")), ids=lambda path: path.stem)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_transcript_gives_facts_or_a_parse_error(case: Path, data: st.DataObject) -> None:
    """Cut, altered and shuffled captures: a value or ParseError, nothing else."""
    raw = case.read_bytes()
    kind = data.draw(st.sampled_from(("cut", "alter", "shuffle", "drop")))
    if kind == "cut":
        raw = raw[: data.draw(st.integers(0, len(raw) - 2))]
    elif kind == "alter":
        for _ in range(data.draw(st.integers(1, 20))):
            at = data.draw(st.integers(0, len(raw) - 1))
            raw = raw[:at] + data.draw(st.binary(max_size=3)) + raw[at + 1 :]
    else:
        lines = raw.split(b"\n")
        first, last = sorted(data.draw(st.tuples(*[st.integers(1, len(lines) - 1)] * 2)))
        part = [] if kind == "drop" else data.draw(st.permutations(lines[first:last][:40]))
        raw = b"\n".join([*lines[:first], *part, *lines[last:]])
    try:
        facts = parse_transcript(raw)
    except ParseError:
        return
    assert kind != "cut", "a cut transcript must never pass for a whole one"
    assert facts.schema_version == 1
