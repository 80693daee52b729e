"""Which QEMU is used, and that its limits are named."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ImageError
from harness.images.qemu import NO_AVX, OLDER, TWICE, find_qemu, parse_version
from harness.images.qemu_mend import MENDS, Mend, mend

_MMDEBSTRAP = """\
#!/bin/sh
# A mirror that has the suites of $FAKE_MIRROR, each word SUITE=VERSION.
echo "$@" >> "$(dirname "$0")/asked"
for word; do case $word in *.tar) out=$word ;; trixie | bookworm) suite=$word ;; esac; done
for has in $FAKE_MIRROR; do
    [ "${has%%=*}" = "$suite" ] || continue
    tree=$(mktemp -d); lib=$tree/$FAKE_LIB/x86_64-linux-gnu
    mkdir -p "$tree/usr/bin" "$tree/usr/share/seabios" "$lib"
    loader=$lib/ld-linux-x86-64.so.2
    printf '#!/bin/sh\\nwhile [ "${1#--}" != "$1" ]; do shift; done; shift; exec "$@"\\n' > "$loader"
    printf '#!/bin/sh\\necho QEMU emulator version %s\\n' "${has#*=}" > "$tree/usr/bin/qemu-system-x86_64"
    echo '#!/bin/sh' > "$tree/usr/bin/qemu-img"
    chmod +x "$tree/usr/bin/"* "$lib/"*
    tar -C "$tree" -cf "$out" . && rm -r "$tree"
    exit
