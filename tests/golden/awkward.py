"""One small image of every awkward kind, made of integer arithmetic and the same bytes on every machine."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.golden.gif import control, frame, gif, interlace, lzw

Pixels = npt.NDArray[np.uint8]

# rgb(16, 11) of quality 50 through `jpegtran -arithmetic`: Pillow reads arithmetic coding, and cannot write it.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19i"
    "Z2hnPk1xeXBkeFxlZ2P/2wBDARESEhgVGC8aGi9jQjhCY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2Nj"
    "Y2NjY2NjY2P/yQARCAALABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD91vZz5J53AaVSD+gu4pauzgYucpUG"
    "Xj+JV8brGUwOFphmjuvnlwTs7bQ4rTRWE9TM2MdXgAXw3P/Z"
)

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def picture(width: int, height: int, channels: int = 3, maximum: int = 255) -> npt.NDArray[np.int64]:
    """A slope with a bright square and a chequered corner, `[height, width, channels]`."""
    y, x, c = np.ogrid[:height, :width, :channels]
    slope = (x * 5 + y * 3 + c * 70) * maximum // 255
    square = (abs(x - width // 2) < width // 5) & (abs(y - height // 2) < height // 5)
    chequers = ((x // 2 + y // 2) % 2 == 0) & (x < width // 3) & (y < height // 3)
    return np.where(square, maximum - slope % (maximum // 3 + 1), np.where(chequers, maximum * (c % 2), slope)) % (
        maximum + 1
    )


def rgb(width: int = 29, height: int = 21) -> Image.Image:
    return Image.fromarray(picture(width, height).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    value = Image.Exif()
    value[0x0112] = orientation
    return value.tobytes()


def xmp(orientation: int) -> bytes:
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def jpegs() -> dict[str, bytes]:
    files = {
        "444.jpg": encoded(rgb(), "jpeg", subsampling=0),
        "422.jpg": encoded(rgb(), "jpeg", subsampling=1),
        "420.jpg": encoded(rgb(), "jpeg", subsampling=2),
        "440.jpg": resampled(encoded(rgb(32, 24), "jpeg", subsampling=1), 0x12, (24, 32)),
        "411.jpg": resampled(encoded(rgb(32, 32), "jpeg", subsampling=2), 0x41, (64, 16)),
        "progressive.jpg": encoded(rgb(), "jpeg", progressive=True),
        "restart.jpg": encoded(rgb(), "jpeg", restart_marker_blocks=1),
        "quality1.jpg": encoded(rgb(), "jpeg", quality=1),
        "grey.jpg": encoded(rgb().convert("L"), "jpeg"),
        "cmyk.jpg": encoded(cmyk(), "jpeg"),
        "ycck.jpg": encoded(cmyk(), "jpeg").replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"),
        "arithmetic.jpg": ARITHMETIC_JPEG,
        "rgb.jpg": encoded(rgb(), "jpeg", keep_rgb=True),
        "wide.jpg": encoded(rgb(60, 7), "jpeg"),
        "tall.jpg": encoded(rgb(7, 50), "jpeg"),
        "1x9.jpg": encoded(rgb(1, 9), "jpeg"),
        "9x1.jpg": encoded(rgb(9, 1), "jpeg"),
        "1x1.jpg": encoded(rgb(1, 1), "jpeg"),
        "xmp6.jpg": encoded(rgb(), "jpeg", xmp=xmp(6)),
        "exif1xmp6.jpg": encoded(rgb(), "jpeg", exif=exif(1), xmp=xmp(6)),
    }
    files |= {f"exif{n}.jpg": encoded(rgb(), "jpeg", exif=exif(n)) for n in range(9)}
    assert files["ycck.jpg"] != files["cmyk.jpg"]
    return files


def cmyk() -> Image.Image:
    return Image.frombytes("CMYK", (29, 21), picture(29, 21, 4).astype(np.uint8).tobytes())


def resampled(jpeg: bytes, factors: int, size: tuple[int, int]) -> bytes:
    """Claims other sampling factors, of as many blocks a unit, and a size of as many units: decodes to a puzzle."""
    data = bytearray(jpeg)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", size[1], size[0])
    data[frame + 11] = factors
    return bytes(data)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    color: int, bits: int, *, size: tuple[int, int] = (19, 13), interlaced: bool = False, before: bytes = b"",
    behind: bytes = b"",
) -> bytes:  # fmt: skip
    """Every row with another filter; deflate's stored blocks are the same bytes wherever they are made."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    values = picture(*size, channels, (1 << bits) - 1)
    step = max(1, channels * bits // 8)
    raw = b""
    for left, top, right, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        lines = values[top::down, left::right]
        previous = np.zeros(0, np.int64)
        for number, line in enumerate(lines if lines.size else []):
            packed = packed_row(line.reshape(-1), bits)
            raw += filtered(packed, previous if previous.size else np.zeros_like(packed), step, number % 5)
            previous = packed
    palette = chunk(b"PLTE", picture(1 << bits, 1).astype(np.uint8).tobytes()) if color == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, color, 0, 0, int(interlaced)))
    pixels = chunk(b"IDAT", zlib.compress(raw, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + before + pixels + behind + chunk(b"IEND", b"")


def packed_row(values: npt.NDArray[np.int64], bits: int) -> npt.NDArray[np.int64]:
    if bits == 16:
        return np.stack([values >> 8, values & 255], -1).reshape(-1)
    per_byte = 8 // bits
    padded = np.pad(values, (0, -len(values) % per_byte)).reshape(-1, per_byte)
    return np.asarray((padded << np.arange(8 - bits, -1, -bits)).sum(1))


def filtered(row: npt.NDArray[np.int64], above: npt.NDArray[np.int64], step: int, kind: int) -> bytes:
    left = np.concatenate([np.zeros(step, np.int64), row])[: len(row)]
    corner = np.concatenate([np.zeros(step, np.int64), above])[: len(row)]
    guess = left + above - corner
    near = [abs(guess - left), abs(guess - above), abs(guess - corner)]
    paeth = np.where((near[0] <= near[1]) & (near[0] <= near[2]), left, np.where(near[1] <= near[2], above, corner))
    predicted = (np.zeros_like(row), left, above, (left + above) // 2, paeth)[kind]
    return bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()


def pngs() -> dict[str, bytes]:
    kinds = {
        "grey": (0, (1, 2, 4, 8, 16)),
        "rgb": (2, (8, 16)),
        "palette": (3, (1, 2, 4, 8)),
        "greyalpha": (4, (8, 16)),
        "rgba": (6, (8, 16)),
    }
    files = {f"{name}{bits}.png": png(color, bits) for name, (color, depths) in kinds.items() for bits in depths}
    files |= {
        "interlaced.png": png(2, 8, interlaced=True),
        "interlaced1.png": png(0, 1, interlaced=True),
        "interlacedpalette4.png": png(3, 4, interlaced=True, size=(3, 2)),
        "transparentpalette.png": png(3, 8, before=chunk(b"tRNS", bytes(range(0, 250, 5)))),
        "transparentrgb.png": png(2, 8, before=chunk(b"tRNS", struct.pack(">3H", 0, 70, 140))),
        "exif6.png": png(2, 8, before=chunk(b"eXIf", exif(6)[6:])),
        "exif8behind.png": png(2, 8, behind=chunk(b"eXIf", exif(8)[6:])),
        "rawprofile5.png": png(
            2, 8, before=chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      34\n" + exif(5).hex().encode() + b"\n")
        ),
        "xmp3.png": png(2, 8, before=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(3))),
        "1x9.png": png(2, 8, size=(1, 9)),
        "9x1.png": png(6, 8, size=(9, 1)),
    }
    return files


def bmp(bits: int, compression: int, extra: bytes, body: bytes, *, top_down: bool = False) -> bytes:
    header = struct.pack(
        "<IiiHHIIiiII", 40, 11, -7 if top_down else 7, 1, bits, compression, len(body), 0, 0, 0, 0
    )  # fmt: skip
    return b"BM" + struct.pack("<IHHI", 54 + len(extra) + len(body), 0, 0, 54 + len(extra)) + header + extra + body


def bmps() -> dict[str, bytes]:
    words = (picture(12, 7, 1, 65535) & 0xFFFF).astype("<u2").tobytes()
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    palette = b"".join(bytes((7 * i % 256, 255 - i, i, 0)) for i in range(256))
    runs = b"".join(bytes((5, 9 * row, 0, 6)) + bytes(range(row, row + 6)) + b"\0\0" for row in range(7)) + b"\0\1"
    return {
        "rgb.bmp": encoded(rgb(), "bmp"),
        "grey.bmp": encoded(rgb().convert("L"), "bmp"),
        "1bit.bmp": bmp(1, 0, palette[:8], picture(32, 7, 1, 255)[:, ::8].astype(np.uint8).tobytes()),
        "4bit.bmp": bmp(4, 0, palette[:64], picture(8, 7, 1, 255).astype(np.uint8).tobytes()),
        "topdown.bmp": bmp(8, 0, palette, picture(12, 7, 1, 255).astype(np.uint8).tobytes(), top_down=True),
        "555.bmp": bmp(16, 0, b"", words),
        "565.bmp": bmp(16, 3, masks, words),
        "32bit.bmp": bmp(32, 0, b"", picture(11, 7, 4).astype(np.uint8).tobytes()),
        "rle8.bmp": bmp(8, 1, palette, runs),
    }


def webps() -> dict[str, bytes]:
    rgba = Image.fromarray(picture(23, 17, 4).astype(np.uint8))
    return {
        "lossy.webp": encoded(rgb(), "webp", quality=70, method=0),
        "lossless.webp": encoded(rgb(), "webp", lossless=True, method=0),
        "alpha.webp": encoded(rgba, "webp", quality=70, method=0),
        "losslessalpha.webp": encoded(rgba, "webp", lossless=True, exact=True, method=0),
        "exif6.webp": encoded(rgb(), "webp", lossless=True, method=0, exif=exif(6)),
        "animated.webp": encoded(
            rgb(), "webp", lossless=True, method=0, save_all=True, append_images=[rgb().rotate(180)]
        ),
    }


def gifs() -> dict[str, bytes]:
    values = picture(29, 21, 1).astype(np.uint8)
    rows = [bytes(row) for row in values.reshape(21, 29)]
    colors = picture(256, 1).astype(np.uint8).tobytes()
    few = bytes(value // 16 for value in b"".join(rows))
    size = (29, 21)
    whole = frame(size, lzw(b"".join(rows), 8))
    part = frame(size, lzw(few, 4), at=(5, 2), palette=colors[:48])
    ramp = bytes(i for i in range(256) for _ in range(3))
    return {
        "global.gif": gif(size, whole, palette=colors),
        "local.gif": gif(size, part, palette=ramp, version=b"87a"),
        "nopalette.gif": gif(size, whole),
        "identity.gif": gif(size, frame(size, lzw(b"".join(rows), 8), palette=ramp)),
        "shortpalette.gif": gif(size, whole, palette=colors[300:492]),
        "interlaced.gif": gif(size, frame(size, lzw(b"".join(interlace(rows)), 8), interlaced=True), palette=colors),
        "offset.gif": gif((40, 30), control(7), part, palette=colors[: 3 * 128], background=3),
        "larger.gif": gif((3, 9), b"!\xfe\x05hello\0", part, whole, palette=colors),
        "1bit.gif": gif((7, 3), frame((7, 3), lzw(bytes(i % 3 % 2 for i in range(21)), 2)), palette=colors[:6]),
        "pillow.gif": encoded(rgb().quantize(32), "gif"),
        "animated.gif": encoded(rgb(), "gif", save_all=True, append_images=[rgb().rotate(180)], disposal=2),
    }


def awkward_images() -> dict[str, bytes]:
    """Names and encoded bytes."""
    return jpegs() | pngs() | bmps() | webps() | gifs()
