"""Decoded pixels against Pillow's, and what bad files get."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from vitrify.errors import ImageError
from vitrify.pixels import decode, read_rgb

RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rgb(width: int = 23, height: int = 17) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(rgb(), "jpeg", exif=exif)


AWKWARD = {
    "jpeg": encoded(rgb(), "jpeg"),
    "progressive": encoded(rgb(), "jpeg", progressive=True),
    "grey jpeg": encoded(rgb().convert("L"), "jpeg"),
    "cmyk jpeg": encoded(rgb().convert("CMYK"), "jpeg"),
    "png": encoded(rgb(), "png"),
    "grey png": encoded(rgb().convert("L"), "png"),
    "1-bit png": encoded(rgb().convert("1"), "png"),
    "palette png": encoded(rgb().convert("P"), "png"),
    "alpha png": encoded(rgb().convert("RGBA"), "png"),
    "grey alpha png": encoded(rgb().convert("LA"), "png"),
    "webp": encoded(rgb(), "webp"),
    "lossless alpha webp": encoded(rgb().convert("RGBA"), "webp", lossless=True),
    "bmp": encoded(rgb(), "bmp"),
    "gif": encoded(rgb().convert("P"), "gif"),
    "1 x 40": encoded(rgb(1, 40), "png"),
    "40 x 1": encoded(rgb(40, 1), "jpeg"),
    **{f"orientation {n}": oriented(n) for n in range(1, 9)},
}


@pytest.mark.parametrize("name", AWKWARD)
def test_pixels_are_pillows(name: str) -> None:
    want = ImageOps.exif_transpose(Image.open(io.BytesIO(AWKWARD[name]))).convert("RGB")
    got = decode(AWKWARD[name])
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.asarray(want))


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    got = decode(encoded(Image.fromarray(values), "png"))
    assert np.array_equal(got, np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "bmp", "gif"])
def test_truncated_files_are_errors(name: str) -> None:
    data = AWKWARD[name]
    for length in (0, 1, 10, len(data) // 2):
        with pytest.raises(ImageError):
            decode(data[:length])


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", *(value[:24] for value in AWKWARD.values())]))
def test_garbage_is_an_error_never_a_crash(data: bytes, prefix: bytes) -> None:
    try:
        pixels = decode(prefix + data)
    except ImageError:
        return
    assert pixels.ndim == 3


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(AWKWARD)), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_one_damaged_byte_is_pixels_or_an_error(name: str, place: float, value: int) -> None:
    data = bytearray(AWKWARD[name])
    data[int(place * len(data))] = value
    with contextlib.suppress(ImageError):
        assert decode(bytes(data)).shape[2] == 3


def test_errors_name_the_file(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    (tmp_path / "folder.jpg").mkdir()
    for path, says in (
        (text, "not an image"),
        (tmp_path / "folder.jpg", "directory"),
        (tmp_path / "no.jpg", "cannot read"),
    ):
        with pytest.raises(ImageError, match=says) as caught:
            read_rgb(path)
        assert str(path) in str(caught.value)
