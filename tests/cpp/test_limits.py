"""What an encoded image may ask for, in C++ as in Python."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.cpp.conftest import ROOT
from tests.cpp.library import BAD_IMAGE, BAD_OPTION, Library, StatusError
from tests.pixels.test_hostile import animated, many_scans, saved
from vitrify.errors import ImageError
from vitrify.pixels import DecodeLimits, decode

PROGRESSIVE = saved("jpeg", (16, 16), progressive=True)
HOSTILE = {
    "animation": animated(10_000, 9_000) + bytes(23_000),
    "arithmetic": many_scans(2300, 0xCA) + bytes(4096),
    "progressive": many_scans(6500, 0xC2) + bytes(4096),
}


def test_the_defaults_are_pythons() -> None:
    header = (ROOT / "cpp" / "include" / "vitrify" / "image.hpp").read_text()
    found = re.findall(r"std::int64_t (max_\w+) = (?:std::int64_t\{1\} << (\d+)|(.*));", header)
    values = {name: 1 << int(shift) if shift else eval(value.replace("'", "")) for name, shift, value in found}
    assert values == asdict(DecodeLimits())


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_as_in_python(name: str, library: Library, program: Path, tiny: Path, tmp_path: Path) -> None:
    data = HOSTILE[name]
    with pytest.raises(ImageError) as expected:
        decode(data)
    with library.load(tiny) as classifier:
        with pytest.raises(StatusError) as refused:
            classifier.classify(data)
        assert (refused.value.status, str(refused.value)) == (BAD_IMAGE, str(expected.value))
        with pytest.raises(StatusError):
            classifier.preprocess(data)
    (tmp_path / "image").write_bytes(data)
    done = subprocess.run([program, tiny, tmp_path / "image"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(expected.value).splitlines()[0] in done.stdout


@pytest.mark.parametrize(
    ("data", "limit", "least"),
    [
        (animated(8, 8), "max_memory", 14 * 8 * 8),
        (PROGRESSIVE, "max_memory", 9 * 16 * 16),
        (PROGRESSIVE, "max_scan_pixels", 10 * 16 * 16),
        (many_scans(16, 0xCA), "max_scan_pixels", 8 * 56 * 16 * 16),
        (animated(8, 8), "max_pixels", 8 * 8),
        (animated(8, 8), "max_bytes", len(animated(8, 8))),
        (animated(800, 800), "max_ratio", 3 * 800 * 800 // 4096),
    ],
)
def test_limits_of_a_program(data: bytes, limit: str, least: int, library: Library, tiny: Path) -> None:
    with library.load(tiny, **{limit: least}) as classifier:
        classifier.classify(data)
    with library.load(tiny, **{limit: least - 1}) as classifier, pytest.raises(StatusError) as refused:
        classifier.classify(data)
    assert refused.value.status == BAD_IMAGE
    assert limit in str(refused.value)
    with pytest.raises(StatusError) as refused:
        library.load(tiny, **{limit: -1})
    assert refused.value.status == BAD_OPTION
    assert limit in str(refused.value)
