"""Images of any kind to the network's input tensor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vitrify.errors import ImageError
from vitrify.pixels.decode import decode
from vitrify.pixels.resize import centre_crop, resize, resized_size
from vitrify.spec import Preprocess

ImageSource: TypeAlias = bytes | str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
"""Encoded bytes, a path, a PIL image, or `[H, W, 3]` uint8 RGB."""


def preprocess(
    images: Sequence[ImageSource], spec: Preprocess, *, threads: int | None = None
) -> npt.NDArray[np.float32]:
    """Decodes, resizes, crops and normalises a batch.

    Args:
        images: What to prepare.
        spec: How.
        threads: Images prepared at once; by default one a core.

    Returns:
        `[B, 3, crop_height, crop_width]` float32 NCHW RGB.

    Raises:
        ImageError: One of the images cannot be read; the message names it.
    """
    batch = np.empty((len(images), 3, spec.crop_height, spec.crop_width), np.float32)

    def prepare(index: int) -> None:
        normalise(crop_from_image(images[index], spec), spec, batch[index])

    workers = min(len(images), threads or os.cpu_count() or 1)
    if workers <= 1:
        for index in range(len(images)):
            prepare(index)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(prepare, range(len(images))))
    return batch


def crop_from_image(image: ImageSource, spec: Preprocess) -> npt.NDArray[np.uint8]:
    """Decodes, resizes and crops one image to `[crop_height, crop_width, 3]` uint8 RGB.

    Raises:
        ImageError: It cannot be read; the message names its path where there is one.
    """
    rgb = read_rgb(image)
    size = resized_size(rgb.shape[1], rgb.shape[0], spec)
    return centre_crop(resize(rgb, size, spec.interpolation), spec)


def normalise(rgb: npt.NDArray[np.uint8], spec: Preprocess, out: npt.NDArray[np.float32]) -> None:
    """Writes `(rgb / 255 - mean) / std` in float32, the order of torchvision's ToTensor and Normalize.

    Args:
        rgb: `[H, W, 3]` uint8.
        spec: Gives `mean` and `std`.
        out: `[3, H, W]` float32, overwritten.
    """
    np.divide(rgb.transpose(2, 0, 1), np.float32(255), out=out, dtype=np.float32)
    out -= np.asarray(spec.mean, np.float32)[:, None, None]
    out /= np.asarray(spec.std, np.float32)[:, None, None]


def read_rgb(image: ImageSource) -> npt.NDArray[np.uint8]:
    """The pixels of an image of any supported kind, `[H, W, 3]` uint8 RGB.

    Raises:
        ImageError: It cannot be read, or an array is not `[H, W, 3]` uint8.
    """
    if isinstance(image, bytes):
        return decode(image)
    if isinstance(image, Image.Image):
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(
                "not an RGB image array",
                got=f"{list(image.shape)} {image.dtype}",
                expected="[H, W, 3] uint8",
                hint="pass RGB pixels, or the encoded file's bytes",
            )
        return image
    return _read_path(Path(image))


def _read_path(path: Path) -> npt.NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise ImageError(f"{path} is a directory", expected="an image file") from error
    except OSError as error:
        raise ImageError(f"cannot read {path}", got=error.strerror or error) from error
    try:
        return decode(data)
    except ImageError as error:
        raise ImageError(f"{path}: {error.what}", got=error.got, expected=error.expected, hint=error.hint) from error
