"""A small GIF writer, for what Pillow's own never writes: interlaced, offset, oddly coded and broken frames."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable


def when_full(strings: int) -> bool:
    """Clears the table as soon as it holds all that it can."""
    return strings == 4096


def never(_strings: int) -> bool:
    """Goes on with the strings of a full table: deferred clear codes."""
    return False


def codes_of(
    indices: bytes, bits: int, *, clears: Callable[[int], bool] = when_full, clear_first: bool = True
) -> list[tuple[int, int]]:
    """LZW codes and their widths, an end code at the end.

    Args:
        indices: Pixels, each below `1 << bits`.
        bits: The code size that the frame states, 0 to 12.
        clears: From the number of strings that the decoder's table holds, whether a clear code comes next.
        clear_first: Begin with a clear code, as the specification asks.
    """
    clear = 1 << bits
    width, strings = bits + 1, clear + 2  # as the decoder has them
    codes = [(clear, width)] if clear_first else []
    table: dict[bytes, int] = {}
    at, fresh = 0, True
    while at < len(indices):
        length = 1
        while at + length < len(indices) and indices[at : at + length + 1] in table:
            length += 1
        string = indices[at : at + length]
        codes.append((table[string] if length > 1 else string[0], width))
        if not fresh and strings < 4096:  # the decoder learns a string with every code but the first
            width += int(strings + 1 == 1 << width and width < 12)
            strings += 1
        fresh = False
        at += length
        if clears(strings):
            codes.append((clear, width))
            width, strings, table, fresh = bits + 1, clear + 2, {}, True
        elif strings < 4096 and bits > 1 and at < len(indices):  # below two bits, codes never grow to reach a string
            table.setdefault(indices[at - length : at + 1], strings)
    return [*codes, (clear + 1, max(width, 2))]  # with no bits at all, an end code cannot be told


def packed(codes: Iterable[tuple[int, int]]) -> bytes:
    """Codes and their widths to bytes, lowest bit first."""
    value = count = 0
    for code, width in codes:
        value |= code << count
        count += width
    return value.to_bytes(-(-count // 8), "little")


def blocks(data: bytes, size: int = 255) -> bytes:
    """Data in blocks of at most `size` bytes, and the empty one that ends them."""
    return b"".join(bytes([len(data[i : i + size])]) + data[i : i + size] for i in range(0, len(data), size)) + b"\0"


def lzw(indices: bytes, bits: int, *, block: int = 255, **options: Callable[[int], bool] | bool) -> bytes:
    """Pixels as the data of a frame: code size, blocks, end code."""
    return bytes([bits]) + blocks(packed(codes_of(indices, bits, **options)), block)  # type: ignore[arg-type]


def interlace(rows: list[bytes]) -> list[bytes]:
    """Rows in the order in which an interlaced frame stores them."""
    return rows[::8] + rows[4::8] + rows[2::4] + rows[1::2]


def palette_flags(palette: bytes) -> int:
    """The bits of a screen's or frame's flags that announce a palette of 2, 4, ... or 256 colours."""
    return 0x80 | (len(palette) // 3).bit_length() - 2 if palette else 0


def frame(
    size: tuple[int, int], data: bytes, *, at: tuple[int, int] = (0, 0), palette: bytes = b"", interlaced: bool = False
) -> bytes:
    """An image block around the data that `lzw` makes."""
    flags = palette_flags(palette) | 0x40 * interlaced
    return b"," + struct.pack("<4HB", *at, *size, flags) + palette + data


def control(transparent: int | None, disposal: int = 0) -> bytes:
    """A graphic control extension."""
    return b"!\xf9\x04" + struct.pack("<BHBB", disposal << 2 | (transparent is not None), 5, transparent or 0, 0)


def gif(
    screen: tuple[int, int], *blocks: bytes, palette: bytes = b"", background: int = 0, version: bytes = b"89a"
) -> bytes:
    """A whole file, up to and with the trailer."""
    header = struct.pack("<2H3B", *screen, palette_flags(palette), background, 0)
    return b"GIF" + version + header + palette + b"".join(blocks) + b";"
