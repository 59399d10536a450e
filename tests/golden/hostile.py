"""Files that must be refused, each for a reason of its own."""

from __future__ import annotations

import struct
import zlib

from tests.golden.awkward import bmp, chunk, encoded, png, rgb
from tests.golden.gif import blocks, control, frame, gif, lzw


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    data = bytearray(jpeg)
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def hostile_files() -> dict[str, bytes]:
    """Names and bytes."""
    jpeg = encoded(rgb(), "jpeg")
    progressive = encoded(rgb(), "jpeg", progressive=True)
    last_scan = progressive.rindex(b"\xff\xda")
    plain, webp = png(2, 8), encoded(rgb(), "webp", lossless=True, method=0)
    signature, header = plain[:8], plain[8:33]
    lie = chunk(b"IHDR", struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0))
    nothing = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 7, 8, 2, 0, 0, 0))
    end = chunk(b"IEND", b"")
    still = gif((29, 21), frame((29, 21), lzw(bytes(range(203)) * 3, 8)), palette=bytes(range(256)) * 3)
    bitmap = bmp(24, 0, b"", bytes(36 * 7))
    return {
        "empty.jpg": b"",
        "signature.jpg": b"\xff\xd8\xff",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "noend.jpg": jpeg[:-2],
        "tables.jpg": jpeg[: jpeg.index(b"\xff\xc0")] + b"\xff\xd9",
        "zero.jpg": with_size(jpeg, 0, 21),
        "noheight.jpg": with_size(jpeg, 29, 0),
        "largest.jpg": with_size(jpeg, 65535, 65535),
        "lie.jpg": with_size(jpeg, 12000, 12000),
        "scans.jpg": progressive[:last_scan] + progressive[last_scan:-2] * 120 + progressive[-2:],
        "12bit.jpg": jpeg.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"),
        "lossless.jpg": jpeg.replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"),
        "truncated.png": plain[: len(plain) // 2],
        "checksum.png": plain[:29] + bytes([plain[29] ^ 1]) + plain[30:],
        "nopixels.png": signature + header + end,
        "zero.png": signature + nothing + plain[33:],
        "lie.png": signature + lie + plain[33:],
        "short.png": signature + header + chunk(b"IDAT", zlib.compress(b"\0" * 20, 0)) + end,
        "nopalette.png": signature + chunk(b"IHDR", struct.pack(">IIBBBBB", 19, 13, 8, 3, 0, 0, 0)) + plain[33:],
        "truncated.bmp": bitmap[:-40],
        "header.bmp": bitmap[:30],
        "zero.bmp": bitmap[:18] + struct.pack("<ii", 0, 7) + bitmap[26:],
        "negative.bmp": bitmap[:18] + struct.pack("<ii", -5, 7) + bitmap[26:],
        "lie.bmp": bitmap[:18] + struct.pack("<ii", 30000, 5000) + bitmap[26:],
        "bits.bmp": bitmap[:28] + b"\x03\x00" + bitmap[30:],
        "offset.bmp": bitmap[:10] + b"\xff\xff\xff\xff" + bitmap[14:],
        "runs.bmp": bmp(8, 1, bytes(1024), b"\x05\x01\x00\x01"),
        "truncated.webp": webp[: len(webp) // 2],
        "header.webp": webp[:20],
        "truncated.gif": still[: len(still) // 2],
        "header.gif": still[:11],
        "palette.gif": still[:200],
        "nothing.gif": gif((29, 21), control(1)),
        "zero.gif": gif((29, 21), frame((0, 21), lzw(bytes(8), 8))),
        "noscreen.gif": gif((0, 0), frame((0, 0), lzw(bytes(8), 8))),
        "lie.gif": gif((12000, 12000), frame((29, 21), lzw(bytes(609), 8))),
        "frame.gif": gif((29, 21), frame((12000, 12000), lzw(bytes(609), 8))),
        "short.gif": gif((29, 21), frame((29, 21), lzw(bytes(600), 8))),
        "code.gif": gif((29, 21), frame((29, 21), b"\x08" + blocks(b"\x05\xff\xff\xff"))),
        "codesize.gif": gif((29, 21), frame((29, 21), b"\x0d" + blocks(bytes(900)))),
        "control.gif": gif((29, 21), b"!\xf9\x01\x01\0", frame((29, 21), lzw(bytes(609), 8))),
        "text.jpg": b"not an image at all",
        "tiff.jpg": b"II*\0",
    }
