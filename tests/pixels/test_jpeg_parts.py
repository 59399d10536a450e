"""JPEGs that are made to be read in another way by what walks their codes than by libjpeg."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from vitrify.pixels import preprocess
from vitrify.spec import Preprocess

FAR_DOWN = 64
"""Rows of the crop, in the middle of a tall image, so that the codes above it are walked."""


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body


def middle(width: int, height: int) -> Preprocess:
    return Preprocess(
        resize_rule="squash",
        resize_width=width,
        resize_height=height,
        crop_width=width,
        crop_height=FAR_DOWN,
        interpolation="nearest",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def pillow(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def ours(data: bytes, threads: int) -> npt.NDArray[np.uint8]:
    height, width, _ = pillow(data).shape
    tensor = preprocess([data], middle(width, height), threads=threads)[0]
    pixels: npt.NDArray[np.uint8] = np.rint(tensor.transpose(1, 2, 0) * 255).astype(np.uint8)
    return pixels


def with_padded_marker(narrow: int) -> bytes:
    """Its header says another width to a reader that takes 0xFF 0xFF for a segment; to libjpeg that is padding."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 700), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "jpeg", quality=95)
    plain, at = buffer.getvalue(), 2
    segments: dict[int, list[bytes]] = {}
    while 0xDA not in segments:
        length = 2 + struct.unpack(">H", plain[at + 2 : at + 4])[0]
        segments.setdefault(plain[at + 1], []).append(plain[at : at + length])
        at += length
    (frame,), (start,) = segments[0xC0], segments[0xDA]
    tables = b"".join(segments[0xDB] + segments[0xC4])
    other = frame[:7] + struct.pack(">H", narrow) + frame[9:]
    hidden = b"\xff\xff\xe1\x00\x10" + bytes(14) + tables
    size = 2 + 0xE100  # what 0xFF 0xFF, read as a marker, has for its length
    rest = size - len(hidden) - 4
    hidden += b"\xff\xfe" + struct.pack(">H", 2 + rest + 4) + bytes(rest)  # and the next marker with its length
    body = frame + b"\xff\xfe" + struct.pack(">H", 2 + 4 + len(other))
    assert len(hidden) == size
    return b"\xff\xd8" + hidden + segment(0xE1, body) + b"\xff\xe0\x00\x02" + other + start + plain[at:]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("narrow", [16, 699, 65500])
def test_padding_before_a_marker_is_no_segment(narrow: int, threads: int) -> None:
    data = with_padded_marker(narrow)
    whole = pillow(data)
    assert whole.shape == (700, 700, 3)
    begin = (700 - FAR_DOWN) // 2
    np.testing.assert_array_equal(ours(data, threads), whole[begin : begin + FAR_DOWN])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_that_are_missing_at_the_end_are_not_made_up(threads: int) -> None:
    """With codes of one bit, the padding behind the scan would be blocks of its own."""
    width, height = 8, 800
    bits = "10" + "111" + "0" + "00" * 57
    scan = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\0")
    one_bit = bytes([1, 1] + [0] * 14)
    data = b"\xff\xd8" + 3 * segment(0xFE, bytes(60_000))
    data += segment(0xDB, bytes([0, 100] + [1] * 63))
    data += segment(0xC0, b"\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\0")
    data += segment(0xC4, b"\0" + one_bit + b"\0\3") + segment(0xC4, b"\x10" + one_bit + b"\0\1")
    data += segment(0xDA, b"\x01\x01\0\0\x3f\0") + scan + b"\xff\xd9"
    whole = pillow(data)
    tensor = preprocess([data], Preprocess(
        resize_rule="squash", resize_width=width, resize_height=height, crop_width=width, crop_height=160,
        interpolation="nearest", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    ), threads=threads)[0]  # fmt: skip
    np.testing.assert_array_equal(np.rint(tensor.transpose(1, 2, 0) * 255), whole[320:480])
