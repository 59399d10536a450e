"""Encoded bytes to RGB pixels."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels.limits import DEFAULT_LIMITS, PILLOW_BYTES, DecodeLimits, native_errors, native_limits

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What an image folder is searched for, without regard to case."""

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""What Pillow may take a file for, whatever its name: its other plugins run Ghostscript, or are hardly looked after."""

_EXPECTED = "JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF"

_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def decode(data: bytes, *, limits: DecodeLimits = DEFAULT_LIMITS) -> npt.NDArray[np.uint8]:
    """Decodes the first frame of an encoded image to the pixels that timm and torchvision train on.

    The result is `PIL.ImageOps.exif_transpose(PIL.Image.open(f)).convert("RGB")`: EXIF orientation is applied, alpha is
    dropped without blending, CMYK and palettes are converted. Two differences: 16-bit greyscale is reduced to its high
    byte, where Pillow's conversion would clip it to white, and EXIF that cannot be read counts as none.

    JPEG, PNG, WebP, BMP and GIF are decoded by the native core (the first three where it was built with their
    libraries), TIFF and AVIF by Pillow.

    Args:
        data: JPEG, PNG, WebP, BMP, GIF, TIFF or AVIF.
        limits: What the file may ask for; checked before memory is taken for its pixels.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: No image, a truncated or damaged one, or one beyond the limits.
    """
    if _native.decodable_format(data):
        with native_errors():
            return _native.decode(data, native_limits(limits))
    return _decode_with_pillow(data, limits)


def _decode_with_pillow(data: bytes, limits: DecodeLimits) -> npt.NDArray[np.uint8]:
    limits.check_bytes(len(data))
    try:
        with warnings.catch_warnings():
            # The limits are checked here, exactly, and metadata that is damaged does not spoil the pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_PILLOW_FORMATS) as image:
                limits.check_dimensions(image.width, image.height, len(data))
                limits.check_memory("the image", image.width, image.height, PILLOW_BYTES)
                image.load()  # the first frame alone
                return rgb_from_pillow(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        # Pillow's own guard, at twice its threshold, which only a larger `max_pixels` lets an image reach.
        raise ImageError("the image has too many pixels for Pillow", got=error) from error
    except UnidentifiedImageError as error:
        raise ImageError("not an image", got=_beginning(data), expected=_EXPECTED) from error
    except Exception as error:  # what Pillow's plugins raise is documented nowhere: it is this image's error
        raise ImageError(
            "the image is damaged or truncated",
            got=f"{type(error).__name__}: {error}",
            hint="open it in a viewer, or replace it",
        ) from error


def rgb_from_pillow(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A Pillow image's pixels, upright, `[H, W, 3]` uint8 RGB."""
    with contextlib.suppress(Exception):
        image = ImageOps.exif_transpose(image)  # EXIF that cannot be read turns nothing
    if image.mode in _SIXTEEN_BIT_MODES:
        high_byte = (np.asarray(image).astype(np.int32).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(high_byte[:, :, None], 3, axis=2)
    return np.asarray(image.convert("RGB"))


def _beginning(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:16]!r}" if data else "an empty file"
