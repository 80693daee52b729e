"""The launcher with stand-ins for apt, dpkg and uv: what it installs, when, and how it hands over."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gates.source import ROOT

pytestmark = pytest.mark.skipif(shutil.which("flock") is None, reason="no flock (util-linux)")

_UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
sleep "${UV_SECONDS:-0}"
[ -z "${UV_FAILS:-}" ] || { echo "error: no network" >&2; exit 1; }
mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"
cat >"$UV_PROJECT_ENVIRONMENT/bin/python" <<'END'
#!/bin/sh
case " $*" in *" from harness.workloads.registry "*) echo "ffmpeg john hashcat"; exit ;; esac
for word in "$@"; do printf '<%s>' "$word"; done
END
chmod +x "$UV_PROJECT_ENVIRONMENT/bin/python"
"""
_DPKG = """#!/bin/sh
for last in "$@"; do :; done
case " ${MISSING:-} " in *" $last "*) exit 1 ;; esac
echo 'install ok installed'
"""
_APT_CACHE = """#!/bin/sh
case " ${OFFERED:-} " in *" $2 "*) exit 0 ;; esac
exit 100
"""
_LOUD = """#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
exit "${APT_STATUS:-0}"
"""

VERSION = "99.1.2"
"""Of the stand-in for uv: so high that PyPI's cannot be mistaken for it."""


def _lock(*hashes: str, version: str = VERSION) -> str:
    """A lock file with uv between two others, its wheels of these hashes."""
    wheels = "".join(
        f'    {{ url = "https://x/uv-{version}-py3-none-manylinux_{n}.whl", hash = "sha256:{each}" }},\n'
        for n, each in enumerate(hashes or ("0" * 64,))
    )

    def package(name: str, of: str) -> str:
        files = wheels.replace("/uv-", f"/{name}-")
        sdist = f'sdist = {{ url = "https://x/{name}.tar.gz", hash = "sha256:{"f" * 64}" }}'
        return f'[[package]]\nname = "{name}"\nversion = "{of}"\n{sdist}\nwheels = [\n{files}]\n\n'

    return "version = 1\n\n" + package("tzdata", "1.0") + package("uv", version) + package("uvicorn", "1.0")


