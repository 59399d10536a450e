"""Resizing and cropping with the geometry of torchvision and timm, on Pillow's antialiased filters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrify.spec import Interpolation, Preprocess

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resize(
    rgb: npt.NDArray[np.uint8], size: tuple[int, int], interpolation: Interpolation = "bicubic"
) -> npt.NDArray[np.uint8]:
    """Resizes with antialiasing, as `PIL.Image.resize` does.

    Args:
        rgb: `[H, W, 3]` uint8.
        size: `(width, height)` in pixels, Pillow's order.
        interpolation: One of Pillow's filters.

    Returns:
        `[height, width, 3]` uint8.
    """
    if (rgb.shape[1], rgb.shape[0]) == size:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size, _FILTERS[interpolation]))


def resized_size(width: int, height: int, spec: Preprocess) -> tuple[int, int]:
    """The `(width, height)` that an image is resized to before the crop, with each library's own rounding."""
    box_width, box_height = spec.resize_width, spec.resize_height
    if spec.resize_rule == "squash":
        return box_width, box_height
    if spec.resize_rule == "shortest" and box_width == box_height:
        # torchvision.transforms.functional._compute_resized_output_size truncates the longer side.
        if width <= height:
            return box_width, max(1, int(box_width * height / width))
        return max(1, int(box_height * width / height)), box_height
    # timm.data.transforms.ResizeKeepRatio rounds both sides.
    pick = max if spec.resize_rule == "longest" else min
    ratio = pick(width / box_width, height / box_height)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def centre_crop(rgb: npt.NDArray[np.uint8], spec: Preprocess) -> npt.NDArray[np.uint8]:
    """Cuts the centre of the spec's crop size out, padded with its fill where the image is smaller.

    The rounding is `torchvision.transforms.functional.center_crop`'s: padding puts the odd pixel after, cropping rounds
    the offset half to even.

    Args:
        rgb: `[H, W, 3]` uint8.
        spec: Gives `crop_height`, `crop_width` and `fill`.

    Returns:
        `[crop_height, crop_width, 3]` uint8.
    """
    missing_rows = max(0, spec.crop_height - rgb.shape[0])
    missing_columns = max(0, spec.crop_width - rgb.shape[1])
    if missing_rows or missing_columns:
        padded = np.empty((rgb.shape[0] + missing_rows, rgb.shape[1] + missing_columns, 3), np.uint8)
        padded[:] = spec.fill
        top, left = missing_rows // 2, missing_columns // 2
        padded[top : top + rgb.shape[0], left : left + rgb.shape[1]] = rgb
        rgb = padded
    top = round((rgb.shape[0] - spec.crop_height) / 2)
    left = round((rgb.shape[1] - spec.crop_width) / 2)
    return rgb[top : top + spec.crop_height, left : left + spec.crop_width]
