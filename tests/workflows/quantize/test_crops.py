"""Images are decoded once, and their tensors are those of `preprocess` to the last bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrify.pixels import ImageSource, preprocess
from vitrify.spec import Preprocess
from vitrify.workflows.quantize import judge
from vitrify.workflows.quantize.judge import Crops

SPEC = Preprocess(
    resize_rule="shortest", resize_height=40, resize_width=40, crop_height=32, crop_width=32, interpolation="bicubic",
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fill=(12, 34, 56),
)  # fmt: skip
CROP = 3 * 32 * 32


@pytest.fixture
def images(tmp_path: Path) -> list[ImageSource]:
    """A file, encoded bytes, pixels and a picture, with every value of every channel."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=97)
    Image.fromarray(pixels[::-1]).save(tmp_path / "b.png")
    ramp = np.arange(256, dtype=np.uint8).repeat(12).reshape(32, 32, 3)
    return [tmp_path / "a.jpg", (tmp_path / "b.png").read_bytes(), ramp, Image.fromarray(pixels)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []

    def counted(given: Any, spec: Any) -> Any:
        seen.append(len(given))
        return preprocess(given, spec)

    monkeypatch.setattr(judge, "preprocess", counted)
    return seen


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        dataclasses.replace(SPEC, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        dataclasses.replace(SPEC, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear"),
        dataclasses.replace(SPEC, mean=(0.1, 0.9, 0.3), std=(0.003, 3.0, 0.7)),
        dataclasses.replace(SPEC, resize_rule="longest", resize_height=24, resize_width=24),  # a border in `fill`
    ],
)
def test_the_same_bits_before_and_after(images: list[ImageSource], decoded: list[int], spec: Preprocess) -> None:
    kept = Crops(spec)
    truth = preprocess(images, spec)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 2, 0]):
        found = kept.tensors([images[n] for n in order])
        assert found.dtype == np.float32
        assert np.array_equal(found.view(np.uint32), truth[order].view(np.uint32))
    assert sum(decoded) == 4


def test_what_finds_no_room_is_decoded_again(images: list[ImageSource], decoded: list[int]) -> None:
    kept, truth = Crops(SPEC, limit_bytes=2 * CROP + 1), preprocess(images, SPEC)
    for _ in range(3):
        assert np.array_equal(kept.tensors(images), truth)
    assert decoded == [4, 2, 2]
    assert sum(crop.nbytes for crop in kept._kept.values()) == 2 * CROP


def test_a_file_is_the_same_by_any_name(images: list[ImageSource], decoded: list[int], tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    kept = Crops(SPEC)
    for name in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), tmp_path / "link.jpg"):
        kept.tensors([name])
    assert sum(decoded) == 1


def test_tensors_that_are_no_table_of_8_bits_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "preprocess", lambda given, spec: np.full((len(given), 3, 32, 32), 0.1234, np.float32))
    kept = Crops(SPEC)
    assert np.all(kept.tensors([b"one"]) == np.float32(0.1234))
    assert not kept._kept
