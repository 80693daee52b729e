"""Whatever is installed or built with is locked by hash: launcher, lock file and build requirements agree."""

from __future__ import annotations

import re
import subprocess
import tomllib

from tests.gates.source import ROOT

LAUNCHER = (ROOT / "shakedown").read_text()
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHA = re.compile(r"sha256:[0-9a-f]{64}")


def _package(name: str) -> dict[str, object]:
    (found,) = (each for each in LOCK["package"] if each["name"] == name)
    return dict(found)


def test_the_launcher_installs_the_uv_of_the_lock_file_by_its_hashes() -> None:
    function = re.search(r"^locked_uv\(\) \{\n.*?^\}$", LAUNCHER, re.MULTILINE | re.DOTALL)
    assert function
    script = f'die() {{ exit 4; }}\nroot=$1\n{function[0]}\nlocked_uv\necho "$uv_version $uv_hashes"'
    argv = ["sh", "-euc", script, "sh", str(ROOT)]
    said = subprocess.run(argv, capture_output=True, check=True, text=True).stdout.split()
    uv = _package("uv")
    assert isinstance(uv["wheels"], list)
    wheels = [(wheel["url"].rpartition("/")[2], wheel["hash"]) for wheel in uv["wheels"]]
    assert said == [uv["version"], *(f"--hash={digest}" for name, digest in wheels if "linux" in name)]
    for machine in ("x86_64", "aarch64"):
        for library in ("manylinux", "musllinux"):
            assert any(machine in name and library in name for name, _ in wheels), (machine, library)


def test_the_launcher_installs_nothing_from_pypi_without_a_hash() -> None:
    """Nor does it call uv but for what the lock file holds."""
    calls = [call for call in LAUNCHER.replace("\\\n", " ").splitlines() if "pip install" in call]
    assert calls
    assert all("--require-hashes" in call and "--only-binary :all:" in call for call in calls)
    uses = re.findall(r'"\$uv" (\S+ \S+)', LAUNCHER)
    assert uses == ["sync --frozen"]


def test_what_is_built_is_built_with_locked_requirements() -> None:
    settings = PROJECT["tool"]["uv"]
    assert settings["require-build-hashes"] is True
    constraints = settings["build-constraint-dependencies"]
    locked = {}
    for each in constraints:
        name, equal, version = each["requirement"].partition("==")
        assert equal, f"{each['requirement']} is not one version"
        assert each["hashes"]
        assert all(SHA.fullmatch(digest) for digest in each["hashes"])
        locked[name] = (f"=={version}", each["hashes"])
    manifest = {
        each["name"]: (each["specifier"], each["hashes"]) for each in LOCK["manifest"]["build-constraints"]
    }
    assert manifest == locked, "run .venv/bin/uv lock"
    ours = {re.split(r"[^A-Za-z0-9_-]", each)[0] for each in PROJECT["build-system"]["requires"]}
    assert ours <= set(locked)


def test_only_known_packages_come_as_source() -> None:
    """Another one may need further build requirements: name them in pyproject.toml with their hashes."""
    sources = {
        each["name"] for each in LOCK["package"] if "wheels" not in each and "registry" in each["source"]
    }
    assert sources == {"gpustat", "libvirt-python"}
    assert all(
        SHA.fullmatch(file["hash"])
        for each in LOCK["package"]
        for file in (*each.get("wheels", ()), *([each["sdist"]] if "sdist" in each else []))
    )
