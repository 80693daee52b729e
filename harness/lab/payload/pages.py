"""Which parts of TensorFlow's libraries a run needs: recording them, and reading them ahead.

A library of 600 MB is read page by page as its code is first reached, and on an emulated disk each read
costs milliseconds whatever its size: most of a cold start. The pages of a run are always nearly the same,
so they are asked for at once. A list that does not fit only reads in vain.

To record a list for another version, run this as root in a guest with the library in its page cache::

    echo 4096 > /sys/kernel/debug/fault_around_bytes
    start.py shakedown_lab.pages JSON > tensorflow-VERSION.pages

``start.py`` is the payload's, JSON as the job of ``tensor`` takes it, and /opt/tf on the way of modules.

On a kernel without that file: with the libraries on a file system that reads nothing ahead (a loop device
whose ``queue/read_ahead_kb`` is 0) and not in the page cache (``dd of=FILE oflag=nocache conv=notrunc
count=0``).
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # as typing has it, without the cost of importing typing
if TYPE_CHECKING:
    pass

_PAGE = 4096
_GAP = 8
"""Pages left out between two needed ones that are read along: one read of 32 KiB more beats a second one."""


def read_ahead(tf_dir: str, here: str) -> int:
    """Ask the kernel for the recorded pages; returns how many ranges were asked for, 0 without a list."""
    lists = sorted(n for n in os.listdir(here) if n.startswith("tensorflow-") and n.endswith(".pages"))
    asked = 0
    for name in lists:
        version = name[len("tensorflow-") : -len(".pages")]
        # Recorded of the build for processors; that with GPU kernels is another library, on faster disks.
        if os.path.isdir(os.path.join(tf_dir, f"tensorflow_cpu-{version}.dist-info")):
            with open(os.path.join(here, name), encoding="ascii") as stream:
                asked += _ask(os.path.join(tf_dir, "tensorflow"), stream.read())
    return asked


def _ask(folder: str, text: str) -> int:
    asked = 0
    for block in text.split("\n# ")[1:]:
        name, _, rows = block.partition("\n")
        try:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
        except OSError:
            continue  # another build of TensorFlow: it loads as it would without a list
        for row in rows.split("\n"):
            if row:
                first, _, count = row.partition(" ")
                start, length = int(first) * _PAGE, int(count) * _PAGE
                os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_WILLNEED)
                asked += 1
        os.close(descriptor)
    return asked


def present() -> dict[str, list[int]]:
    """For each of TensorFlow's libraries, the numbers of the pages that this process has mapped."""
    found: dict[str, set[int]] = {}
    with open("/proc/self/maps", encoding="utf-8") as maps, open("/proc/self/pagemap", "rb", 0) as pagemap:
        for line in maps:
            words = line.split(None, 5)
            if len(words) < 6 or "/libtensorflow" not in words[5]:
                continue
            start, end = (int(word, 16) for word in words[0].split("-"))
            first = int(words[2], 16) // _PAGE
            pagemap.seek(start // _PAGE * 8)
            entries = pagemap.read((end - start) // _PAGE * 8)
            pages = found.setdefault(os.path.basename(words[5].strip()), set())
            pages.update(first + n for n in range(len(entries) // 8) if entries[8 * n + 7] & 0x80)
    return {name: sorted(pages) for name, pages in found.items()}


def ranges(pages: list[int]) -> list[tuple[int, int]]:
    """First page and count of runs of pages, small gaps included."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and page - runs[-1][1] <= _GAP:
            runs[-1][1] = page
        else:
            runs.append([page, page])
    return [(first, last - first + 1) for first, last in runs]


def main(argument: str) -> None:
    """Run the job, then print which pages it needed."""
    from harness.workloads.tensor.payload import worker

    worker.report({**json.loads(argument), "device": "cpu"})
    print("First page and number of pages (4096 bytes) that a run needs of each file; see pages.py")
    for name, pages in present().items():
        print(f"# {name}")
        for first, count in ranges(pages):
            print(first, count)
    sys.stdout.flush()
    os._exit(0)
