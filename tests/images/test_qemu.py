"""Which QEMU is used, and that its limits are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ImageError
from harness.images.qemu import NO_AVX, apt_options, find_qemu, parse_version


def _fake_qemu(directory: Path, version: str) -> Path:
    for name, text in (("qemu-system-x86_64", f"QEMU emulator version {version}"), ("qemu-img", "img")):
        path = directory / name
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(0o755)
    return directory / "qemu-system-x86_64"


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright", (10, 0, 2)),
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", (7, 2, 22)),
        ("QEMU emulator version 11.1", (11, 1, 0)),
        ("bash: not found", None),
        ("", None),
    ],
)
def test_the_version_is_read_from_what_qemu_prints(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse_version(text) == version


@given(st.text())
def test_any_text_gives_a_version_or_none(text: str) -> None:
    version = parse_version(text)
    assert version is None or len(version) == 3


def test_the_override_wins_and_a_new_qemu_has_no_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEDOWN_QEMU", str(_fake_qemu(tmp_path, "10.0.2")))
    tool = find_qemu(print, root=tmp_path)
    assert tool.version == (10, 0, 2)
    assert tool.limits == ()
    assert tool.image_tool == tmp_path / "qemu-img"


def test_an_old_qemu_is_used_and_says_what_it_cannot_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEDOWN_QEMU", str(_fake_qemu(tmp_path, "7.2.22")))
    assert find_qemu(print, root=tmp_path).limits == (NO_AVX,)


def test_an_override_that_is_no_qemu_is_an_error_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEDOWN_QEMU", "/bin/true")
    with pytest.raises(ImageError, match="names no version") as caught:
        find_qemu(print, root=tmp_path)
    assert "apt-get install qemu-system-x86" in caught.value.remedy
    monkeypatch.setenv("SHAKEDOWN_QEMU", str(tmp_path / "missing"))
    with pytest.raises(ImageError, match="does not run"):
        find_qemu(print, root=tmp_path)


def test_a_new_qemu_on_path_needs_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHAKEDOWN_QEMU", raising=False)
    _fake_qemu(tmp_path, "10.1.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool = find_qemu(print, root=tmp_path / "cache")
    assert (tool.source, tool.version) == ("PATH", (10, 1, 0))
    assert not (tmp_path / "cache").exists()


def test_apt_is_kept_inside_the_cache() -> None:
    options = apt_options(Path("/cache/work"))
    values = dict(option.split("=", 1) for option in options if option != "-o")
    for key in ("Dir::Etc::sourcelist", "Dir::State::lists", "Dir::Cache"):
        assert values[key].startswith("/cache/work/")
    assert values["Dir::Etc::sourceparts"] == "-"
