"""The guest image on the host: found in one of its image stores, or copied there once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import ProvisionError
from harness.images.guest import MANIFEST, GuestImage
from harness.ports import Transport

_FIND = """
for directory in "$@"; do
    found=yes
    set -- "$directory"
    while read -r size name; do
        have=$(stat -L -c %s -- "$directory/$name" 2>/dev/null) || have=missing
        [ "$have" = "$size" ] || found=no
    done <<'END'
$WANTED
END
    if [ "$found" = yes ]; then printf '%s\\n' "$directory"; exit 0; fi
done
"""

_ADOPT = """
set -e
cd -- "$1"
printf '%s  %s\\n' "$2" "$3" | sha256sum -c --status - || { echo "$3 arrived damaged" >&2; exit 1; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostImage:
    """A guest image as the host sees it: absolute paths there."""

    disk: str
    kernel: str | None
    initrd: str | None
    command_line: str


def place_image(
    transport: Transport,
    image: GuestImage,
    *,
    image_dirs: tuple[str, ...],
    work_dir: str,
    progress: Callable[[str], None],
) -> HostImage:
    """The image on the host: in place where a store already holds it, else copied to ``work_dir/images``.

    A store is trusted by directory name (the image's hash) and the size of every file; what is copied is
    also checked against its sha256. Raises ProvisionError or TransportError.
    """
    home = f"{work_dir.rstrip('/')}/images/{image.digest}"
    stores = (*(f"{directory.rstrip('/')}/{image.digest}" for directory in image_dirs), home)
    found = _find(transport, image, stores)
    if found is None:
        _copy(transport, image, home, progress)
        found = home
    return HostImage(
        disk=f"{found}/{image.disk.name}",
        kernel=f"{found}/{image.kernel.name}" if image.kernel else None,
        initrd=f"{found}/{image.initrd.name}" if image.initrd else None,
        command_line=image.command_line,
    )


def changes(image: GuestImage, work_dir: str) -> tuple[str, ...]:
    """What ``place_image`` may change on the host, for ``--dry-run``."""
    size = sum((image.directory / name).stat().st_size for name in image.files)
    return (
        f"copy the guest image ({size >> 20} MiB) to {work_dir}/images/{image.digest} unless it is "
        "already there",
    )


def _find(transport: Transport, image: GuestImage, stores: tuple[str, ...]) -> str | None:
    wanted = "\n".join(f"{(image.directory / name).stat().st_size} {name}" for name in sorted(image.files))
    script = _FIND.replace("$WANTED", wanted).encode()
    result = transport.run(("sh", "-s", "--", *stores), stdin=script, label="find-guest-image")
    place = result.text.strip()
    return place if place in stores else None


def _copy(transport: Transport, image: GuestImage, home: str, progress: Callable[[str], None]) -> None:
    made = transport.run(("mkdir", "-p", "-m", "755", "--", home), label="image-directory")
    if made.status != 0:
        raise ProvisionError(
            f"{home} cannot be made: {made.complaint[:400]}",
            remedy="work_dir in the host file must be a directory that the SSH user may write to",
        )
    for name, digest in sorted(image.files.items()):
        source = image.directory / name
        progress(f"copying {name} ({source.stat().st_size >> 20} MiB) to the host")
        transport.put(source, f"{home}/{name}", deadline=3600.0)
        checked = transport.run(
            ("sh", "-c", _ADOPT, "sh", home, digest, name), deadline=900.0, label="verify-image"
        )
        if checked.status != 0:
            words = checked.complaint[:400]
            transport.run(("rm", "-f", "--", f"{home}/{name}"), label="drop-damaged-image")
            raise ProvisionError(
                f"{name} on the host differs from what was sent: {words}",
                remedy="run again; if it happens again, suspect the host's disk or memory",
                transcript=checked.transcript,
            )
    manifest = image.directory / MANIFEST
    if image.kind != "own" and manifest.is_file():
        transport.put(manifest, f"{home}/{MANIFEST}")
