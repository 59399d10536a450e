"""Files that are made to harm: other formats under an image's name, decoders that raise, headers that ask for much."""

from __future__ import annotations

import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, EpsImagePlugin, Image, ImageOps, TiffImagePlugin

from tests.conftest import tiny_spec
from vitrify.datasets import check_images
from vitrify.errors import ImageError
from vitrify.pixels import DecodeLimits, Decoders, decode, preprocess, read_rgb

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(owned) print\nshowpage\n%%EOF\n"


def saved(kind: str, size: tuple[int, int] = (20, 10), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 90)).save(buffer, kind, **options)
    return buffer.getvalue()


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: ran.append(1))
    monkeypatch.setattr(shutil, "which", lambda *_: "/usr/bin/gs")
    (tmp_path / "photo.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(ImageError, match="not an image"):
        read_rgb(tmp_path / "photo.jpg")
    assert not ran


@pytest.mark.parametrize("kind", ["ppm", "ico", "sgi", "tga", "dds", "pcx", "jpeg2000", "eps", "spider"])
def test_formats_beyond_the_documented_ones_are_no_images(kind: str) -> None:
    try:
        data = saved(kind)
    except OSError:
        pytest.skip(f"Pillow cannot write {kind} here")
    with pytest.raises(ImageError, match="not an image"):
        decode(data)


@pytest.mark.parametrize("kind", ["tiff", "avif"])
def test_pillow_decodes_the_rest(kind: str) -> None:
    assert np.abs(decode(saved(kind)).astype(int) - (200, 30, 90)).max() <= 8


@pytest.mark.parametrize("error", [RuntimeError("avif"), NotImplementedError("dds"), KeyError(1), ZeroDivisionError()])
@pytest.mark.parametrize("stage", ["open", "load", "exif"])
def test_whatever_a_decoder_raises_is_the_images_error(
    error: Exception, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    if stage == "exif":
        monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    else:
        for plugin in (AvifImagePlugin.AvifImageFile, TiffImagePlugin.TiffImageFile):
            monkeypatch.setattr(plugin, {"open": "_open", "load": "load"}[stage], fail)
    paths = [tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "c.png"]
    for path, kind in zip(paths, ("avif", "tiff", "png"), strict=True):
        path.write_bytes(saved(kind))
    bad = [path for path, _ in check_images(paths)]  # what train --skip-bad leaves out
    # Orientation that cannot be read turns nothing; but a TIFF's is read by its decoder.
    assert bad == (paths[1:2] if stage == "exif" else paths[:2])


def open_header(data: bytes, **limits: int) -> None:
    """Reads what comes before the pixels."""
    (opened,) = Decoders(1).open([data], tiny_spec().preprocess, limits=DecodeLimits(**limits))
    if isinstance(opened, ImageError):
        raise opened


def animated(width: int, height: int) -> bytes:
    """An animated WebP whose canvas is larger than its frames."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "webp", save_all=True, append_images=frames[1:], lossless=True)
    data = bytearray(buffer.getvalue())
    data[24:27], data[27:30] = ((side - 1).to_bytes(3, "little") for side in (width, height))
    return bytes(data)


def test_an_animations_canvas_is_in_the_budget() -> None:
    assert decode(animated(8, 8)).shape == (8, 8, 3)
    data = animated(10_000, 9_000) + bytes(23_000)
    for read in (decode, lambda data: preprocess([data], tiny_spec().preprocess), open_header):
        with pytest.raises(ImageError, match="too much memory"):
            read(data)
    open_header(data, max_memory=14 * 10_000 * 9_000)


def test_an_animation_of_another_decoder_is_in_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrify._native.decodable_format", lambda _: None)  # a build without libwebp
    with pytest.raises(ImageError, match="too much memory"):
        decode(animated(10_000, 6_000) + bytes(23_000))
    assert decode(animated(8, 8)).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", ["tiff", "avif"])
def test_what_pillow_decodes_is_in_the_budget(kind: str) -> None:
    data = saved(kind, (300, 300))
    assert decode(data, limits=DecodeLimits(max_memory=22 * 300 * 300)).shape == (300, 300, 3)
    with pytest.raises(ImageError, match="too much memory"):
        decode(data, limits=DecodeLimits(max_memory=22 * 300 * 300 - 1))


def many_scans(side: int, frame: int) -> bytes:
    """A progressive JPEG in as many scans as the standard allows, each of eight bytes."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    def scan(components: list[int], first: int, last: int, high: int, low: int) -> bytes:
        listed = bytes([len(components)]) + b"".join(bytes([component, 0]) for component in components)
        return segment(0xDA, listed + bytes([first, last, high << 4 | low])) + bytes(8)

    data = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1]) * 64)
    data += segment(frame, struct.pack(">BHHB", 8, side, side, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]))
    for low in range(13, -1, -1):
        high = 0 if low == 13 else low + 1
        data += scan([1, 2, 3], 0, 0, high, low)
        data += b"".join(scan([component], 1, 63, high, low) for component in (1, 2, 3))
    return data + b"\xff\xd9"


def test_the_time_of_a_jpegs_scans_is_in_the_budget() -> None:
    assert decode(many_scans(256, 0xCA)).shape == (256, 256, 3)
    for side, frame in ((2300, 0xCA), (6500, 0xC2)):  # arithmetic codes are slower
        data = many_scans(side, frame) + bytes(4096)
        for read in (decode, lambda data: preprocess([data], tiny_spec().preprocess), open_header):
            with pytest.raises(ImageError, match="scans would take too long"):
                read(data)


def test_a_baseline_jpeg_in_several_scans_is_in_the_budget() -> None:
    data = bytearray(many_scans(256, 0xC0))
    at = data.index(b"\xff\xda")
    del data[at : data.index(b"\xff\xda", at + 1)]  # the first scan then holds one of three components
    open_header(bytes(data))
    with pytest.raises(ImageError, match="scans would take too long"):
        open_header(bytes(data), max_scan_pixels=256 * 256 * 55 - 1)
    with pytest.raises(ImageError, match="too much memory"):
        open_header(bytes(data), max_memory=256 * 256 * 9 - 1)
    open_header(saved("jpeg", (64, 64)), max_scan_pixels=1, max_memory=1)  # one scan


def test_a_large_progressive_photograph_is_within_the_limits() -> None:
    data = bytearray(saved("jpeg", (64, 64), progressive=True))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", 9_000, 12_000)  # 108 megapixels, in Pillow's ten scans
    open_header(bytes(data) + bytes(13_000))
