"""The shipped PTX is what the source gives, assembles for every card we know, and computes what we think."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.payload import memory_patterns
from harness.workloads.files import payload_files
from tests.native import ptx
from tests.native.fake import SOURCE, compiler
from tests.skips import LICENCE

KERNELS = ("sd_fill", "sd_verify", "sd_verify_fill", "sd_count", "sd_read", "sd_copy", "sd_flip")
PAYLOAD = ptx.SHIPPED.parent


def test_the_shipped_text_has_every_kernel_and_travels_with_the_payload() -> None:
    text = ptx.SHIPPED.read_text()
    assert tuple(re.findall(r"\.visible \.entry (\w+)\(", text)) == KERNELS
    assert f".version {ptx.VERSION}\n.target {ptx.TARGET}\n" in text
    assert payload_files()["harness/vendors/nvidia/payload/vram.ptx"] == text.encode()


ARCHITECTURES = (75, 80, 86, 89, 90, 100)
"""T4 and RTX 6000, A100, A10, L4 and Ada, H100 and H200, B200."""


@pytest.mark.skipif(ptx.nvcc_release() != ptx.BUILT_BY, reason=f"{LICENCE}: needs nvcc {ptx.BUILT_BY}")
def test_the_shipped_text_is_what_the_source_gives() -> None:
    assert ptx.compile_ptx() == ptx.SHIPPED.read_text()


@pytest.mark.skipif(not shutil.which("ptxas"), reason=f"{LICENCE}: ptxas is not installed here")
def test_it_assembles_for_every_card_without_spilling(tmp_path: Path) -> None:
    for arch in ARCHITECTURES:
        argv = ["ptxas", "-v", f"-arch=sm_{arch}", "-o", str(tmp_path / "cubin"), str(ptx.SHIPPED)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arch, done.stderr)
        assert set(re.findall(r"(\d+) bytes spill", done.stderr)) == {"0"}, arch
        assert done.stderr.count("Compiling entry function") == len(KERNELS), arch


def test_the_stand_in_runs_exactly_the_kernels_that_are_shipped() -> None:
    known = re.search(r"known\[\] = \{(.*?)\}", SOURCE.read_text())
    assert known
    assert tuple(re.findall(r'"(\w+)"', known[1])) == KERNELS
    ours = re.search(r"KERNELS = \((.*?)\)", (PAYLOAD / "compute.py").read_text())
    assert ours
    assert tuple(re.findall(r'"(\w+)"', ours[1])) == KERNELS


PROGRAM = r"""
#include <stdio.h>
#define SD_FN static inline
#include "vram_patterns.h"
int main(void) {
    sd_u64 indices[] = {0, 1, 2, 63, 64, 65, 12345, 1ull << 33, (1ull << 34) + 7};
    sd_u64 arguments[] = {0, 1, 63, 0x5555555555555555ull, ~0ull, 0x123456789abcdefull};
    for (unsigned kind = 0; kind < SD_KINDS; kind++)
        for (int i = 0; i < 9; i++)
            for (int a = 0; a < 6; a++)
                printf("%u %llu %llu %llu\n", kind, indices[i], arguments[a],
                       sd_value(kind, indices[i], arguments[a]));
}
"""


@pytest.mark.skipif(compiler() is None, reason="no C compiler here")
def test_c_guest_and_controller_mean_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "words.c").write_text(PROGRAM)
    program = tmp_path / "words"
    include = f"-I{ptx.SOURCE.parent}"
    subprocess.run([str(compiler()), include, "-o", program, tmp_path / "words.c"], check=True)
    lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 5 * 9 * 6
    for line in lines:
        kind, index, argument, word = map(int, line.split())
        assert memory_patterns.value(kind, index, argument) == word


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler here")
def test_the_kernels_source_walks_all_of_its_memory_and_nothing_beyond(tmp_path: Path) -> None:
    """Odd lengths, fewer words than threads, places beyond 2^32: on the processor, by the same source."""
    program, source = tmp_path / "kernels", ptx.ROOT / "tests/native/kernels_on_cpu.cc"
    flags = ["-O1", "-fsanitize=undefined", "-fno-sanitize-recover", f"-I{ptx.SOURCE.parent}"]
    subprocess.run(["g++", *flags, "-o", program, source], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
