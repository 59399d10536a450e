"""JPEG, PNG, BMP and WebP of random kinds against Pillow, and through timm's transform; orientation by every route."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform

from tests.golden.awkward import ADAM7, ARITHMETIC_JPEG, chunk, xmp
from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels import decode, preprocess
from vitrify.spec import Preprocess

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
    (4, 8),
    (4, 16),
    (6, 8),
    (6, 16),
]
SIZES = [(1, 1), (1, 9), (9, 1), (3, 2), (17, 23), (33, 5)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pillow_rgb(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about palettes with transparency, and EXIF that is odd on purpose
        return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def assert_pillows(data: bytes, what: object) -> None:
    assert np.array_equal(decode(data), np.asarray(pillow_rgb(data))), what


def noise(rng: np.random.Generator, count: int) -> bytes:
    return rng.integers(0, 256, count, dtype=np.uint8).tobytes()


def random_png(
    rng: np.random.Generator, color: int, bits: int, size: tuple[int, int], *, interlaced: bool, extra: bytes = b""
) -> bytes:
    """Random bytes behind random filters are some image; palettes are often too short."""
    raw = b""
    for left, top, right, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        width, height = -(-max(size[0] - left, 0) // right), -(-max(size[1] - top, 0) // down)
        for _ in range(height if width else 0):
            raw += bytes([int(rng.integers(5))]) + noise(rng, -(-width * CHANNELS[color] * bits // 8))
    data = b"\x89PNG\r\n\x1a\n"
    data += chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, color, 0, 0, int(interlaced)))
    if color == 3:
        data += chunk(b"PLTE", noise(rng, 3 * int(rng.integers(1, (1 << bits) + 1))))
    if color in (0, 2, 3) and rng.integers(2):
        data += chunk(b"tRNS", noise(rng, {0: 2, 2: 6, 3: 1}[color]))
    packed = zlib.compress(raw)
    cut = int(rng.integers(len(packed)))
    return data + extra + chunk(b"IDAT", packed[:cut]) + chunk(b"IDAT", packed[cut:]) + chunk(b"IEND", b"")


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits"), KINDS)
def test_png_of_every_kind(color: int, bits: int, interlaced: bool) -> None:
    rng = np.random.default_rng([color, bits])
    for size in SIZES * 3:
        assert_pillows(random_png(rng, color, bits, size, interlaced=interlaced), size)


def random_exif(rng: np.random.Generator) -> bytes:
    """A TIFF directory with an orientation of any type and count, sometimes twice, sometimes cut off."""
    order = str(rng.choice(["<", ">"]))
    value = int(rng.integers(0, 10))
    entries = []
    for _ in range(int(rng.integers(1, 3))):
        kind = int(rng.choice([3, 3, 3, 3, 1, 2, 4, 6, 7, 8, 9, 13, 14, 0]))
        count = int(rng.choice([1, 1, 1, 0, 2, 3, 5]))
        wide = {4: "I", 9: "I", 13: "I", 3: "H2x", 8: "H2x"}.get(kind, "B3x")
        entries.append(struct.pack(order + "HHI" + wide, 0x0112, kind, count, value))
        if kind in (3, 8) and count == 3:
            entries[-1] = entries[-1][:8] + struct.pack(order + "I", int(rng.choice([8, 20, 500])))
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries)) + b"".join(entries)
    data += bytes(4) + struct.pack(order + "4H", *[value] * 4)
    return data[: int(rng.integers(8, len(data)))] if rng.integers(5) == 0 else data


def test_orientation_follows_pillows_rules() -> None:
    rng = np.random.default_rng(0)
    for _ in range(1500):
        exif = random_exif(rng)
        text = b"\nexif\n %d\n" % len(exif) + (b"Exif\0\0" + exif).hex().encode() + b"\n"
        packet = xmp(int(rng.integers(0, 10)))
        routes = [
            b"",
            chunk(b"eXIf", exif),
            chunk(b"eXIf", b"Exif\0\0" + exif),
            chunk(b"tEXt", b"Raw profile type exif\0" + text),
            chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)),
        ]
        extra = routes[rng.integers(len(routes))]
        if rng.integers(2):
            body = (b"\1\0\0\0" + zlib.compress(packet)) if rng.integers(2) else b"\0\0\0\0" + packet
            extra += chunk(b"iTXt", b"XML:com.adobe.xmp\0" + body)
        plain = random_png(rng, 2, 8, (5, 3), interlaced=False)
        behind = bool(rng.integers(2))
        place = len(plain) - 12 if behind else 33
        assert_pillows(plain[:place] + extra + plain[place:], (exif, extra, behind))


@pytest.mark.parametrize("kind", ["baseline", "progressive", "arithmetic"])
def test_damaged_jpegs_are_refused_where_pillow_refuses_them(kind: str) -> None:
    rng = np.random.default_rng(5)
    buffer = io.BytesIO()
    photo(rng, "RGB").resize((29, 21)).save(buffer, "jpeg", progressive=kind == "progressive")
    whole = ARITHMETIC_JPEG if kind == "arithmetic" else buffer.getvalue()
    outcomes = [0, 0]
    for _ in range(1500):
        data = bytearray(whole)
        place = int(rng.integers(whole.index(b"\xff\xda"), len(data)))
        data[place] = int(rng.choice([0xFF, int(rng.integers(256))]))
        try:
            pillow_rgb(bytes(data))
            outcomes[1] += 1
            decode(bytes(data))
        except OSError:
            outcomes[0] += 1
            with pytest.raises(ImageError):
                decode(bytes(data))
    assert min(outcomes) > 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [False, True])
def test_webp(mode: str, lossless: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        width, height = (int(n) for n in rng.integers(1, 90, 2))
        coarse = Image.frombytes(mode, (4, 3), noise(rng, 12 * len(mode)))
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 10))
        options: dict[str, Any] = {"quality": int(rng.integers(101)), "method": 1, "lossless": lossless}
        options |= {"exif": exif} if rng.integers(2) else {}
        options |= {"xmp": xmp(int(rng.integers(0, 10)))} if rng.integers(2) else {}
        buffer = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "webp", **options)
        assert_pillows(buffer.getvalue(), (width, height, options))


def bmp(bits: int, size: tuple[int, int], body: bytes, *, compression: int = 0, palette: bytes = b"",
        masks: tuple[int, ...] = (), header: int = 40, top_down: bool = False) -> bytes:  # fmt: skip
    width, height = size
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression,
                           len(body), 0, 0, len(palette) // 4, 0)  # fmt: skip
        fields = struct.pack(f"<{len(masks)}I", *masks)
        info += fields[:12] if header == 40 else fields.ljust(header - 40, b"\0")[: header - 40]
    place = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", place + len(body), 0, 0, place) + info + palette + body


def random_rows(rng: np.random.Generator, bits: int, size: tuple[int, int]) -> bytes:
    return noise(rng, (size[0] * bits + 31) // 32 * 4 * size[1])


@pytest.mark.parametrize("top_down", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 9), (32, 3)])
def test_bmp_of_every_kind(size: tuple[int, int], top_down: bool) -> None:
    rng = np.random.default_rng(2)
    for bits, colors in ((1, 2), (4, 16), (4, 5), (8, 256), (8, 100)):
        palette = noise(rng, 4 * colors)
        assert_pillows(
            bmp(bits, size, random_rows(rng, bits, size), palette=palette, top_down=top_down), (bits, colors)
        )
    for bits in (16, 24, 32):
        assert_pillows(bmp(bits, size, random_rows(rng, bits, size), top_down=top_down), bits)
    assert_pillows(bmp(24, size, random_rows(rng, 24, size), header=12), "OS/2")
    assert_pillows(bmp(8, size, random_rows(rng, 8, size), header=12, palette=noise(rng, 768)), "OS/2 palette")
    for bits, masks in (
        (16, (0xF800, 0x7E0, 0x1F, 0)),
        (16, (0x7C00, 0x3E0, 0x1F, 0)),
        (32, (0xFF0000, 0xFF00, 0xFF, 0)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0)),
        (32, (0xFF000000, 0xFF00, 0xFF, 0)),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF)),
        (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
        (32, (0, 0, 0, 0)),
    ):
        for header in (40, 52, 56, 108, 124) if not masks[3] else (56, 108, 124):
            body = random_rows(rng, bits, size)
            data = bmp(bits, size, body, compression=3, masks=masks, header=header, top_down=top_down)
            assert_pillows(data, (bits, masks, header))


@pytest.mark.parametrize("nibbles", [False, True])
def test_run_length_encoded_bmp(nibbles: bool) -> None:
    rng = np.random.default_rng(3)
    colors = 16 if nibbles else 256
    refused = 0
    for _ in range(500):
        size = (int(rng.integers(1, 20)), int(rng.integers(1, 8)))
        place = 54 + 4 * colors
        body = b""
        for _ in range(int(rng.integers(1, 60))):
            kind = rng.integers(6)
            if kind < 3:
                body += bytes([int(rng.integers(1, size[0] + 3)), int(rng.integers(256))])
            elif kind == 3:
                body += b"\0\0"
            elif kind == 4 and rng.integers(3) == 0:
                body += b"\0\2" + bytes([int(rng.integers(4)), int(rng.integers(2))])
            else:
                count = int(rng.integers(3, 10))
                body += bytes([0, count]) + noise(rng, (count + 1) // 2 if nibbles else count)
                body += bytes((place + len(body)) % 2)
        data = bmp(4 if nibbles else 8, size, body + b"\0\1", compression=2 if nibbles else 1,
                   palette=noise(rng, 4 * colors))  # fmt: skip
        try:
            want = np.asarray(pillow_rgb(data))
        except ValueError:  # not enough data for the image
            refused += 1
            with pytest.raises(ImageError, match="damaged"):
                decode(data)
            continue
        assert np.array_equal(decode(data), want), (size, body)
    assert 0 < refused < 400


def photo(rng: np.random.Generator, mode: str) -> Image.Image:
    width, height = (int(n) for n in rng.integers(8, 160, 2))
    coarse: npt.NDArray[np.uint8] = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("kernel", _native.available_kernels())
@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("png", ("RGB", "RGBA", "L", "LA", "P", "1")),
        ("bmp", ("RGB", "L", "P")),
        ("webp", ("RGB", "RGBA")),
        ("gif", ("P", "L", "1")),
    ],
)
def test_files_become_timms_tensors(kind: str, modes: tuple[str, ...], kernel: str) -> None:
    rng = np.random.default_rng(4)
    options: dict[str, Any] = {"interpolation": "bicubic", "mean": MEAN, "std": STD, "crop_pct": 0.875}
    transform = create_transform(input_size=(32, 32), **options)
    spec = Preprocess.from_timm({"input_size": (3, 32, 32), **options})
    before = _native.kernels_in_use()
    assert _native.use_kernels(kernel)
    try:
        for number in range(60):
            buffer = io.BytesIO()
            photo(rng, modes[number % len(modes)]).save(buffer, kind)
            want = transform(pillow_rgb(buffer.getvalue())).numpy()
            assert np.array_equal(preprocess([buffer.getvalue()], spec)[0], want), number
    finally:
        assert _native.use_kernels(before)
