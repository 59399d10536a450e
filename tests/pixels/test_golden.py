"""The golden files that the C++ tests read too: decoded pixels and tensors, to the last bit, on every kernel."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest

from tests.golden import make_golden
from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels import decode, preprocess
from vitrify.spec import Preprocess
from vitrify.spec.golden import golden_input

GOLDEN = Path(__file__).parents[1] / "golden"
VERSION, *LINES = (GOLDEN / "cases.txt").read_text().splitlines()
CASES = [line.split() for line in LINES]
HOSTILE = sorted((GOLDEN / "hostile").iterdir())


@pytest.fixture(params=_native.available_kernels())
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.kernels_in_use()
    assert _native.use_kernels(request.param)
    yield request.param
    assert _native.use_kernels(before)


@pytest.mark.parametrize(("name", "width", "height", "digest"), CASES, ids=[case[0] for case in CASES])
def test_pixels(name: str, width: str, height: str, digest: str) -> None:
    pixels = decode((GOLDEN / "images" / name).read_bytes())
    assert pixels.shape == (int(height), int(width), 3)
    assert f"{make_golden.fnv1a(pixels.tobytes()):016x}" == digest


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", make_golden.SPECS)
def test_tensors(name: str) -> None:
    config = {"mean": make_golden.MEAN, "std": make_golden.STD, **make_golden.SPECS[name]}
    spec = Preprocess.from_timm(config)
    want = np.fromfile(GOLDEN / f"{name}.f32", "<f4").reshape(len(CASES), *config["input_size"])
    got = preprocess([GOLDEN / "images" / case[0] for case in CASES], spec)
    wrong = [case[0] for case, a, b in zip(CASES, got, want, strict=True) if not np.array_equal(a, b)]
    assert wrong == []


@pytest.mark.parametrize("path", HOSTILE, ids=[path.name for path in HOSTILE])
def test_hostile_files_are_errors(path: Path) -> None:
    if path.name == "scans.jpg" and not _native.decodable_format(path.read_bytes()):
        pytest.skip("Pillow, which decodes JPEG in this build, does not count scans")
    spec = Preprocess.from_timm(
        {"input_size": (3, 8, 8), "interpolation": "bicubic", "mean": (0, 0, 0), "std": (1, 1, 1)}
    )
    with pytest.raises(ImageError):
        decode(path.read_bytes())
    with pytest.raises(ImageError) as caught:
        preprocess([path], spec)
    assert str(path) in str(caught.value)


def test_the_generator() -> None:
    want = np.fromfile(GOLDEN / "generator.f32", "<f4").reshape(1, 3, 5, 7)
    assert np.array_equal(golden_input((3, 5, 7), seed=2, cell=3), want)


@pytest.mark.skipif(
    f"# Pillow {PIL.__version__}" != VERSION, reason="another Pillow may encode the same pixels to other bytes"
)
def test_the_files_are_what_the_script_makes(tmp_path: Path) -> None:
    make_golden.make(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(
        path.relative_to(GOLDEN)
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(("fuzz-", "tiny."))
    )
    assert made == kept
    assert [str(path) for path in made if not filecmp.cmp(tmp_path / path, GOLDEN / path, shallow=False)] == []
