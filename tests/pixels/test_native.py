"""The native core against Pillow and timm: equal bytes, on every kernel that this processor runs."""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform

from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels import decode, preprocess, resize
from vitrify.spec import Interpolation, Preprocess

FILTERS: tuple[Interpolation, ...] = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(params=_native.available_kernels())
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    before = _native.kernels_in_use()
    assert _native.use_kernels(request.param)
    yield request.param
    assert _native.use_kernels(before)


def picture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise, edges of full contrast (where the filters overshoot), or a smooth slope."""
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == 1:
        cells = rng.integers(0, 2, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8) * 255
        return np.ascontiguousarray(cells.repeat(5, 0).repeat(5, 1)[:height, :width])
    down, across = (np.arange(height)[:, None, None] * 3, np.arange(width)[None, :, None] * 2)
    slope: Pixels = ((down + across + np.array([0, 85, 170])) % 256).astype(np.uint8)
    return slope


def side(rng: np.random.Generator, largest: int) -> int:
    """Any size up to `largest`, small ones as often as large ones."""
    return int(np.exp(rng.uniform(0, np.log(largest + 1))))


def test_an_unknown_kernel_is_refused() -> None:
    before = _native.kernels_in_use()
    assert not _native.use_kernels("abacus")
    assert _native.kernels_in_use() == before


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", FILTERS)
def test_resize_is_pillows_on_every_kernel(name: Interpolation) -> None:
    rng = np.random.default_rng(FILTERS.index(name))
    for _ in range(300):
        width, height = side(rng, 300), side(rng, 300)
        target = (side(rng, 160), side(rng, 160))
        rgb = picture(rng, height, width)
        want = np.asarray(Image.fromarray(rgb).resize(target, Image.Resampling[name.upper()]))
        assert np.array_equal(resize(rgb, target, name), want), f"{width} x {height} to {target}"


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", FILTERS)
def test_resize_of_tall_and_wide_images(name: Interpolation) -> None:
    rng = np.random.default_rng(7)
    for height, width, target in (
        (900, 60, (40, 300)),
        (601, 299, (224, 450)),
        (60, 900, (300, 40)),
        (3, 2000, (5, 1)),
    ):
        rgb = picture(rng, height, width)
        want = np.asarray(Image.fromarray(rgb).resize(target, Image.Resampling[name.upper()]))
        assert np.array_equal(resize(rgb, target, name), want), f"{width} x {height} to {target}"


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def random_jpeg(rng: np.random.Generator, largest: int = 220) -> tuple[bytes, str]:
    """A JPEG of random shape and coding, and what it is."""
    image = Image.fromarray(picture(rng, side(rng, largest), side(rng, largest)))
    image = image.convert(str(rng.choice(["RGB", "RGB", "RGB", "L", "CMYK"])))
    options: dict[str, Any] = {
        "quality": int(rng.integers(1, 101)),
        "progressive": bool(rng.integers(2)),
        "optimize": bool(rng.integers(2)),
        "restart_marker_blocks": int(rng.choice([0, 0, 1, 7])),
    }
    if image.mode == "RGB":
        options["subsampling"] = int(rng.integers(3))
    if rng.integers(2):
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 10))  # 0 and 9 are no orientations
        options["exif"] = exif
    if rng.integers(3) == 0:
        options["xmp"] = xmp(int(rng.integers(0, 10)))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", **options)
    return buffer.getvalue(), f"{image.size} {image.mode} {options}"


def pillow_rgb(data: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def test_jpegs_decode_to_pillows_pixels() -> None:
    rng = np.random.default_rng(1)
    for _ in range(1500):
        data, what = random_jpeg(rng)
        assert np.array_equal(decode(data), np.asarray(pillow_rgb(data))), what


def with_segments(*payloads: bytes) -> bytes:
    """A JPEG with these APP1 segments."""
    buffer = io.BytesIO()
    Image.fromarray(picture(np.random.default_rng(3), 13, 21)).save(buffer, "jpeg")
    segments = b"".join(b"\xff\xe1" + (len(p) + 2).to_bytes(2, "big") + p for p in payloads)
    return b"\xff\xd8" + segments + buffer.getvalue()[2:]


def exif_segment(orientation: int | None, order: str = "<", kind: int = 3) -> bytes:
    header = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    tags = [struct.pack(order + "HHII", 0x0101, 4, 1, 77)]
    if orientation is not None:
        value = struct.pack(
            order + ("I" if kind in (4, 9) else "HH"), *([orientation] if kind in (4, 9) else [orientation, 0])
        )
        tags.append(struct.pack(order + "HHI", 0x0112, kind, 1) + value)
    return b"Exif\0\0" + header + struct.pack(order + "H", len(tags)) + b"".join(tags) + bytes(4)


XMP = b"http://ns.adobe.com/xap/1.0/\0"


@pytest.mark.parametrize(
    "segments",
    [
        *((exif_segment(n),) for n in range(10)),
        *((exif_segment(n, ">"),) for n in range(1, 9)),
        *((exif_segment(n), XMP + xmp(6)) for n in range(10)),
        *((XMP + xmp(n),) for n in range(10)),
        *((exif_segment(5, kind=kind), XMP + xmp(6)) for kind in range(13)),
        (exif_segment(None), XMP + xmp(6)),
        (b"Exif\0\0", XMP + xmp(6)),
        (XMP + xmp(3), XMP + xmp(8)),
        (XMP + xmp(3), exif_segment(8)),
        (exif_segment(6)[:24], b"Exif\0\0" + exif_segment(6)[24:]),
        (exif_segment(6)[:40], XMP + xmp(3)),
        (exif_segment(None)[:20], XMP + xmp(3)),
        (XMP + b'tiff:Orientation="x" tiff:Orientation=7 <tiff:Orientation>5</tiff:Orientation>',),
    ],
)
def test_orientation_is_where_pillow_finds_it(segments: tuple[bytes, ...]) -> None:
    data = with_segments(*segments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow says of damaged directories
        want = np.asarray(pillow_rgb(data))
    assert np.array_equal(decode(data), want)


@functools.cache
def timm_transform(size: tuple[int, int], name: Interpolation, mode: str, crop_pct: float) -> Any:
    return create_transform(input_size=size, interpolation=name, mean=MEAN, std=STD, crop_pct=crop_pct, crop_mode=mode)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_jpegs_become_timms_tensors(mode: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(250):
        data, what = random_jpeg(rng)
        upright = pillow_rgb(data)
        size = ((32, 32), (64, 64), (48, 32))[rng.integers(3)]
        if max(upright.size) > 30 * min(upright.size):
            continue  # timm asks Pillow for a side of 0 pixels of extreme strips
        name = FILTERS[rng.integers(len(FILTERS))]
        crop_pct = float(rng.choice([1.0, 0.9, 0.5]))
        want = timm_transform(size, name, mode, crop_pct)(upright).numpy()
        config = {
            "input_size": (3, *size),
            "interpolation": name,
            "mean": MEAN,
            "std": STD,
            "crop_pct": crop_pct,
            "crop_mode": mode,
        }
        got = preprocess([data], Preprocess.from_timm(config), threads=1)[0]
        assert np.array_equal(got, want), f"{what} to {size} {name} {mode} {crop_pct}"


@pytest.mark.parametrize(
    ("size", "mode", "options"),
    [
        ((1531, 1207), "RGB", {"subsampling": 2}),
        ((1531, 1207), "RGB", {"subsampling": 0, "quality": 97}),
        ((1600, 1201), "RGB", {"subsampling": 1, "restart_marker_blocks": 13}),
        ((900, 2601), "RGB", {"subsampling": 2}),
        ((1203, 1600), "RGB", {"progressive": True}),
        ((1200, 1333), "CMYK", {}),
        ((1999, 1200), "L", {}),
        ((1600, 1203), "RGB", {"orientation": 6}),
    ],
)
@pytest.mark.parametrize(("mode_of_crop", "crop_pct"), [("center", 0.9), ("squash", 1.0), ("center", 0.4)])
def test_a_large_jpeg_on_several_threads_becomes_timms_tensor(
    size: tuple[int, int], mode: str, options: dict[str, Any], mode_of_crop: str, crop_pct: float
) -> None:
    options = dict(options)
    small = picture(np.random.default_rng(8), 97, 113)
    noise = np.random.default_rng(9).integers(0, 30, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(np.asarray(Image.fromarray(small).resize(size)) // 2 + noise).convert(mode)
    if orientation := options.pop("orientation", None):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", **options)
    data = buffer.getvalue()
    want = timm_transform((64, 64), "bicubic", mode_of_crop, crop_pct)(pillow_rgb(data)).numpy()
    config = {"input_size": (3, 64, 64), "interpolation": "bicubic", "mean": MEAN, "std": STD}
    spec = Preprocess.from_timm(config | {"crop_mode": mode_of_crop, "crop_pct": crop_pct})
    for threads in (1, 2, 3, 5):
        assert np.array_equal(preprocess([data], spec, threads=threads)[0], want), f"{threads} threads"
    # Three images on five threads: two have two of them.
    assert all(np.array_equal(one, want) for one in preprocess([data] * 3, spec, threads=5))
    with pytest.raises(ImageError, match="truncated"):
        preprocess([data[: len(data) * 3 // 4]], spec, threads=4)


def test_threads_do_not_change_the_batch() -> None:
    rng = np.random.default_rng(4)
    batch = [random_jpeg(rng)[0] for _ in range(32)]
    spec = Preprocess.from_timm({"input_size": (3, 40, 40), "interpolation": "bicubic", "mean": MEAN, "std": STD})
    assert np.array_equal(preprocess(batch, spec, threads=4), preprocess(batch, spec, threads=1))
