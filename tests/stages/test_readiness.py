"""Readiness questions go through testinfra and our transport; what is not understood is unknown."""

from __future__ import annotations

import dataclasses

import pytest

from harness.backends.testinfra_backend import infra_host
from harness.checks.host.services import QUESTIONS
from harness.errors import CommandTimeout, ProvisionError, TransportError
from harness.model.topology import Domain
from harness.ports import CommandResult
from harness.stages.claimed_host import ClaimedHost
from harness.stages.host.readiness import ask_system, refuse_foreign_domains
from tests.placement import hosts
from tests.stages.groups import a_claimed_host
from tests.stages.stand_ins import FakeAccess, a_recorder


class Scripted:
    """A transport that answers by the words in the command; everything else exits with ``other``."""

    name = "scripted"

    def __init__(self, answers: dict[str, tuple[int, bytes]], other: int = 1) -> None:
        self.answers = answers
        self.other = other
        self.asked: list[str] = []

    def run(
        self, argv: tuple[str, ...], *, stdin: bytes = b"", deadline: float = 60.0, label: str = ""
    ) -> CommandResult:
        assert argv[:2] == ("sh", "-c")
        assert label.startswith("testinfra ")
        self.asked.append(argv[2])
        status, out = next((a for words, a in self.answers.items() if words in argv[2]), (self.other, b""))
        number = len(self.asked)
        return CommandResult(
            argv=argv, status=status, stdout=out, stderr=b"", seconds=0.0, transcript=f"t{number}"
        )

    def put(self, source: object, target: str, *, deadline: float = 600.0) -> None:
        raise AssertionError

    def close(self) -> None:
        pass


LINUX = {
    "uname -s": (0, b"Linux\n"),
    "uname -m": (0, b"x86_64\n"),
    "cat /etc/os-release": (0, b"ID=debian\nVERSION_ID=12\n"),
    "command -v command": (0, b"command\n"),
}
HEALTHY = {
    **LINUX,
    "/run/systemd/system": (0, b""),
    "is-active libvirtd.socket": (0, b"active\n"),
    "/sys/module/vfio_pci": (0, b""),
    "command -v qemu-system-x86_64": (0, b"/usr/bin/qemu-system-x86_64\n"),
    "command -v qemu-img": (0, b"/usr/bin/qemu-img\n"),
}


def test_a_healthy_host_answers_every_question_with_yes_and_a_transcript() -> None:
    answers = ask_system(Scripted(HEALTHY))
    assert [a.question for a in answers] == [q.key for q in QUESTIONS]
    assert [a.ok for a in answers] == [True] * len(QUESTIONS)
    assert all(a.transcript for a in answers)


@pytest.mark.parametrize("unit", ["virtqemud.socket", "libvirtd.service", "virtqemud.service"])
def test_any_unit_of_libvirt_will_do(unit: str) -> None:
    script = {
        **HEALTHY,
        "is-active libvirtd.socket": (3, b"inactive\n"),
        f"is-active {unit}": (0, b"active\n"),
    }
    for other in ("virtqemud.socket", "libvirtd.service", "virtqemud.service"):
        script.setdefault(f"is-active {other}", (3, b"inactive\n"))
    answer = ask_system(Scripted(script))[0]
    assert (answer.ok, answer.detail) == (True, f"{unit} is active")


def test_what_is_not_there_is_no() -> None:
    script = {**LINUX, "/run/systemd/system": (0, b""), "is-active": (3, b"inactive\n")}
    assert [a.ok for a in ask_system(Scripted(script))] == [False] * len(QUESTIONS)


@pytest.mark.parametrize(
    ("answers", "other"), [({}, 255), ({}, 127), ({"": (0, b"\xff\xfe\x1b[31m" * 100)}, 0), ({}, 77)]
)
def test_rubbish_is_never_a_yes_for_libvirt(answers: dict[str, tuple[int, bytes]], other: int) -> None:
    script = dict(answers.items()) | {"is-active": (255, b"\xff")}
    assert ask_system(Scripted(script, other))[0].ok is None


def test_a_question_that_takes_too_long_is_unknown_and_the_next_is_still_asked() -> None:
    class Slow(Scripted):
        def run(self, argv: tuple[str, ...], **kwargs: object) -> CommandResult:  # type: ignore[override]
            if "is-active" in argv[2]:
                raise CommandTimeout("120 s are over")
            return super().run(argv, **kwargs)  # type: ignore[arg-type]

    answers = ask_system(Slow(HEALTHY))
    assert [a.ok for a in answers] == [None, True, True, True]
    assert answers[0].detail == "120 s are over"


def test_a_host_that_goes_away_is_an_error_of_the_transport() -> None:
    class Gone(Scripted):
        def run(self, argv: tuple[str, ...], **kwargs: object) -> CommandResult:  # type: ignore[override]
            raise TransportError("connection closed")

    with pytest.raises(TransportError):
        ask_system(Gone({}))


def test_arguments_are_quoted_and_hostile_output_is_escaped() -> None:
    transport = Scripted({"echo": (0, b"\xff\x1b[31m")})
    done = infra_host(transport).run("echo %s", "; rm -rf /")
    assert transport.asked == ["echo '; rm -rf /'"]
    assert done.stdout == "\\xff\x1b[31m"


TENANT = (Domain(name="tenant", uuid=None, pid=7, running=True),)


@pytest.fixture
def host(tmp_path):
    recorder = a_recorder(tmp_path)
    yield a_claimed_host(recorder, FakeAccess(), ())
    recorder.close()


def with_domains(host: ClaimedHost, domains: tuple[Domain, ...] | None) -> ClaimedHost:
    return dataclasses.replace(host, facts=hosts.lab_like(domains=domains))


def test_foreign_domains_refuse_the_run_unless_the_host_file_allows_them(host) -> None:
    with pytest.raises(ProvisionError, match="1 domains that this run did not create are running: tenant"):
        refuse_foreign_domains(with_domains(host, TENANT))
    allowed = dataclasses.replace(host.context.host, allow_sharing=True)
    shared = dataclasses.replace(host, context=dataclasses.replace(host.context, host=allowed))
    refuse_foreign_domains(with_domains(shared, TENANT))
    refuse_foreign_domains(with_domains(host, ()))


def test_a_host_whose_domains_nobody_could_see_is_refused_too(host) -> None:
    with pytest.raises(ProvisionError, match="there may be some"):
        refuse_foreign_domains(with_domains(host, None))
