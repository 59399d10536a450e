"""The first frame of GIFs, written by Pillow and by hand, whole and broken, against Pillow."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.golden.gif import blocks, control, frame, gif, lzw, never, packed, when_full
from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels import DecodeLimits, decode

RAMP = bytes(i for i in range(256) for _ in range(3))


def pillows(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Pillow's pixels, or None where it reads nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        except (OSError, ValueError, SyntaxError, EOFError, LookupError):
            return None


def assert_pillows(data: bytes, what: object = None) -> bool:
    """Whether Pillow reads it; its pixels are ours then, and an error is an error."""
    want = pillows(data)
    if want is None:
        with pytest.raises(ImageError):
            decode(data)
        return False
    assert np.array_equal(decode(data), want), what
    return True


def noise(rng: np.random.Generator, count: int, below: int = 256) -> bytes:
    return rng.integers(0, below, count, dtype=np.uint8).tobytes()


def stripes(rng: np.random.Generator, count: int, below: int) -> bytes:
    """Runs of a colour, which make long strings."""
    runs = [bytes([int(rng.integers(below))]) * int(rng.integers(1, 60)) for _ in range(count // 20 + 1)]
    return b"".join(runs)[:count].ljust(count, b"\0")


def pair(rng: np.random.Generator, lowest: int, below: int) -> tuple[int, int]:
    return int(rng.integers(lowest, below)), int(rng.integers(lowest, below))


def random_palette(rng: np.random.Generator) -> bytes:
    colors = 2 << int(rng.integers(8))
    kind = rng.integers(6)
    return b"" if kind == 0 else RAMP[: 3 * colors] if kind == 1 else noise(rng, 3 * colors)


def random_gif(rng: np.random.Generator) -> bytes:
    bits = int(rng.integers(1, 9)) if rng.integers(5) else int(rng.integers(13))
    size = pair(rng, 1, 40)
    place = pair(rng, 0, 12) if rng.integers(2) else (0, 0)
    screen = pair(rng, 0, 50) if rng.integers(2) else size
    count = size[0] * size[1]
    indices = stripes(rng, count, min(256, 1 << bits)) if rng.integers(2) else noise(rng, count, min(256, 1 << bits))
    chance = float(rng.choice([0, 0, 0.01, 0.2]))
    full = bool(rng.integers(2))
    data = lzw(
        indices,
        bits,
        block=int(rng.choice([255, 254, 7, 1])),
        clears=lambda strings: bool(rng.random() < chance or (full and strings == 4096)),
        clear_first=bool(rng.integers(4)),
    )
    extensions = [
        control(int(rng.integers(256)), int(rng.integers(5))),
        control(None, int(rng.integers(8))),
        b"!\xfe" + blocks(noise(rng, int(rng.integers(300)))),
        b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0",
        b"!\xff\x0bXMP DataXMP" + blocks(b'<r tiff:Orientation="6"/>'),
        b"!\x01" + blocks(noise(rng, 20)),
        noise(rng, 3, 30),
    ]
    chosen = [extensions[rng.integers(len(extensions))] for _ in range(int(rng.integers(4)))]
    image = frame(size, data, at=place, palette=random_palette(rng), interlaced=bool(rng.integers(2)))
    behind = [frame((1, 1), lzw(b"\0", 2)) for _ in range(int(rng.integers(2)))]
    return gif(screen, *chosen, image, *behind, palette=random_palette(rng), background=int(rng.integers(256)))


def claimed_size(data: bytes) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data)).size
        except OSError:
            return 0, 0
        except Image.DecompressionBombError:
            return 1 << 16, 1 << 16


def test_random_files_by_hand() -> None:
    rng = np.random.default_rng(0)
    read = sum(assert_pillows(random_gif(rng), number) for number in range(3000))
    assert read > 2500


def test_damaged_files_by_hand() -> None:
    """Truncated, with bytes changed, cut out and put in: the same pixels as Pillow's, or neither has any."""
    rng = np.random.default_rng(1)
    outcomes = [0, 0]
    for number in range(6000):
        data = bytearray(random_gif(rng))
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(6, len(data)))
            kind = rng.integers(5)
            if kind == 0:
                del data[place:]
            elif kind == 1:
                del data[place : place + int(rng.integers(1, 4))]
            elif kind == 2:
                data[place:place] = noise(rng, int(rng.integers(1, 4)))
            else:
                data[place] = int(rng.integers(256))
            if len(data) <= 6:
                break
        extents = claimed_size(bytes(data))
        if extents[0] * extents[1] < 1 << 21:  # larger ones are what the limits are for
            outcomes[assert_pillows(bytes(data), (number, bytes(data)))] += 1
    assert min(outcomes) > 1000


