"""The guest image on the host: used where it lies, copied once, never used damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.backends.local import LocalTransport
from harness.errors import ProvisionError, TransportError
from harness.images.guest import MANIFEST
from harness.stages.guest.images import changes, place_image
from tests.fakes import FakeHost, FakeTransport
from tests.stages.stand_ins import an_image


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def place(tmp_path, said):
    """Place an image on this machine, standing in for a host: the scripts really run."""

    def call(image, *stores, transport=None):
        return place_image(
            transport or LocalTransport(),
            image,
            image_dirs=tuple(str(store) for store in stores),
            work_dir=str(tmp_path / "host work"),
            progress=said.append,
        )

    return call


def _store(directory: Path, image) -> Path:
    """A store that holds the image."""
    home = directory / image.digest
    home.mkdir(parents=True)
    for name in image.files:
        (home / name).write_bytes((image.directory / name).read_bytes())
    return directory


def test_an_image_in_a_store_is_used_in_place_and_nothing_is_copied(tmp_path, place, said) -> None:
    image = an_image(tmp_path / "cache")
    empty, full = tmp_path / "empty", _store(tmp_path / "my store", image)
    on_host = place(image, empty, full)
    assert on_host.disk == f"{full}/abc123/disk.qcow2"
    assert on_host.kernel == f"{full}/abc123/vmlinux"
    assert on_host.initrd == f"{full}/abc123/initrd"
    assert on_host.command_line == "console=ttyS0"
    assert said == []
    assert not (tmp_path / "host work").exists()


def test_an_image_that_no_store_has_is_copied_once(tmp_path, place, said) -> None:
    image = an_image(tmp_path / "cache")
    (image.directory / MANIFEST).write_text("{}")
    first = place(image)
    home = tmp_path / "host work/images/abc123"
    assert first.disk == f"{home}/disk.qcow2"
    assert {p.name: p.read_bytes() for p in home.iterdir()} == {
        "disk.qcow2": b"disk",
        "vmlinux": b"kernel",
        "initrd": b"initrd",
        MANIFEST: b"{}",
    }
    assert [line.partition(" (")[0] for line in said] == [
        "copying disk.qcow2",
        "copying initrd",
        "copying vmlinux",
    ]
    said.clear()
    assert place(image) == first
    assert said == []


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_a_store_that_holds_half_an_image_is_passed_over(tmp_path, place, damage) -> None:
    image = an_image(tmp_path / "cache")
    store = _store(tmp_path / "store", image)
    victim = store / "abc123/disk.qcow2"
    victim.unlink() if damage == "missing" else victim.write_bytes(b"dis")
    assert place(image, store).disk == str(tmp_path / "host work/images/abc123/disk.qcow2")


def test_a_copy_that_arrives_damaged_is_removed_and_told(tmp_path, place) -> None:
    image = an_image(tmp_path / "cache")
    image = replace(image, files={**image.files, "initrd": "0" * 64})
    with pytest.raises(ProvisionError, match="initrd on the host differs from what was sent") as caught:
        place(image)
    assert "suspect the host's disk or memory" in caught.value.remedy
    assert not (tmp_path / "host work/images/abc123/initrd").exists()


def test_a_work_directory_that_cannot_be_made_is_told_with_the_hosts_words(tmp_path, place) -> None:
    (tmp_path / "host work").write_text("in the way")
    with pytest.raises(ProvisionError, match=r"cannot be made: .*(Not a directory|File exists)"):
        place(an_image(tmp_path / "cache"))


def test_an_image_of_ones_own_boots_by_itself(tmp_path, place) -> None:
    built = an_image(tmp_path / "cache")
    own = replace(
        built, kind="own", kernel=None, initrd=None, files={"disk.qcow2": built.files["disk.qcow2"]}
    )
    on_host = place(own)
    assert (on_host.kernel, on_host.initrd) == (None, None)
    assert [p.name for p in (tmp_path / "host work/images/abc123").iterdir()] == ["disk.qcow2"]


def test_a_host_that_names_a_directory_nobody_asked_about_is_not_believed(tmp_path, place) -> None:
    """The answer is text from the host: only one of our own questions can be its answer."""
    host = FakeHost()
    host.on("find-guest-image", "/etc/passwd\n")
    host.on("image-directory", b"", status=1, stderr=b"stop here")
    with pytest.raises(ProvisionError, match="stop here"):
        place(an_image(tmp_path / "cache"), "/srv/images", transport=FakeTransport(host))


def test_a_lost_connection_is_a_transport_error(tmp_path, place) -> None:
    host = FakeHost()
    host.down = "connection lost"
    with pytest.raises(TransportError, match="connection lost"):
        place(an_image(tmp_path / "cache"), transport=FakeTransport(host))


def test_a_dry_run_says_how_much_would_be_copied(tmp_path) -> None:
    image = an_image(tmp_path / "cache", **{"disk.qcow2": b"x" * (3 << 20)})
    assert changes(image, "/var/lib/shakedown") == (
        "copy the guest image (3 MiB) to /var/lib/shakedown/images/abc123 unless it is already there",
    )


def test_a_file_name_is_never_run_by_the_hosts_shell(tmp_path, place, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = an_image(tmp_path / "cache", **{"x$(touch pwned).qcow2": b"own"})
    name = "x$(touch pwned).qcow2"
    own = replace(
        built,
        kind="own",
        disk=built.directory / name,
        kernel=None,
        initrd=None,
        files={name: built.files[name]},
    )
    place(own)
    assert not (tmp_path / "pwned").exists()