done
echo "E: The repository '$suite-backports' does not have a Release file." >&2
exit 100
"""


def _fake_qemu(directory: Path, version: str) -> Path:
    for name, text in (("qemu-system-x86_64", f"QEMU emulator version {version}"), ("qemu-img", "img")):
        path = directory / name
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(0o755)
    return directory / "qemu-system-x86_64"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without QEMU whose mirror has nothing; the file tells what the mirror was asked for."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "mmdebstrap").write_text(_MMDEBSTRAP)
    (tools / "mmdebstrap").chmod(0o755)
    for name in ("sh", "tar", "mktemp", "mkdir", "rm", "chmod", "dirname"):
        (tools / name).symlink_to(f"/bin/{name}")
    monkeypatch.delenv("SHAKEDOWN_QEMU", raising=False)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("FAKE_MIRROR", "")
    monkeypatch.setenv("FAKE_LIB", "usr/lib")
    return tools / "asked"


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


@pytest.mark.parametrize(
    ("version", "limits"),
    [("11.1.3", ()), ("12.0", ()), ("11.0.9", (OLDER,)), ("10.0.2", (OLDER,)), ("7.2.22", (OLDER, NO_AVX))],
)
def test_the_override_wins_and_says_what_it_cannot_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, limits: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SHAKEDOWN_QEMU", str(_fake_qemu(tmp_path, version)))
    tool = find_qemu(print, root=tmp_path)
    assert (tool.limits, tool.source) == ((TWICE, *limits), "SHAKEDOWN_QEMU")
    assert tool.image_command == (str(tmp_path / "qemu-img"),)


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


def test_a_new_qemu_on_path_needs_no_download(asked: Path, tmp_path: Path) -> None:
    _fake_qemu(asked.parent, "11.2.0")
    tool = find_qemu(print, root=tmp_path / "cache")
    assert (tool.source, tool.version) == ("PATH", (11, 2, 0))
    assert not (tmp_path / "cache").exists()
    assert not asked.exists()


@pytest.mark.parametrize("library", ["usr/lib", "lib"])
@pytest.mark.parametrize("system", ["", "7.2.22", "10.0.13"])
def test_a_backport_is_unpacked_once_and_run_by_its_own_loader(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, system: str
) -> None:
    """Where an older one is on PATH too, and whether the tree has merged its directories or not."""
    monkeypatch.setenv("FAKE_MIRROR", "bookworm=10.0.2 trixie=11.1.3")
    monkeypatch.setenv("FAKE_LIB", library)
    if system:
        _fake_qemu(asked.parent, system)
    said: list[str] = []
    for _ in range(2):
        tool = find_qemu(said.append, root=tmp_path / "cache")
    assert (tool.version, tool.source, tool.limits) == ((11, 1, 3), "Debian trixie-backports", (TWICE,))
    assert Path(tool.command[2]).name == "ld-linux-x86-64.so.2"
    assert tool.command[1] == f"QEMU_MODULE_DIR={Path(tool.command[-1]).parents[1]}/lib/x86_64-linux-gnu/qemu"
    assert [Path(tool.command[-1]).name, Path(tool.image_command[-1]).name] == [
        "qemu-system-x86_64",
        "qemu-img",
    ]
    assert all(str(path).startswith(str(tmp_path / "cache/qemu")) for path in tool.data_dirs)
    assert len(asked.read_text().splitlines()) == 1
    assert not [line for line in said if "using" in line]


def _words(said: list[str]) -> str:
    return next(line for line in said if line.startswith("using QEMU"))


@pytest.mark.parametrize(
    ("mirror", "why"),
    [("bookworm=10.0.2", "does not have a Release file"), ("bookworm=10.0.2 trixie=11.0.1", "holds 11.0.1")],
)
def test_where_the_new_one_cannot_be_had_the_older_backport_is_used_and_told(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: str, why: str
) -> None:
    monkeypatch.setenv("FAKE_MIRROR", mirror)
    said: list[str] = []
    tool = find_qemu(said.append, root=tmp_path / "cache")
    assert (tool.version, tool.source, tool.limits) == (
        (10, 0, 2),
        "Debian bookworm-backports",
        (TWICE, OLDER),
    )
    assert "using QEMU 10.0.2 (Debian bookworm-backports): QEMU 11.1 is not available:" in _words(said)
    assert why in _words(said)


@pytest.mark.parametrize(("version", "limits"), [("10.0.13", (OLDER,)), ("7.2.22", (OLDER, NO_AVX))])
def test_without_a_mirror_the_systems_own_is_used_and_told(
    asked: Path, tmp_path: Path, version: str, limits: tuple[str, ...]
) -> None:
    _fake_qemu(asked.parent, version)
    said: list[str] = []
    tool = find_qemu(said.append, root=tmp_path / "cache")
    assert (tool.source, tool.limits) == ("PATH", (TWICE, *limits))
    assert f"using QEMU {version}" in _words(said)
    assert "QEMU 11.1 is not available" in _words(said)


def test_without_any_it_is_an_error_that_says_what_was_tried(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"no qemu-system-x86_64 found: QEMU 11\.1 is not available"
    ) as caught:
        find_qemu(print, root=tmp_path)
    assert "apt-get install qemu-system-x86" in caught.value.remedy


def test_a_mirror_that_refused_is_asked_again_after_an_hour(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MIRROR", "bookworm=10.0.2")
    for _ in range(3):
        assert find_qemu(print, root=tmp_path).version == (10, 0, 2)
    assert [line.count("trixie-backports") > 0 for line in asked.read_text().splitlines()] == [True, False]
    monkeypatch.setenv("FAKE_MIRROR", "trixie=11.1.3")
    (note,) = (tmp_path / "qemu").glob("*.refused")
    os.utime(note, (time.time() - 3700, time.time() - 3700))
    assert find_qemu(print, root=tmp_path).version == (11, 1, 3)
    assert not note.exists()


def _build(tmp_path: Path, data: bytes, **changes: object) -> tuple[Path, Mend]:
    binary = tmp_path / "qemu"
    binary.write_bytes(data)
    known = Mend(
        build="b", sha256=hashlib.sha256(data).hexdigest(), offset=4, old=b"\x89\xb3", new=b"\x66\x90"
    )
    return binary, dataclasses.replace(known, **changes)


def test_a_known_build_is_mended_in_its_place_and_only_once(tmp_path: Path) -> None:
    binary, known = _build(tmp_path, b"head\x89\xb3tail\x89\xb3")
    binary.chmod(0o755)
    assert mend(binary, (known,))
    assert binary.read_bytes() == b"head\x66\x90tail\x89\xb3"
    assert binary.stat().st_mode & 0o777 == 0o755
    assert not mend(binary, (known,))


@pytest.mark.parametrize(
    "changes", [{"sha256": "0" * 64}, {"offset": 5}, {"offset": 400}, {"old": b"\x00\x00"}, {"new": b"\x90"}]
)
def test_what_is_not_exactly_the_known_build_stays_as_it_is(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    data = b"head\x89\xb3tail"
    binary, known = _build(tmp_path, data, **changes)
    assert not mend(binary, (known,))
    assert binary.read_bytes() == data


def test_each_mend_keeps_the_length() -> None:
    assert all(len(each.old) == len(each.new) and len(each.sha256) == 64 for each in MENDS)


def test_a_mended_backport_says_so_and_has_no_limit_of_it(
    asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MIRROR", "trixie=11.1.3")
    find_qemu(print, root=tmp_path)
    (entry,) = (path for path in (tmp_path / "qemu").iterdir() if path.is_dir())
    (entry / "mended").touch()
    tool = find_qemu(print, root=tmp_path)
    assert (tool.source, tool.limits) == ("Debian trixie-backports, mended", ())
