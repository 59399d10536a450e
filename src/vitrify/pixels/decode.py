"""Encoded bytes to RGB pixels."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from vitrify.errors import ImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What an image folder is searched for, without regard to case."""

MAX_PIXELS = 178_956_970
"""Pillow's own threshold (`PIL.Image.MAX_IMAGE_PIXELS`, a 0.25 GB image); above it nothing is allocated."""

_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decodes the first frame of an encoded image to the pixels that timm and torchvision train on.

    The result is `PIL.ImageOps.exif_transpose(PIL.Image.open(f)).convert("RGB")`: EXIF orientation is applied, alpha is
    dropped without blending, CMYK and palettes are converted. The one difference: 16-bit greyscale is reduced to its
    high byte, where Pillow's conversion would clip it to white.

    Args:
        data: JPEG, PNG, WebP, BMP, or any other format that Pillow reads.
        max_pixels: Larger images are refused before memory is taken for them.

    Returns:
        `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: No image, a truncated or damaged one, or one of too many pixels.
    """
    try:
        with warnings.catch_warnings():
            # The limit is checked here, exactly, and metadata that is damaged does not spoil the pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > max_pixels:
                    raise ImageError(
                        "the image has too many pixels",
                        got=f"{image.width} x {image.height}",
                        expected=f"at most {max_pixels:,} pixels",
                        hint="scale it down, or raise max_pixels if the source is trusted",
                    )
                return _rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            "the image has too many pixels", got=error, expected=f"at most {max_pixels:,} pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError("not an image", got=_beginning(data), expected="JPEG, PNG, WebP or BMP") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError, OverflowError) as error:
        # What Pillow's plugins raise on damaged files is not documented; these are what their sources raise.
        raise ImageError(
            "the image is damaged or truncated", got=error, hint="open it in a viewer, or replace it"
        ) from error


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _SIXTEEN_BIT_MODES:
        high_byte = (np.asarray(upright).astype(np.int32).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(high_byte[:, :, None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def _beginning(data: bytes) -> str:
    return f"{len(data)} bytes beginning with {data[:16]!r}" if data else "an empty file"