def _wheel(folder: Path) -> str:
    """A wheel of the stand-in for uv in ``folder``; returns its sha256."""
    folder.mkdir(exist_ok=True)
    wheel = folder / f"uv-{VERSION}-py3-none-linux_{platform.machine()}.whl"
    info = f"uv-{VERSION}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        script = zipfile.ZipInfo(f"uv-{VERSION}.data/scripts/uv")
        script.external_attr = 0o100755 << 16
        archive.writestr(script, _UV)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {VERSION}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: py3-none-linux_{platform.machine()}\n")
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@dataclass
class Checkout:
    """A checkout in a directory with a space, and the stand-ins."""

    root: Path
    tools: Path
    cache: Path
    calls_file: Path

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def start(
        self, *arguments: str, launcher: Path | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        base = {
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "HOME": str(self.root.parent),
            "SHAKEDOWN_CACHE": str(self.cache),
            "CALLS": str(self.calls_file),
        }
        return subprocess.Popen(
            [str(launcher or self.root / "shakedown"), *arguments],
            env={**base, **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, launcher: Path | None = None, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, launcher=launcher, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    root = tmp_path / "a checkout"
    root.mkdir()
    shutil.copy(ROOT / "shakedown", root / "shakedown")
    (root / "pyproject.toml").write_text("")
    (root / "uv.lock").write_text(_lock())
    made = Checkout(
        root=root, tools=tmp_path / "tools", cache=tmp_path / "cache", calls_file=tmp_path / "calls"
    )
    uv = made.cache / f"tools/uv-{VERSION}"
    _program(uv / "bin/uv", _UV)
    (uv / ".hashed").touch()
    _program(made.tools / "dpkg-query", _DPKG)
    _program(made.tools / "apt-cache", _APT_CACHE)
    for name in ("apt-get", "sudo", "systemctl"):
        _program(made.tools / name, _LOUD)
    # Any Python of the test will do; the one of the system may be without headers.
    python = f'#!/bin/sh\n[ "$2" = -c ] && echo "{sys.executable}"\n'
    for name in ("python3.13", "python3.12", "python3.11", "python3"):
        _program(made.tools / name, python)
    return made


def test_the_first_start_sets_up_and_says_so_and_the_second_only_hands_over(checkout) -> None:
    status, out, err = checkout.run("qualify", "--runs", "a b", "", "*")
    assert status == 0
    assert out == "<-P><-m><harness><qualify><--runs><a b><><*>"
    assert "making the locked Python environment" in err
    assert checkout.calls == ["uv sync --frozen --quiet"]
    assert checkout.run("--help") == (0, "<-P><-m><harness><--help>", "")
    assert len(checkout.calls) == 1


def _without_uv(checkout: Checkout, lock: str) -> dict[str, str]:
    """The environment of a machine whose only index is a folder with the stand-in's wheel."""
    shutil.rmtree(checkout.cache)
    (checkout.root / "uv.lock").write_text(lock)
    return {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(checkout.tools / "index"),
        "PIP_CONFIG_FILE": os.devnull,
    }


def test_uv_is_installed_by_the_hash_in_the_lock_file(checkout) -> None:
    right = _wheel(checkout.tools / "index")
    environment = _without_uv(checkout, _lock("1" * 64, right))
    status, out, err = checkout.run("x", **environment)
    assert (status, out) == (0, "<-P><-m><harness><x>")
    assert f"installing uv {VERSION}" in err
    assert checkout.calls == ["uv sync --frozen --quiet"]


def test_a_uv_of_another_hash_is_refused_and_nothing_of_it_is_used(checkout) -> None:
    _wheel(checkout.tools / "index")
    environment = _without_uv(checkout, _lock("1" * 64, "2" * 64))
    for _ in range(2):
        status, out, err = checkout.run("x", **environment)
        assert (status, out) == (4, "")
        assert "HASHES" in err
        assert "what has another hash is never installed" in err
    assert checkout.calls == []


def test_a_uv_that_was_once_installed_without_a_hash_is_installed_anew(checkout) -> None:
    right = _wheel(checkout.tools / "index")
    environment = _without_uv(checkout, _lock(right))
    old = checkout.cache / f"tools/uv-{VERSION}"
    _program(old / "bin/uv", "#!/bin/sh\nexit 9\n")
    (old / ".complete").touch()
    assert checkout.run("x", **environment)[0] == 0
    assert checkout.calls == ["uv sync --frozen --quiet"]


@pytest.mark.parametrize("lock", ["", "version = 1\n", _lock(version="1.0 --pre"), _lock("not a hash")])
def test_a_lock_file_that_names_no_uv_is_said(checkout, lock: str) -> None:
    environment = _without_uv(checkout, lock)
    status, out, err = checkout.run("x", **environment)
    assert (status, out) == (4, "")
    assert "does not say which uv to install" in err


def test_a_changed_lock_file_sets_up_again(checkout) -> None:
    checkout.run("--help")
    later = time.time() + 2
    os.utime(checkout.root / "uv.lock", (later, later))
    checkout.run("--help")
    assert len(checkout.calls) == 2


def test_a_moved_checkout_gets_a_new_environment(checkout, tmp_path) -> None:
    checkout.run("--help")
    (checkout.root / ".venv/old").touch()
    checkout.root = checkout.root.rename(tmp_path / "moved here")
    status, _out, _err = checkout.run("--help")
    assert status == 0
    assert len(checkout.calls) == 2
    assert not (checkout.root / ".venv/old").exists()


def test_links_to_the_launcher_find_the_project(checkout, tmp_path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/inner").symlink_to("../a checkout/shakedown")
    (tmp_path / "bin/outer").symlink_to(tmp_path / "bin/inner")
    status, out, _err = checkout.run("x", launcher=tmp_path / "bin/outer")
    assert (status, out) == (0, "<-P><-m><harness><x>")
    assert (checkout.root / ".venv").is_dir()


def test_two_at_once_set_up_once(checkout) -> None:
    first = checkout.start("a", UV_SECONDS="2")
    second = checkout.start("b", UV_SECONDS="2")
    said = [process.communicate(timeout=60) for process in (first, second)]
    assert sorted(out for out, _ in said) == ["<-P><-m><harness><a>", "<-P><-m><harness><b>"]
    assert checkout.calls == ["uv sync --frozen --quiet"]
    assert sum("waiting for another set-up" in err for _, err in said) == 1


def test_a_set_up_that_was_killed_is_done_again(checkout) -> None:
    victim = checkout.start("x", UV_SECONDS="30")
    for _ in range(100):
        if checkout.calls:
            break
        time.sleep(0.05)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    status, out, _err = checkout.run("x")
    assert (status, out) == (0, "<-P><-m><harness><x>")
    assert len(checkout.calls) == 2


def test_without_network_it_exits_4_with_a_remedy_and_is_not_ready(checkout) -> None:
    status, out, err = checkout.run("x", UV_FAILS="1")
    assert (status, out) == (4, "")
    assert "error: no network" in err
    assert "remedy:" in err
    assert checkout.run("x")[0] == 0


def test_missing_packages_are_installed_where_it_may(checkout) -> None:
    status, _out, err = checkout.run("qualify", MISSING="gcc mmdebstrap")
    assert status == 0
    assert "installing Debian packages: gcc" in err
    assert "installing Debian packages: mmdebstrap" in err
    apt = [call for call in checkout.calls if "apt-get" in call]
    assert [call.split()[-1] for call in apt] == ["update", "gcc", "update", "mmdebstrap"]
    if os.geteuid() != 0:
        assert all(call.startswith("sudo -n ") for call in apt)  # no terminal: nobody could type


BARE = ("qualify", "--attach", "bare")
REHEARSAL = ("qualify", "--host", "local-standin", "--attach", "bare", "--profile", "rehearsal")
ALL_TOOLS = "mmdebstrap hashcat openssh-server g++"


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("test", "--help"),
        ("pytest", "--help"),
        ("pytest", "suites", "--candidate", "lab", "--collect-only"),
        ("pytest", "tests/facts"),
        ("lab", "up", "--help"),
        ("lab", "status"),
        ("qualify", "--help"),
        (*BARE, "--help"),
        ("qualify", "--host", "rack12", "--dry-run"),
        ("qualify", "--dry-run", "--attach=bare"),
        ("facts", "--host", "rack12"),
        ("judge", "runs/x/y"),
        ("inventory", "check"),
    ],
    ids=" ".join,
)
def test_who_only_asks_gets_nothing_installed_beyond_the_python_environment(checkout, words) -> None:
    status, _out, err = checkout.run(*words, MISSING=ALL_TOOLS)
    assert status == 0
    assert "installing" not in err
    assert checkout.calls == ["uv sync --frozen --quiet"]


@pytest.mark.parametrize(
    ("words", "installed"),
    [
        (("qualify",), "mmdebstrap"),
        (("qualify", "--host", "rack12", "--profile", "nightly"), "mmdebstrap"),
        (("pytest", "suites", "--candidate", "lab"), "mmdebstrap"),
        (("pytest", "suites", "--candidate=local", "--attach=bare"), "hashcat"),
        (("lab", "up"), "mmdebstrap"),
        (("facts", "--host", "lab"), "mmdebstrap"),
        (REHEARSAL, "hashcat"),
        (("qualify", "--host=local", "--profile=bare-burnin"), "hashcat"),
        (BARE, "mmdebstrap hashcat"),  # the default host is the lab
        (("test", "-e", "py311"), "mmdebstrap hashcat openssh-server g++"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_a_command_uses_is_installed_for_it_once(checkout, words, installed) -> None:
    checkout.run(*words, MISSING=ALL_TOOLS)
    got = [
        name
        for call in checkout.calls
        if " install " in call
        for name in call.split("recommends ")[1].split()
    ]
    assert got == installed.split()
    before = len(checkout.calls)
    checkout.run(*words, MISSING=ALL_TOOLS)
    assert len(checkout.calls) == before


def test_a_newer_launcher_looks_for_its_packages_again(checkout) -> None:
    checkout.run("qualify")
    later = time.time() + 2
    os.utime(checkout.root / "shakedown", (later, later))
    _status, _out, err = checkout.run("qualify", MISSING="mmdebstrap")
    assert "installing Debian packages: mmdebstrap" in err


@pytest.mark.parametrize(("offered", "installed"), [("nvtop", ["g++ nvtop"]), ("", ["g++"])])
def test_a_package_of_another_section_is_installed_where_apt_knows_it(checkout, offered, installed) -> None:
    checkout.run("test", MISSING="g++ nvtop", OFFERED=offered)
    words = " ".join(call for call in checkout.calls if "install" in call).partition("recommends ")[2]
    assert [words] == installed


def test_a_failing_apt_names_what_to_do(checkout) -> None:
    status, _out, err = checkout.run("x", MISSING="gcc", APT_STATUS="100")
    assert status == 4
    assert "remedy: apt-get install gcc" in err


def test_no_apt_only_names_them_and_goes_on(checkout) -> None:
    status, _out, err = checkout.run("qualify", MISSING="gcc mmdebstrap", SHAKEDOWN_NO_APT="1")
    assert status == 0
    assert "not installed because of SHAKEDOWN_NO_APT: gcc" in err
    assert "not installed because of SHAKEDOWN_NO_APT: mmdebstrap" in err
    assert not any("apt-get" in call for call in checkout.calls)


def test_the_ssh_server_that_tests_use_is_neither_started_nor_enabled(checkout) -> None:
    checkout.run("test", MISSING="openssh-server")
    words = [call.removeprefix("sudo -n ").split() for call in checkout.calls]
    acts = [w[2] if w[0] == "systemctl" else w[-1] for w in words if w[0] in ("systemctl", "apt-get")]
    assert acts == ["mask", "update", "openssh-server", "unmask", "disable"]
    checkout.calls_file.unlink()
    (checkout.root / ".venv/.shakedown-test-tools").unlink()
    checkout.run("test", MISSING="g++")
    assert not [call for call in checkout.calls if "systemctl" in call]
