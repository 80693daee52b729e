"""``shakedown qualify``: the main job, a test session of the shipped suites with a quiet reporter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import harness
from harness.model.record import RunRecord
from harness.plugin import demand as wanted
from harness.plugin.reporter import Quiet
from harness.plugin.session import Qualification
from harness.plugin.words import verdict_words
from harness.progress import Progress
from harness.shown import hand_out, say, say_json
from harness.verdict.tally import tally


def run(
    *,
    host: str,
    profile: str = "",
    attach: str = "",
    gpus: str = "",
    compare: Path | None = None,
    runs: Path = Path("runs"),
    json_output: bool = False,
    dry_run: bool = False,
    wait: bool = False,
    resume: Path | None = None,
    arguments: tuple[str, ...] = (),
) -> int:
    """Qualify ``host``; returns the verdict's exit status. ``arguments`` go to pytest.

    Raises ConfigError for an unknown host, profile or guest size, RecordError when the record cannot be
    written. Everything that goes wrong with the host itself ends in a verdict.
    """
    if resume is None:
        # Told as every command tells it, with exit status 2, before pytest is asked.
        wanted.demand(host=host, profile=profile, attach=attach, gpus=gpus, compare=compare)
        chosen = ["--candidate", host]
    else:
        wanted.resumed(resume)
        chosen = ["--resume", str(resume)]
    for option, value in (
        ("--profile", profile),
        ("--attach", attach),
        ("--gpus", gpus),
        ("--compare", compare),
    ):
        chosen += [f"{option}={value}"] if value else []
    chosen += [f"--runs={runs}", *(["--wait"] if wait else []), *(["--dry-run"] if dry_run else [])]
    with _quiet() as quiet:
        status = int(pytest.main([*_suites(arguments), *chosen, *arguments], plugins=[quiet]))
    return _ended(quiet, status, json_output=json_output)


def _suites(arguments: tuple[str, ...]) -> list[str]:
    """The shipped suites, and nothing that a person's own pytest set-up would add to them.

    Tests named among ``arguments`` need a root above them and the suites, else pytest cannot tell them apart.
    """
    home = Path(harness.__file__).resolve().parents[1]
    root = os.path.commonpath((home, Path.cwd())) if arguments else home
    return [
        str(home / "suites"),
        f"--rootdir={root}",
        f"--config-file={home / 'suites' / 'qualify.ini'}",
        *("-p", "harness.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"),
        "--assert=plain",
    ]


@contextmanager
def _quiet() -> Iterator[Quiet]:
    """A reporter whose progress goes where this command's goes, whatever pytest captures meanwhile; other
    plugins of the environment and options from its variables stay out."""
    before = {name: os.environ.pop(name, None) for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
    before["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace") as stream:
        progress = Progress(stream)
        try:
            yield Quiet(progress)
        finally:
            progress.done()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _ended(quiet: Quiet, status: int, *, json_output: bool) -> int:
    """What is told at the end, and the exit status. Raises the error that left no record."""
    done = quiet.qualification
    if done is not None and done.problem is not None:
        raise done.problem
    if done is not None and done.record is not None:
        _answer(done, done.record, json_output=json_output)
        return status  # the verdict's, or 1 where a test failed that is not about the candidate
    if done is not None and done.changes:
        say(*done.changes)
        return 0
    hand_out(quiet.kept.getvalue(), to=sys.stderr)
    # Pytest has told what is wrong with its arguments; nothing ran.
    kinds = {
        pytest.ExitCode.USAGE_ERROR: 2,
        pytest.ExitCode.INTERRUPTED: 130,
        pytest.ExitCode.INTERNAL_ERROR: 4,
    }
    return kinds.get(pytest.ExitCode(status), status)


def _answer(done: Qualification, record: RunRecord, *, json_output: bool) -> None:
    seconds = {name: round(value, 3) for name, value in record.evidence.seconds.items()}
    if json_output:
        answer = {
            "run": str(done.path),
            "host": record.host.name,
            "verdict": record.decision.verdict.value,
            "checks": tally(record.decision.coverage),
            "seconds": {**seconds, "total": round(done.seconds, 3)},
        }
        say_json(answer)
        return
    say("", *verdict_words(record, done.path, done.seconds))
