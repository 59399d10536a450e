"""Images that the CPU decodes and a GPU resizes, crops and normalises, by the plan of the native core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vitrify import _native
from vitrify.errors import ImageError
from vitrify.pixels.limits import DEFAULT_LIMITS, DecodeLimits, image_error, native_limits
from vitrify.pixels.preprocess import native_spec
from vitrify.spec import Preprocess

StoredImage: TypeAlias = _native.StoredImage
"""An image whose header was read: width and height as stored, and EXIF's orientation, 1 to 8."""

Window: TypeAlias = _native.Window
"""The part of a stored image that its crop is made of, and where it has to lie among the batch's pixels."""

KERNEL_SOURCES: dict[str, str] = dict(_native.kernel_sources)
"""The CUDA sources that a plan is made for, by file name: `preprocess.cu` and what it includes."""

TILE: tuple[int, int] = _native.tile
"""Width and height of the part of a crop that a block of threads makes."""


class Decoders:
    """Threads of the native core that open and decode the images of a batch, without Python's lock.

    Any number of Python threads may use them at once.

    Args:
        threads: How many, the caller's included.
    """

    def __init__(self, threads: int) -> None:
        self._workers = _native.Workers(threads)

    def open(
        self,
        sources: Sequence[bytes | npt.NDArray[np.uint8]],
        spec: Preprocess,
        *,
        limits: DecodeLimits = DEFAULT_LIMITS,
    ) -> list[StoredImage | ImageError]:
        """Reads the headers.

        Args:
            sources: Encoded bytes that the native core decodes, or `[H, W, 3]` uint8 RGB, which has to stay as it is.
            spec: Of the resize, which refuses some sizes.
            limits: What an encoded image may ask for.

        Returns:
            For each, an image that can be decoded once, or why not.
        """
        opened = self._workers.open(list(sources), native_spec(spec), native_limits(limits))
        return [image_error(*one) if isinstance(one, tuple | list) else one for one in opened]

    def decode(
        self, images: Sequence[StoredImage], windows: Sequence[Window], memory: npt.NDArray[np.uint8]
    ) -> list[ImageError | None]:
        """Writes each image's window, as it is stored, where the window says.

        Args:
            images: What `open` gave; each once.
            windows: What `BatchPlan.fill` gave for them.
            memory: `[bytes]` uint8, of `BatchPlan.pixel_bytes` or more.

        Returns:
            None for each image, or what is wrong with it; its window then holds anything.
        """
        failures = self._workers.decode(list(images), list(windows), memory)
        return [image_error(*failure) if failure else None for failure in failures]


class BatchPlan:
    """What the kernel is told of a batch: a job for each image, and the tables of weights that the jobs refer to.

    Args:
        spec: How images are prepared.
    """

    def __init__(self, spec: Preprocess) -> None:
        self._spec = native_spec(spec)
        self._plan = _native.Plan()

    def fill(self, images: Sequence[tuple[int, int, int]]) -> list[Window]:
        """Plans another batch.

        Args:
            images: Width and height as stored, and EXIF's orientation, 1 to 8.

        Returns:
            For each, the window that has to be in memory.
        """
        return self._plan.fill(list(images), self._spec)

    @property
    def pixel_bytes(self) -> int:
        """Bytes that all windows take, one behind the other."""
        return self._plan.pixel_bytes

    @property
    def jobs(self) -> bytes:
        """A `Job` of cpp/src/cuda/job.hpp for each image."""
        return self._plan.jobs

    @property
    def numbers(self) -> bytes:
        """The tables, int32."""
        return self._plan.numbers


def value_table(spec: Preprocess) -> npt.NDArray[np.float32]:
    """What each channel's 256 values become, `[3, 256]` float32, by the native core's operations."""
    return np.frombuffer(_native.normalised(native_spec(spec)), np.float32).reshape(3, 256)
