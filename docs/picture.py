#!/usr/bin/env python3
"""Makes ``docs/report.png``: how a report looks, as Debian's chromium draws it.

    .venv/bin/python docs/picture.py                    the golden report of the tests
    .venv/bin/python docs/picture.py runs/lab/RUN/report.html

The day on which it was made stands in the picture's own data and in README, which this writes too.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, PngImagePlugin

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "report.png"
GOLDEN = HERE.parent / "tests/reports/golden/go_with_waivers.report.html"
README = HERE.parent / "README.md"
CAPTION = re.compile(r"(docs/picture\.py`?, )(\d{4}-\d{2}-\d{2})")
WIDTH, HEIGHT = 1180, 1480
COLOURS = 128
"""Enough for a page of text; the file is a fifth of one in full colour."""


def main(arguments: list[str]) -> None:
    """Draw the report and write the picture with its date."""
    report = Path(arguments[0]) if arguments else GOLDEN
    browser = shutil.which("chromium") or sys.exit(
        "chromium is missing: apt-get install chromium fonts-dejavu-core"
    )
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn.png"
        options = ["--headless", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        # Root has no user namespace of its own to put chromium's sandbox in; the page has no scripts.
        options += ["--no-sandbox", f"--user-data-dir={folder}/profile", f"--screenshot={drawn}"]
        subprocess.run(
            [browser, *options, report.resolve().as_uri()], check=True, timeout=120, stderr=subprocess.DEVNULL
        )
        today = dt.datetime.now(dt.UTC).date().isoformat()
        said = PngImagePlugin.PngInfo()
        said.add_text("Creation Time", today)
        with Image.open(drawn) as picture:
            picture.convert("RGB").quantize(COLOURS).save(PICTURE, pnginfo=said, optimize=True)
    README.write_text(CAPTION.sub(rf"\g<1>{today}", README.read_text()))
    print(f"{PICTURE}: {report.name}, {today}")


if __name__ == "__main__":
    main(sys.argv[1:])
