"""Guest images: recipes by hash, finished images by manifest, a person's own by its first bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.errors import ConfigError, ImageError
from harness.images import guest
from harness.images.kinds import KINDS


def built(directory: Path, **changes: object) -> Path:
    """A finished image, with fields of its manifest changed."""
    entry = directory / "abc123"
    entry.mkdir()
    names = ("disk.qcow2", "vmlinux", "initrd")
    for name in names:
        (entry / name).write_bytes(name.encode())
    manifest = {
        "kind": "cpu",
        "recipe": "abc123",
        "command_line": "console=ttyS0",
        "files": {name: hashlib.sha256(name.encode()).hexdigest() for name in names},
        **changes,
    }
    (entry / guest.MANIFEST).write_text(json.dumps(manifest))
    return entry


def test_a_finished_image_is_read_from_its_manifest(tmp_path) -> None:
    entry = built(tmp_path)
    image = guest.read_image(entry)
    assert (image.kind, image.digest, image.directory) == ("cpu", "abc123", entry)
    assert (image.disk, image.kernel, image.initrd) == (
        entry / "disk.qcow2",
        entry / "vmlinux",
        entry / "initrd",
    )
    assert image.files["initrd"] == hashlib.sha256(b"initrd").hexdigest()


@pytest.mark.parametrize("name", ["disk.qcow2", "vmlinux", "initrd"])
def test_an_image_that_lost_a_file_is_never_used(tmp_path, name) -> None:
    entry = built(tmp_path)
    (entry / name).unlink()
    with pytest.raises(ImageError, match=f"{name} is missing"):
        guest.read_image(entry)


@example(b"0")
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_any_manifest_is_an_image_or_an_image_error(tmp_path_factory, content) -> None:
    entry = tmp_path_factory.mktemp("entry")
    (entry / guest.MANIFEST).write_bytes(content)
    with pytest.raises(ImageError, match="manifest cannot be read"):
        guest.read_image(entry)


def test_the_hash_follows_the_recipe_and_nothing_else() -> None:
    first = guest.image_digest(KINDS["cpu"])
    assert first == guest.image_digest(KINDS["cpu"])
    assert first != guest.image_digest(KINDS["nvidia"])
    more = dataclasses.replace(KINDS["cpu"], packages=(*KINDS["cpu"].packages, "hello"))
    assert guest.image_digest(more) != first


def test_the_hash_does_not_depend_on_where_the_project_lies(tmp_path, monkeypatch) -> None:
    first = guest.image_digest(KINDS["cpu"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert guest.image_digest(KINDS["cpu"]) == first


def test_every_kind_holds_what_the_workloads_need() -> None:
    for kind in KINDS.values():
        assert {"python3", "ffmpeg", "john", "openssh-server"} <= set(kind.packages)


def test_an_image_of_ones_own_is_taken_by_its_content(tmp_path) -> None:
    path = tmp_path / "mine.qcow2"
    path.write_bytes(b"QFI\xfb" + b"x" * 50)
    image = guest.ensure_guest_image(str(path), lambda _text: None)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (image.kind, image.disk, image.kernel, image.initrd) == ("own", path, None, None)
    assert image.digest == digest[:24]
    assert image.files == {"mine.qcow2": digest}


def test_what_is_neither_a_kind_nor_a_qcow2_is_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"neither a kind \(cpu, nvidia\) nor a \.qcow2 file"):
        guest.ensure_guest_image("gpu", lambda _text: None)


def test_a_file_that_only_claims_to_be_qcow2_is_refused(tmp_path) -> None:
    path = tmp_path / "raw.qcow2"
    path.write_bytes(b"\0" * 512)
    with pytest.raises(ImageError, match="is not a qcow2 image"):
        guest.ensure_guest_image(str(path), lambda _text: None)
    with pytest.raises(ImageError, match="cannot be read"):
        guest.ensure_guest_image(str(tmp_path / "gone.qcow2"), lambda _text: None)
