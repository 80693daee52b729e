"""Rules of the source that no tool of the lint environment knows (ARCHITECTURE.md, ways of building)."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from harness.workloads.registry import NAMES
from tests.gates.source import PACKAGES, ROOT, imports, is_payload, modules, text_files, tree

LONGEST_FILE = 400
FULLEST_FOLDER = 15
CROWDED = {
    "harness/commands": "one module a command",
    "harness/model": "one module a kind of value",
}
"""Folders that hold more modules than that, and why."""
BOUNDARIES = {
    "harness/stages/boundary.py": 1,
    "harness/checks/engine.py": 3,
    "reports/__init__.py": 1,
}
"""Where any exception at all becomes data, and how often: of stages, of checks, of report formats."""

SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SCRIPTS = sorted(
    [
        ROOT / "shakedown",
        ROOT / ".ci/run",
        *(p for package in PACKAGES for p in (ROOT / package).rglob("*.sh")),
    ]
)


def name_of(path: Path) -> str:
    """Path below the project's root, for test names."""
    return str(path.relative_to(ROOT))


def test_no_shipped_file_is_longer_than_a_person_reads() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in [*SOURCES, *SCRIPTS]}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_folder_holds_more_modules_than_a_person_sees_at_once() -> None:
    full = Counter(name_of(path.parent) for path in SOURCES if path.name != "__init__.py")
    assert {name for name, count in full.items() if count > FULLEST_FOLDER} == set(CROWDED)


_STARTS = frozenset(("subprocess.Popen", "os.fork", "os.posix_spawn", "os.forkpty", "os.spawnv"))
_SIGNALS = frozenset(("os.kill", "os.killpg", "signal.pidfd_send_signal"))
_MAY_START = {
    "harness/backends/process.py": "children that it waits for itself",
    "harness/images/keeper.py": "children whose keeper it is",
    "harness/images/processes.py": "keepers",
    "harness/lab/process.py": "machines, which write themselves down",
}
_MAY_SIGNAL = {
    "harness/identity.py": "exactly the process that was written down",
    "harness/images/keeper.py": "children that it has not waited for",
    "harness/backends/process.py": "the group of a child that it has not waited for",
}


def _outside_the_payload() -> list[Path]:
    """What runs on the controller; a payload signals its own children only, and imports nothing of ours."""
    return [path for path in SOURCES if "payload" not in path.parts]


def test_processes_are_started_and_signalled_where_it_is_known_whose_they_are() -> None:
    """Never by a name or an argument: a stranger may have the same."""
    started, signalled = set(), set()
    for path in _outside_the_payload():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                started |= {name_of(path)} if name in _STARTS else set()
                signalled |= {name_of(path)} if name in _SIGNALS else set()
    assert started == set(_MAY_START)
    assert signalled == set(_MAY_SIGNAL)
    named = re.compile(r"\b(pkill|killall|pgrep|fuser)\b")
    assert [name_of(path) for path in SCRIPTS if path.exists() and named.search(path.read_text())] == []


def test_cleanups_never_hide_a_cause() -> None:
    """``ExitStack`` lets the last exception win: ``harness.cleanups`` is the one that does not."""
    found = [
        name_of(path)
        for path in _outside_the_payload()
        if "ExitStack" in path.read_text() and name_of(path) != "harness/cleanups.py"
    ]
    assert found == []


