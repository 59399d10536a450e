"""Equality of bytes with Pillow, torchvision and timm, over random sizes and rules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform

from vitrify.errors import ImageError
from vitrify.pixels import ImageSource, preprocess, resize
from vitrify.spec import Interpolation, Preprocess

FILTERS: tuple[Interpolation, ...] = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
TIMM_FILTERS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def picture(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=300, deadline=None)
@given(
    source=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    target=st.tuples(st.integers(1, 96), st.integers(1, 96)),
    name=st.sampled_from(FILTERS),
)
def test_resize_is_pillows(source: tuple[int, int], target: tuple[int, int], name: Interpolation) -> None:
    rgb = picture(*source)
    want = Image.fromarray(rgb).resize(target, Image.Resampling[name.upper()])
    assert np.array_equal(resize(rgb, target, name), np.asarray(want))


@settings(max_examples=400, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    target=st.one_of(st.integers(8, 96).map(lambda n: (n, n)), st.tuples(st.integers(8, 96), st.integers(8, 96))),
    crop_pct=st.sampled_from([1.0, 0.95, 0.9, 0.875, 0.5]),
    mode=st.sampled_from(["center", "squash", "border"]),
    name=st.sampled_from(TIMM_FILTERS),
)
def test_tensors_are_timms_to_the_last_bit(
    size: tuple[int, int], target: tuple[int, int], crop_pct: float, mode: str, name: Interpolation
) -> None:
    config = {
        "input_size": (3, *target),
        "interpolation": name,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "crop_pct": crop_pct,
        "crop_mode": mode,
    }
    rgb = picture(*size)
    transform = create_transform(
        input_size=target,
        interpolation=name,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_pct=crop_pct,
        crop_mode=mode,
    )
    try:
        want = transform(Image.fromarray(rgb)).numpy()
    except ValueError:
        # timm asks Pillow for a side of 0 pixels of extreme strips; this project keeps one pixel.
        assert max(size) / min(size) >= 2 * min(target)
        return
    got = preprocess([rgb], Preprocess.from_timm(config))
    assert got.dtype == np.float32
    assert np.array_equal(got[0], want)


def spec(**changes: Any) -> Preprocess:
    fields: dict[str, Any] = {
        "resize_rule": "shortest",
        "resize_height": 36,
        "resize_width": 36,
        "crop_height": 32,
        "crop_width": 32,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }
    return Preprocess(**fields | changes)


def test_every_kind_of_source_gives_the_same_tensor(tmp_path: Path) -> None:
    rgb = picture(50, 40)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "png")
    path = tmp_path / "p.png"
    path.write_bytes(buffer.getvalue())
    sources: list[ImageSource] = [rgb, buffer.getvalue(), path, str(path), Image.fromarray(rgb)]
    tensors = preprocess(sources, spec())
    assert tensors.shape == (5, 3, 32, 32)
    assert all(np.array_equal(tensor, tensors[0]) for tensor in tensors)
    assert np.array_equal(preprocess(sources, spec(), threads=1), tensors)


def test_no_images_are_an_empty_batch() -> None:
    assert preprocess([], spec()).shape == (0, 3, 32, 32)


def test_padding_has_the_specs_fill() -> None:
    padded = preprocess(
        [np.full((10, 40, 3), 255, np.uint8)],
        spec(
            resize_rule="longest", resize_height=32, resize_width=32, fill=(10, 20, 30), mean=(0, 0, 0), std=(1, 1, 1)
        ),
    )[0]
    assert np.allclose(padded[:, 0, 0] * 255, (10, 20, 30))
    assert np.allclose(padded[:, 16, 16], 1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_rgb(array: Any) -> None:
    with pytest.raises(ImageError, match=r"\[H, W, 3\] uint8"):
        preprocess([array], spec())
