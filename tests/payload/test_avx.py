"""A guest without AVX says so before TensorFlow dies of an illegal instruction."""

from __future__ import annotations

import pytest

from harness.workloads.tensor.payload.device import lacks_avx


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse2 svm\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse2 avx avx2\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("", False),
    ],
    ids=["x86 without", "x86 with", "another architecture", "nothing said"],
)
def test_the_processor_is_asked_before_the_library_is_loaded(tmp_path, text, lacks) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert lacks_avx(str(file)) is lacks
