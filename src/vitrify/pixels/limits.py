"""What an encoded image may ask for, checked before memory is taken for its pixels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from vitrify import _native
from vitrify.errors import ImageError, OptionError

PILLOW_BYTES = 22
"""For each pixel while Pillow decodes: measured with AVIF in 4:4:4; a TIFF of one deflated strip takes 18."""


@dataclass(frozen=True, kw_only=True)
class DecodeLimits:
    """Limits for images from sources that are not trusted; the defaults let every ordinary image through.

    C++ has the same, with the same defaults. Whatever they say, no side may be longer than a million pixels, and no
    progressive JPEG may have over 100 scans.
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
        with native_errors():
            _native.check_memory(what, width, height, pixel_bytes, native_limits(self))

    def check_dimensions(self, width: int, height: int, encoded: int) -> None:
        """The second check, of what the header says.

        Raises:
            ImageError: No pixels, more than `max_pixels`, or more than the file's bytes can hold.
        """
        with native_errors():
            _native.check_dimensions(width, height, encoded, native_limits(self))


@functools.lru_cache(maxsize=16)
def native_limits(limits: DecodeLimits) -> _native.DecodeLimits:
    """The same for the native core."""
    return _native.DecodeLimits(**asdict(limits))


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
