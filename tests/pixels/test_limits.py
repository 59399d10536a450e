"""Images that ask for too much, and damaged ones, are errors before memory is taken for their pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitrify import _native
from vitrify.errors import ImageError, OptionError
from vitrify.pixels import DecodeLimits, decode, preprocess
from vitrify.spec import Preprocess

SPEC = Preprocess.from_timm({"input_size": (3, 16, 16), "interpolation": "bilinear", "mean": (0,) * 3, "std": (1,) * 3})


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "jpeg"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpeg", "png", "bmp"])
def test_one_above_each_limit_is_refused(kind: str, tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (300, 200)), kind)
    path = tmp_path / f"image.{kind}"
    path.write_bytes(data)
    assert decode(data, limits=DecodeLimits(max_pixels=60_000, max_bytes=len(data))).shape == (200, 300, 3)
    for limits, says in (
        (DecodeLimits(max_pixels=59_999), "too many pixels"),
        (DecodeLimits(max_bytes=len(data) - 1), "file is too large"),
    ):
        with pytest.raises(ImageError, match=says):
            decode(data, limits=limits)
        with pytest.raises(ImageError, match=says) as caught:
            preprocess([path], SPEC, limits=limits)
        assert str(path) in str(caught.value)
        assert "raise DecodeLimits.max_" in str(caught.value)


@pytest.mark.parametrize("data", [jpeg_header(12_000, 12_000), png_header(12_000, 12_000)])
def test_a_header_alone_buys_no_memory(data: bytes) -> None:
    with pytest.raises(ImageError, match="too small for its pixels"):
        decode(data)
    with pytest.raises(ImageError, match="damaged or truncated"):
        decode(data[: len(data) // 2] if data[0] == 0xFF else data, limits=DecodeLimits(max_ratio=2**62))


@pytest.mark.parametrize("data", [jpeg_header(65_535, 65_535), jpeg_header(65_535, 1), jpeg_header(0, 8)])
def test_the_largest_sides(data: bytes) -> None:
    with pytest.raises(ImageError):
        decode(data)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "jpeg", {"optimize": True}),
        ("L", "jpeg", {"progressive": True}),
        ("RGB", "jpeg", {"progressive": True, "quality": 1}),
        ("1", "png", {"optimize": True}),
        ("RGB", "png", {}),
    ],
)
def test_images_of_one_colour_pass(mode: str, kind: str, options: dict[str, Any]) -> None:
    data = encoded(Image.new(mode, (3000, 2400)), kind, **options)
    assert decode(data).shape == (2400, 3000, 3)


def test_limits_that_nothing_passes_are_refused() -> None:
    with pytest.raises(OptionError, match="max_bytes"):
        DecodeLimits(max_bytes=0)


def test_a_truncated_jpeg_is_an_error_wherever_the_crop_lies() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "jpeg")
    spec = Preprocess(
        resize_rule="shortest",
        resize_height=100,
        resize_width=100,
        crop_height=30,
        crop_width=30,
        interpolation="bicubic",
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    for kept in (0.3, 0.6, 0.7, 0.8, 0.9, 0.99):
        with pytest.raises(ImageError, match="truncated"):
            preprocess([data[: int(kept * len(data))]], spec)
    assert preprocess([data + b"behind the end"], spec).tobytes() == preprocess([data], spec).tobytes()


def test_scans_without_end_are_refused() -> None:
    if not _native.decodable_format(b"\xff\xd8\xff"):
        pytest.skip("Pillow, which decodes JPEG in this build, does not count scans")
    data = encoded(Image.fromarray(np.zeros((64, 64), np.uint8)), "jpeg", progressive=True)
    start = data.rindex(b"\xff\xda")  # the last scan, a refinement, once more and once more
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode(data[:start] + data[start:-2] * 200 + data[-2:])


@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncation_of_a_jpeg_is_an_error(progressive: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "jpeg", progressive=progressive)
    for length in range(len(data) - 2):
        with pytest.raises(ImageError):
            decode(data[:length])
        with pytest.raises(ImageError):
            preprocess([data[:length]], SPEC)
