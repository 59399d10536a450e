"""Images that are decoded once, and kept as they are cropped: a quarter of the memory of their tensors."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from vitrify.pixels import ImageSource, preprocess
from vitrify.pixels.batches import value_table
from vitrify.spec import Preprocess

CROP_BYTES = 1 << 30
"""1 GiB: 7,133 images of 224x224."""


class Crops:
    """Gives images' tensors, bit for bit those of `preprocess`, and decodes an image again only where it found no room.

    What is normalised has 8 bits, so that a crop is kept in 8 bits and looked up in the table of its 256 values.

    Args:
        spec: How images are prepared.
        limit_bytes: Of all that is kept. What comes first stays: images are gone through in the same order each time,
            where throwing out the oldest would throw out what is needed next.
    """

    def __init__(self, spec: Preprocess, *, limit_bytes: int = CROP_BYTES) -> None:
        self._spec, self._left = spec, limit_bytes
        self._values = value_table(spec)
        self._kept: dict[Hashable, npt.NDArray[np.uint8]] = {}

    def tensors(self, images: Sequence[ImageSource]) -> npt.NDArray[np.float32]:
        """Prepares a batch.

        Args:
            images: Objects that stay as they are while this is used.

        Returns:
            `[B, 3, crop_height, crop_width]` float32 NCHW RGB.

        Raises:
            ImageError: One of the images cannot be read; the message names it.
        """
        names = [identity(image) for image in images]
        missing = [n for n, name in enumerate(names) if name not in self._kept]
        prepared = preprocess([images[n] for n in missing], self._spec)
        if len(missing) == len(images):
            batch = prepared
        else:
            batch = np.empty((len(images), *prepared.shape[1:]), np.float32)
            batch[missing] = prepared
        for n, name in enumerate(names):
            if n in missing:
                self._keep(name, batch[n])
            else:
                for channel, values, crop in zip(batch[n], self._values, self._kept[name], strict=True):
                    np.take(values, crop, out=channel, mode="clip")
        return batch

    def _keep(self, name: Hashable, tensor: npt.NDArray[np.float32]) -> None:
        if tensor.size > self._left or name in self._kept:
            return
        first, last = (self._values[:, index, None, None] for index in (0, 255))
        crop = np.rint((tensor - first) * (255 / (last - first))).clip(0, 255).astype(np.uint8)
        back = np.stack([values[channel] for values, channel in zip(self._values, crop, strict=True)])
        if np.array_equal(back.view(np.uint32), tensor.view(np.uint32)):  # else it is decoded again
            self._kept[name] = crop
            self._left -= crop.size


def identity(image: ImageSource) -> Hashable:
    """What two images have in common that are the same: the file, or the object."""
    return os.path.realpath(image) if isinstance(image, str | os.PathLike) else id(image)