@settings(max_examples=300, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA"]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    seed=st.integers(0, 2**32),
    colors=st.integers(1, 256),
    frames=st.integers(1, 3),
    options=st.fixed_dictionaries(
        {"interlace": st.booleans(), "optimize": st.booleans(), "disposal": st.integers(0, 3)},
        optional={"transparency": st.integers(0, 255)},
    ),
)
def test_files_that_pillow_writes(
    *, mode: str, size: tuple[int, int], seed: int, colors: int, frames: int, options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(frames):
        coarse = Image.frombytes("RGBA", (4, 3), noise(rng, 48)).resize(size, Image.Resampling.BICUBIC)
        image = coarse.convert("RGB").quantize(colors) if mode == "P" else coarse.convert(mode)
        images.append(image)
    buffer = io.BytesIO()
    images[0].save(buffer, "gif", save_all=frames > 1, append_images=images[1:], **options)
    assert assert_pillows(buffer.getvalue())


@pytest.mark.parametrize("bits", range(13))
def test_every_code_size_and_every_truncation(bits: int) -> None:
    rng = np.random.default_rng(bits)
    data = gif((9, 7), frame((9, 7), lzw(noise(rng, 63, min(256, 1 << bits)), bits)), palette=noise(rng, 768))
    assert assert_pillows(data)
    for length in range(6, len(data)):
        assert_pillows(data[:length], length)


@pytest.mark.parametrize("clears", [when_full, never])
@pytest.mark.parametrize("below", [2, 256])
def test_full_tables(clears: Callable[[int], bool], below: int) -> None:
    """More strings than a table holds: the writer clears it, or goes on with those it has."""
    rng = np.random.default_rng(below)
    indices = noise(rng, 120 * 200, below)
    assert assert_pillows(gif((120, 200), frame((120, 200), lzw(indices, 8, clears=clears)), palette=noise(rng, 768)))


def test_one_colour_in_the_longest_strings() -> None:
    """What LZW makes of one byte at the most, 8,182 of RGB, stays below what the limits allow."""
    codes = [0, *range(6, 4096), *[4095] * 2000]  # 1, 2, 3, ... and 4,091 pixels, from a table that is never cleared
    size = (4091, 2046 + 2000)
    data = gif(size, frame(size, b"\2" + blocks(packed((code, max(3, code.bit_length())) for code in codes))))
    assert 5_000 < 3 * size[0] * size[1] / len(data) < 8_182
    assert assert_pillows(data)


def test_an_end_code_before_the_last_pixel() -> None:
    """Pillow goes on behind it where the file has 64 KiB more, with whatever codes there are."""
    codes = [code for value in range(40) for code in ((4, 3), (value % 4, 3))]
    stream = blocks(packed([*codes[:20], (5, 3), *codes[20:]]))
    for padding in (0, 65_000, 65_400, 65_540, 140_000):
        data = gif((5, 8), frame((5, 8), b"\2" + stream), palette=RAMP[3:51]) + bytes(padding)
        assert assert_pillows(data, padding) == (padding > 65_500)


def test_headers_buy_no_memory() -> None:
    pixel = frame((1, 1), lzw(b"\0", 2))
    for data in (gif((65_535, 2_000), pixel), gif((1, 1), frame((65_535, 2_000), lzw(b"\0", 2)))):
        with pytest.raises(ImageError, match="too small for its pixels"):
            decode(data)
        with pytest.raises(ImageError, match="too many pixels"):
            decode(data, limits=DecodeLimits(max_pixels=10_000_000))
    assert decode(gif((5_000, 6_000), pixel)).shape == (6_000, 5_000, 3)


def test_gif_is_read_natively() -> None:
    assert _native.decodable_format(gif((1, 1))) == "GIF"
