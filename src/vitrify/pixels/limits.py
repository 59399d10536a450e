"""What an encoded image may ask for, checked before memory is taken for its pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from vitrify import _native
from vitrify.errors import ImageError, OptionError

PILLOW_BYTES = 22
"""For each pixel while Pillow decodes: measured with AVIF in 4:4:4; a TIFF of one deflated strip takes 18."""

_ANIMATED, _ANIMATION_BYTES = 0x02, 14  # two canvases of RGBA, a frame, the pixels
_COEFFICIENT_BYTES = 9  # all coefficients in 16 bits, the pixels
_MARK, _SCAN = 0xFF, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE, _ARITHMETIC = (0xC2, 0xCA), (0xC9, 0xCA)
_ARITHMETIC_TIMES = 8
_ALONE = (0x00, 0x01, *range(0xD0, 0xD9))


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits for images from sources that are not trusted; the defaults let every ordinary image through.

    The native core checks the first three, in C++ too; this package the others. Whatever they say, no side may be
    longer than a million pixels, and no progressive JPEG may have over 100 scans.
    """

    max_bytes: int = 256 * 2**20
    """Of the encoded file."""

    max_pixels: int = 178_956_970
    """Pillow's own threshold, `PIL.Image.MAX_IMAGE_PIXELS`."""

    max_ratio: int = 25_000
    """Decoded bytes for each encoded one; files below 4 KiB count as 4 KiB.

    Deflate reaches 1,032:1 and a 1-bit grey PNG decodes to 24 times its bits, so that no honest PNG, JPEG, GIF or BMP
    comes here. Lossless WebP of a single colour can, above 34 megapixels, and so can a GIF that leaves most of its
    screen empty.
    """

    max_memory: int = 2**30
    """Bytes that decoding takes at its most, where that is far more than the pixels: estimated from the header.

    An animated WebP's canvas takes 14 bytes a pixel, a JPEG in several scans 9, what Pillow decodes 22.
    """

    max_scan_pixels: int = 2**31
    """Pixels times scans of a JPEG in several, which is its time; an arithmetic-coded one counts eight times.

    Each scan passes over the whole image, be it a few bytes long.
    """

    def __post_init__(self) -> None:
        """Refuses limits that nothing passes."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 1 <= value < 2**63:
                raise OptionError(f"{field.name} is out of range", got=value, expected="a positive 64-bit integer")

    def check_bytes(self, encoded: int) -> None:
        """The first check, of the file as it comes.

        Raises:
            ImageError: It is empty, or has more than `max_bytes`.
        """
        with native_errors():
            _native.check_bytes(encoded, native_limits(self))

    def check_header(self, data: bytes) -> None:
        """What the native core does not look at: the memory and the time that the kind of file costs.

        Args:
            data: The encoded image.

        Raises:
            ImageError: More than `max_memory` or `max_scan_pixels`.
        """
        if data[:2] == b"\xff\xd8":
            self._check_jpeg(data)
        elif data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) >= 30 and data[20] & _ANIMATED:
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            self.check_memory("the animated WebP", width, height, _ANIMATION_BYTES)

    def _check_jpeg(self, data: bytes) -> None:
        frame = _jpeg_frame(data)
        if frame is None or not frame.several_scans:
            return
        self.check_memory("the JPEG in several scans", frame.width, frame.height, _COEFFICIENT_BYTES)
        # In coded data 0xFF is followed by 0 or a restart: outside of segments this is a scan's beginning.
        scans = data.count(b"\xff\xda")
        cost = frame.width * frame.height * scans * (_ARITHMETIC_TIMES if frame.arithmetic else 1)
        if cost > self.max_scan_pixels:
            raise ImageError(
                "the JPEG's scans would take too long",
                got=f"{frame.width} x {frame.height} pixels, {scans} scans"
                + (f", arithmetic-coded: {_ARITHMETIC_TIMES} times as slow" if frame.arithmetic else ""),
                expected=f"at most {self.max_scan_pixels} pixels in all scans together",
                hint="save it as a baseline JPEG, or raise max_scan_pixels",
            )

    def check_memory(self, what: str, width: int, height: int, pixel_bytes: int) -> None:
        """Refuses an image whose decoder would take more than `max_memory`.

        Args:
            what: The image, for the message.
            width: Of the whole canvas, in pixels.
            height: The same.
            pixel_bytes: That the decoder takes for each.

        Raises:
            ImageError: It would.
        """
        if width * height * pixel_bytes > self.max_memory:
            raise ImageError(
                f"{what} would take too much memory",
                got=f"{width} x {height} pixels, {pixel_bytes} bytes each while it is decoded",
                expected=f"at most {self.max_memory} bytes",
                hint="make it smaller, or raise max_memory",
            )

    def check_dimensions(self, width: int, height: int, encoded: int) -> None:
        """The second check, of what the header says.

        Raises:
            ImageError: No pixels, more than `max_pixels`, or more than the file's bytes can hold.
        """
        with native_errors():
            _native.check_dimensions(width, height, encoded, native_limits(self))


@dataclass(frozen=True)
class _Frame:
    """What a JPEG's header says up to its first scan."""

    width: int
    height: int
    arithmetic: bool
    several_scans: bool


def _jpeg_frame(data: bytes) -> _Frame | None:
    """None where there is no frame, for the decoder to refuse."""
    at, frame, components = 2, None, 0
    while at + 10 <= len(data):
        marker = data[at + 1]
        if data[at] != _MARK:
            at += 1  # libjpeg passes over what stands between segments
        elif marker == _MARK or marker in _ALONE:
            at += 1 if marker == _MARK else 2
        elif marker == _SCAN:
            # Whose first scan holds all components is decoded as it comes, unless it is progressive.
            return frame and replace(frame, several_scans=frame.several_scans or data[at + 4] < components)
        else:
            if marker in _FRAMES:
                height, width = (int.from_bytes(data[at + offset : at + offset + 2], "big") for offset in (5, 7))
                frame, components = _Frame(width, height, marker in _ARITHMETIC, marker in _PROGRESSIVE), data[at + 9]
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return frame


@functools.lru_cache(maxsize=16)
def native_limits(limits: DecodeLimits) -> _native.DecodeLimits:
    """The same for the native core."""
    return _native.DecodeLimits(limits.max_bytes, limits.max_pixels, limits.max_ratio)


@contextmanager
def native_errors() -> Iterator[None]:
    """Raises the errors of the native core as the package's own."""
    try:
        yield
    except _native.NativeImageError as error:
        raise image_error(*error.args) from None
    except MemoryError as error:
        raise ImageError("not enough memory for the image", hint="lower the limits") from error


def image_error(what: str, got: str, expected: str, hint: str) -> ImageError:
    """A failure of the native core, which knows no None."""
    return ImageError(what, got=got or None, expected=expected or None, hint=hint or None)


DEFAULT_LIMITS = DecodeLimits()