_EVALUATES = frozenset(
    ("eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "pickle.loads", "pickle.load")
)


def _uses_a_shell(call: ast.Call) -> bool:
    given = [k.value for k in call.keywords if k.arg == "shell"]
    return any(not (isinstance(value, ast.Constant) and value.value is False) for value in given)


def test_no_shell_and_no_evaluated_text() -> None:
    """Hostile text is data: nothing hands it to a shell of ours or to Python's compiler."""
    found = [
        f"{name_of(path)} line {node.lineno}: {ast.unparse(node.func)}"
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and (ast.unparse(node.func) in _EVALUATES or _uses_a_shell(node))
    ]
    assert found == []


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = "" if handler.type is None else ast.unparse(handler.type)
    return handler.type is None or bool(re.search(r"\b(Base)?Exception\b", caught))


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """Whether the handler ends the exception: it neither raises nor hands it to another thread's raise."""
    return not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def test_only_a_boundary_ends_an_unknown_exception() -> None:
    """Elsewhere a clean-up may catch everything if it raises again."""
    ending = []
    for path in SOURCES:
        lines = path.read_text().splitlines()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and _catches_everything(node) and _goes_on(node):
                if "raised again" in lines[node.lineno - 1]:
                    continue
                ending.append(name_of(path))
    assert Counter(ending) == BOUNDARIES


_OPENS = {"open", "read_text", "read_bytes"}
_OWN_FILES = {
    "harness/regular.py",  # the one way
    "harness/descriptors.py",
    "harness/backends/process.py",  # /proc/self/status, and the source of a copy
    "harness/backends/local.py",  # the source of a copy
    "harness/backends/libvirt_opened.py",  # libvirt.open
    "harness/backends/libvirt_call.py",  # a pid file of our own private directory, /proc
    "harness/backends/stream.py",  # opened for writing
    "harness/record/append.py",  # opened for writing
    "harness/record/files.py",  # directories, to fsync them
    "harness/identity.py",  # /proc: what tells one process from another
    "harness/record/directory.py",  # RunDirectory.open
    "harness/backends/parquet.py",  # a directory, to fsync it
    "harness/stages/guest/scratch.py",  # /proc, and a lock of our own
    "harness/stages/host/claims.py",  # /proc: the boot id
    "harness/stages/guest/keys.py",  # keys that ssh-keygen just made in a private directory
}
"""Modules that open something else than a file which others may have put there."""


def test_files_are_opened_in_one_way() -> None:
    """``harness.regular``: no pipe, device or link in a circle, and never more than was agreed. Images and
    labs are built of our own files, the payload runs elsewhere."""
    elsewhere = []
    for path in SOURCES:
        name = name_of(path)
        away = "payload" in path.parts or name.startswith(("harness/images", "harness/lab"))
        if name in _OWN_FILES or away:
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            modes = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
            if any(mode.startswith(("a", "w", "x")) for mode in modes):
                continue
            if called.rpartition(".")[2] in _OPENS and not called.startswith(
                ("resources.", "tarfile.", "open_regular", "RunDirectory", "(resources", "item.")
            ):
                elsewhere.append(f"{name} line {node.lineno}: {called}")
    assert elsewhere == []


def test_json_is_read_in_one_place() -> None:
    """``harness.serial``: numbers have bounds there, and a key is there once."""
    elsewhere = [
        f"{name_of(path)} line {node.lineno}"
        for path in SOURCES
        if "payload" not in path.parts and name_of(path) != "harness/serial.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.loads", "json.load")
    ]
    assert elsewhere == []


_KEEPERS = ("harness/images/keeper.py", "harness/lab/qemu_keeper.py")
"""Programs of their own, whose words end up in a log."""
_PRINTS = ("print", "sys.stdout.write", "sys.stderr.write", "typer.echo", "typer.secho", "click.echo")
_DRAWS = {"harness/commands/facts.py", "harness/commands/plan_picture.py", "harness/progress.py"}
"""Where rich draws; each cell and line there is cleaned first (``Text``, never markup)."""


def test_foreign_text_has_one_way_out() -> None:
    """``harness.shown``: all that a command prints passes there, so no file or host speaks to a terminal."""
    elsewhere = []
    for path in SOURCES:
        name = name_of(path)
        if "payload" in path.parts or name in ("harness/shown.py", *_KEEPERS):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                drawn = called.endswith(("console.print", "Console.print")) and name not in _DRAWS
                if called in _PRINTS or drawn:
                    elsewhere.append(f"{name} line {node.lineno}: {called}")
    assert elsewhere == []


def _assigned_mutables(path: Path) -> list[str]:
    found = []
    for node in tree(path).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.List | ast.Set | ast.ListComp | ast.SetComp) or (
            isinstance(value, ast.Call) and ast.unparse(value.func) in ("list", "set", "defaultdict", "deque")
        ):
            names = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [ast.unparse(n) for n in names if ast.unparse(n) != "__all__"]
    return found


def test_no_mutable_state_at_module_level() -> None:
    """Lists and sets; a dict there is a table, and nothing may write to it."""
    assert {name_of(path): names for path in SOURCES if (names := _assigned_mutables(path))} == {}
    rebound = [name_of(p) for p in SOURCES for node in ast.walk(tree(p)) if isinstance(node, ast.Global)]
    assert rebound == []


def test_no_file_is_called_utils() -> None:
    assert [
        m for m in modules() if m.rpartition(".")[2] in ("utils", "util", "helpers", "misc", "common")
    ] == []


