"""Resizing as Pillow does it, to the last bit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrify import _native
from vitrify.errors import ImageError, OptionError
from vitrify.spec import Interpolation


def resize(
    rgb: npt.NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation = "bicubic"
) -> npt.NDArray[np.uint8]:
    """Resizes with antialiasing; the bytes of Pillow 13's `Image.resize`.

    Args:
        rgb: `[H, W, 3]` uint8.
        size: `(width, height)` in pixels, Pillow's order.
        interpolation: One of Pillow's filters.

    Returns:
        `[height, width, 3]` uint8.

    Raises:
        ImageError: `rgb` is no such array.
        OptionError: A size below 1.
    """
    if min(size) < 1:
        raise OptionError("an image cannot be resized to nothing", got=size, expected="at least 1 x 1")
    return _native.resize(checked_rgb(rgb), *size, _native.Interpolation[interpolation])


def checked_rgb(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A contiguous RGB array, or an error.

    Raises:
        ImageError: Not `[H, W, 3]` uint8, or without pixels.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ImageError(
            "not an RGB image array",
            got=f"{list(rgb.shape)} {rgb.dtype}",
            expected="[H, W, 3] uint8",
            hint="pass RGB pixels, or the encoded file's bytes",
        )
    return np.ascontiguousarray(rgb)