def test_tests_use_fakes_not_mocks() -> None:
    """``unittest.mock`` lets a test pass against an interface that does not exist."""
    users = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(tree(path)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.startswith(("unittest", "mock", "pytest_mock")) for name in names):
                users.append(name_of(path))
    assert users == []


def test_nothing_is_left_for_later_and_no_machine_is_named() -> None:
    """Notes to self belong to the issue tracker; paths of the author's machine belong nowhere."""
    marks = (
        "TO" + "DO",
        "FIX" + "ME",
        "XX" + "X:",
        " /wo" + "rk/",
        '"/wo' + "rk/main",
        "/opt/py" + "pi",
        "C" + "EO ",
    )
    found = [
        f"{name_of(path)}: {mark}"
        for path in text_files()
        for mark in marks
        if mark in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert found == []


def test_the_lock_file_names_public_registries_only() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    sources = {key: value for package in lock["package"] for key, value in package["source"].items()}
    assert sources == {"registry": "https://pypi.org/simple", "editable": "."}


def test_the_licence_is_there_in_full_and_named_the_same_everywhere() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache-2.0" in (ROOT / "README.md").read_text()


_EXCUSED = {
    "udhcpc.sh": "SC2154",  # busybox hands the lease over in variables
    "observe/host.sh": "SC2010",  # the listing of /proc/PID/fd is itself the evidence
}


def _shellcheck() -> str:
    beside = Path(sys.executable).with_name("shellcheck")
    found = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert found, "shellcheck belongs to the test group of pyproject.toml"
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_shell_scripts_are_clean(path: Path) -> None:
    """Candidate hosts and guests have a POSIX shell; ours alone runs under bash."""
    shell = "bash" if path.name == "run" else "sh"
    done = subprocess.run(
        [
            *(_shellcheck(), "--severity=warning", f"--shell={shell}"),
            *(f"--exclude={code}" for name, code in _EXCUSED.items() if path.as_posix().endswith(f"/{name}")),
            str(path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


_PARTS = r"names|log|sensors|checks|checks\.series|faults|config\.standin"
_PART_OF_A_VENDOR = rf"harness\.vendors\.\w+(\.({_PARTS}))?"
"""What the registry of vendors loads by name."""


def test_every_module_is_imported_by_something() -> None:
    """A module that nothing reaches is a registry line that was forgotten, or code that was left behind."""
    roots = {"harness.__main__", "harness.plugin"}
    used = {name for module in modules() for name in imports(module)}
    used |= {".".join(name.split(".")[:n]) for name in used for n in range(1, name.count(".") + 1)}
    by_name = (ROOT / "reports/__init__.py").read_text()
    by_registry = {f"harness.workloads.{name}.{what}" for name in NAMES for what in ("spec", "answers")}
    lost = [
        module
        for module in modules()
        if module not in used | roots
        and not module.startswith(("harness.faults", "suites"))
        and not is_payload(module)
        and module not in by_registry
        and re.fullmatch(_PART_OF_A_VENDOR, module) is None
        and f'"{module}"' not in by_name
        and module not in PACKAGES
    ]
    assert lost == []


_NAMES_A_CLASS = ("type(error).__name__", "error.__class__.__name__", "format_exception_only", "error!r")


def test_no_message_names_the_class_of_an_exception() -> None:
    """Who reads it at night knows no Python; ``harness.errors.why`` has the words. Records keep the class as
    data (``kind=``). Payloads, which know nothing of us, repeat what foreign libraries raise."""
    found = []
    for path in SOURCES:
        if "payload" in path.parts:
            continue
        kept = {
            id(part)
            for node in ast.walk(tree(path))
            if isinstance(node, ast.keyword) and node.arg == "kind"
            for part in ast.walk(node.value)
        }
        for node in ast.walk(tree(path)):
            text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.FormattedValue) else ""
            if id(node) not in kept and any(name in text for name in _NAMES_A_CLASS):
                found.append(f"{name_of(path)} line {node.lineno}: {text[:80]}")
    assert found == []


def test_a_foreign_exception_is_told_in_words() -> None:
    from harness.errors import why

    assert why(KeyError("cpus")) == "'cpus' is missing"
    assert why(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"
    assert why(RecursionError("maximum ...")) == "it is nested too deep"
    assert why(ValueError()) == "no reason was given"
    assert why(ValueError("too many")) == "too many"
